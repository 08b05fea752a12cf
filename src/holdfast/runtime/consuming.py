"""Consuming: claim jobs as far as there is room, have them run, and say what became of them.

Knows no workflow. What a lost worker held comes again; what this one settles is final.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from holdfast.clock import Clock
from holdfast.codec import decode_call
from holdfast.errors import CodecError, DecodeError, StoreUnavailable
from holdfast.ids import JobId, WorkerId
from holdfast.logs import get_logger
from holdfast.model.job import (
    Cancelled,
    ClaimedJob,
    ClaimedJobs,
    Done,
    Failed,
    Job,
    Outcome,
    Reason,
    Returned,
    Settlement,
)
from holdfast.ports import Beat, Broker
from holdfast.retry import RetryPolicy, jitter_chance
from holdfast.runtime import messages
from holdfast.runtime.background import Background
from holdfast.runtime.chords import OWN
from holdfast.runtime.concluding import LOSSES, cancelled, conclude, refused
from holdfast.runtime.counting import Counts
from holdfast.runtime.current import CurrentJob, Running
from holdfast.runtime.early import EarlyJobs
from holdfast.runtime.executor import Attempt, Executor, Gave, Raised
from holdfast.runtime.failing import log_failure
from holdfast.runtime.following import following
from holdfast.runtime.gathering import Batch, Gathering, Member
from holdfast.runtime.hooks import Hooks
from holdfast.runtime.messages import Message
from holdfast.runtime.own import OwnJobs
from holdfast.runtime.patience import patiently
from holdfast.runtime.reporting import Reporter
from holdfast.runtime.settling import Settler
from holdfast.runtime.sharing import Shares
from holdfast.runtime.strangers import Strangers, why_unknown
from holdfast.task import ACTIONS

log = get_logger("holdfast.worker")

HELD_LIMIT = 1000
"""Jobs held at once, running or about to."""
AHEAD = 0.1
"""Jobs are claimed ahead of their turn for so many seconds of work, at the pace of those before."""
MEASURED = 0.05
"""Seconds over which the pace is measured."""
PATIENCE = 2.0
"""Jobs that have waited here for so many seconds go back, if there are other workers: these are longer than those before."""
ALONE_PAUSE = 1.0
"""Seconds until a job comes again that may have killed its workers, where another such one runs."""
ASK_PAUSE = 0.05
"""Seconds after another process has written until it is asked who wants the end of a job that runs here."""
IDLE_POLL = 2.0
"""Seconds between two looks for jobs by a worker that is told of them."""


@dataclass(slots=True, eq=False)
class _Held:
    """A job in hand."""

    job: ClaimedJob
    message: Message
    by: Attempt | Batch
    """What runs it: an attempt of its own, or a batch."""
    since: float = field(default_factory=time.monotonic)

    @property
    def begun(self) -> bool:
        """Whether it has made its first step."""
        return self.by.begun if isinstance(self.by, Batch) else self.by.task is not None

    @property
    def gathers(self) -> bool:
        """Whether it waits for others, with which it is to run."""
        return isinstance(self.by, Batch) and self.by.attempt is None


class Consumer:
    """The jobs of one worker."""

    def __init__(
        self,
        worker: WorkerId,
        *,
        broker: Broker,
        executor: Executor,
        clock: Clock,
        queues: Sequence[str],
        poll: float,
        policy: RetryPolicy,
        hooks: Hooks | None = None,
        counts: Counts | None = None,
        weights: Mapping[str, int] | None = None,
        prefetch: int | None = None,
        unknown_patience: float = 0.0,
    ) -> None:
        self.finished = 0
        """How many attempts have come to an end here."""
        self._worker = worker
        self._broker = broker
        self._executor = executor
        self._clock = clock
        self._queues = queues
        self._poll = poll
        self._policy = policy
        """Of tasks that were defined without one."""
        self._hooks = hooks or Hooks()
        self._counts = counts
        self._shares = Shares(weights) if weights else None
        """How queues share the room, where they have weights; else priorities and age decide alone."""
        self.left_behind = False
        """Whether the last claim got as many as it asked for, so that there may be more."""
        self.left_behind_at = 0.0
        """When one did so last, by the monotonic clock."""
        self._prefetch = HELD_LIMIT if prefetch is None else prefetch
        """How many jobs to take beyond those that can run at once, at most."""
        self._held: dict[JobId, _Held] = {}
        self._gathering = Gathering(
            executor,
            begin=(lambda job: self._hooks.begin(_current(job))) if self._hooks.before else None,
            ended=self._ended,
        )
        self._look = asyncio.Event()
        self._napping = False
        self._ending = False
        self._waits = False
        """Whether it is told of jobs that come."""
        self._crowded = False
        """Whether there was no room for more at the last look."""
        self._background = Background()
        self._settler = Settler(
            worker,
            broker=broker,
            clock=clock,
            background=self._background,
            counts=counts,
            queues=queues,
            wrote=self._wrote,
        )
        self._early = EarlyJobs(self._settler.write_early, clock=clock)
        self._reporter = Reporter(worker, broker=broker, background=self._background)
        self._strangers = Strangers(unknown_patience)
        self._own = OwnJobs(broker, clock=clock, background=self._background, settle=self._settler.put)
        self._asking = False
        self._ask_again = False
        """Somebody asked while the store was asked; its answer may be older than what he means."""
        self._will_ask = False
        """It is about to be asked, once for all that was written meanwhile."""
        self._asked_early = False
        """Somebody asked since jobs were claimed last; these may not have been in hand then."""
        self._claimed_at = -AHEAD
        """When jobs were last asked for, by the monotonic clock."""
        self._suspect: JobId | None = None
        """The last job that was taken although worker after worker was lost with it."""
        self._pace = 0.0
        """Jobs a second that came to an end here, as of late."""
        self._measured = (time.monotonic(), 0)

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for as long as the worker has its lease."""
        return [self.claim(), self._settler.run()]

    @property
    def busy(self) -> bool:
        """Whether it holds a job, or something is to be written."""
        return bool(self._held or self._settler.busy or self._early.running)

    @property
    def quiet(self) -> bool:
        """Whether nothing happens here until time passes or somebody calls `look`."""
        return self._napping and not self._look.is_set() and not self.busy and not self._background.busy

    @property
    def held(self) -> int:
        """How many jobs it holds, running or about to."""
        return len(self._held)

    def look(self, *_: str) -> None:
        """There may be jobs to claim."""
        self._look.set()

    def stirred(self) -> None:
        """Another process has written: there may be jobs to claim, or somebody may have asked for the end of one."""
        self.look()
        if self._held and not self._will_ask:
            self._will_ask = True
            asyncio.get_running_loop().call_later(ASK_PAUSE, self._ask_for_all)

    def _ask_for_all(self) -> None:
        self._will_ask = False
        self.ask()

    def _wrote(self, group: Sequence[Settlement]) -> None:
        """Look for jobs again, unless nothing can have come of these outcomes, and of others this worker is told."""
        if (
            self._crowded
            or self.left_behind
            or not self._waits
            or not self._broker.home.traits.notifies
            or not all(_is_final(each) for each in group)
        ):
            self.look()

    # --- claiming

    async def claim(self) -> None:
        """Claim what there is room for, until `drain` is called."""
        while not self._ending:
            self._look.clear()
            room, pause = self._room()
            self._crowded = room <= 0
            if self._crowded:
                await self._nap(pause, None)
                continue
            self._claimed_at = time.monotonic()
            self._asked_early = False
            claimed = await self._claim_shared(room) if self._shares else await self._claim(self._queues, room)
            if self._counts is not None:
                self._counts.claimed("job", len(claimed.jobs))
            if self._ending:
                self._give_back(claimed.jobs)
                return
            for job in claimed.jobs:
                if job.gate is None:
                    self._take(job)
            await self._admit([job for job in claimed.jobs if job.gate is not None])
            if self._asked_early:
                self.ask()
            self.left_behind = len(claimed.jobs) >= room
            if self.left_behind:
                self.left_behind_at = time.monotonic()
                await self._say(waits=False)
                await asyncio.sleep(0)
                continue
            if not self._waits:
                # Once more after saying so: what was sent before that was not announced.
                await self._say(waits=True)
                continue
            await self._nap(IDLE_POLL if self._broker.home.traits.notifies else self._poll, claimed.next_due)

    async def _claim(self, queues: Sequence[str], room: int) -> ClaimedJobs:
        return await patiently(
            lambda: self._broker.claim(self._worker, queues=queues, room=room, now=self._clock.now())
        )

    async def _claim_shared(self, room: int) -> ClaimedJobs:
        """Ask those queues whose turn it is, and all of them for what that leaves of the room."""
        shares = self._shares
        assert shares is not None
        jobs: list[ClaimedJob] = []
        for queue, wanted in shares.plan(room, time.monotonic()).items():
            given = (await self._claim([queue], wanted)).jobs
            shares.asked(queue, given=len(given), room=wanted, now=time.monotonic())
            jobs += given
        next_due = None
        if len(jobs) < room:
            rest = await self._claim(self._queues, room - len(jobs))
            jobs += rest.jobs
            next_due = rest.next_due
        shares.claimed([job.queue for job in jobs], room=room, now=time.monotonic())
        return ClaimedJobs(jobs=jobs, next_due=next_due)

    def _room(self) -> tuple[int, float]:
        """How many more jobs to claim: what can begin at once, and what will within moments at the present pace.

        With none, for how many seconds to wait before that is asked again.
        """
        now, (then, before) = time.monotonic(), self._measured
        if now - then > MEASURED:
            self._pace = (self.finished - before) / (now - then)
            self._measured = (now, self.finished)
        able = self._executor.room
        wanted = min(HELD_LIMIT, able + self._prefetch, max(able, int(self._pace * AHEAD)))
        gathering = self._gathering.waiting
        room = min(wanted - max(len(self._held) - gathering, self._executor.load), HELD_LIMIT - len(self._held))
        rest = self._claimed_at + AHEAD - now
        if 0 < room < wanted // 4 and self._held and rest > 0:
            # A claim for a few is not worth its statement while there is other work; but that may go on for hours.
            return 0, rest
        # Nobody tells when workflows leave room; to ask costs no statement.
        return room, AHEAD

    async def _admit(self, jobs: Sequence[ClaimedJob]) -> None:
        """Run those of these jobs that their gates let through; the others have gone back."""
        if not jobs:
            return
        # One that was cancelled while it was held, and then went back to its gate, is claimed again: it must not run.
        unwanted = set(await patiently(lambda: self._broker.unwanted(self._worker, [job.id for job in jobs])))
        for job in jobs:
            if job.id in unwanted:
                message = _readable(job)
                self._conclude(job, message, cancelled(message, self._clock.now()))
        wanted = [job for job in jobs if job.id not in unwanted]
        passed = set(await patiently(lambda: self._broker.admit(self._worker, wanted, now=self._clock.now())))
        through = [job for job in wanted if job.id in passed]
        if self._ending:
            self._give_back(through)
            return
        for job in through:
            self._take(job)

    async def _say(self, *, waits: bool) -> None:
        if self._waits != waits:
            await patiently(lambda: self._broker.wait_for_jobs(self._worker, waits))
            self._waits = waits

    async def _nap(self, nap: float, next_due: float | None) -> None:
        """Wait until something may have changed."""
        cancel = self._clock.call_at(next_due, self.look) if next_due is not None else None
        self._napping = True
        try:
            async with asyncio.timeout(nap):
                await self._look.wait()
        except TimeoutError:
            return
        finally:
            self._napping = False
            if cancel is not None:
                cancel()

    # --- running

    def _take(self, job: ClaimedJob) -> None:
        """Run a job, or say why it cannot."""
        held = self._held.get(job.id)
        if held is not None and held.job.claim == job.claim:
            # The store lost that claim, and gave it again: what runs already answers for it.
            return
        now = self._clock.now()
        try:
            message = messages.read(job.payload)
        except DecodeError as error:
            self._conclude(job, None, refused(None, Reason.UNREADABLE, f"the message cannot be read: {error}", now))
            return
        # One that is tried again had begun in time.
        if job.expires_at is not None and job.expires_at < now and job.attempt == 1:
            by = now - job.expires_at
            late = f"a worker came to it {f'{by:.1f} seconds' if by >= 0.05 else 'a moment'} after it had expired"
            self._conclude(job, message, refused(message, Reason.EXPIRED, late, now))
            return
        if job.losses >= LOSSES:
            lost = f"{job.losses} workers in a row were lost while they ran it"
            self._conclude(job, message, refused(message, Reason.LOST, lost, now))
            return
        if job.losses == LOSSES - 1:
            if self._suspect in self._held:
                # One of them may kill this worker, too; the others are not to be taken for it.
                self._conclude(job, message, Returned(now + ALONE_PAUSE))
                return
            self._suspect = job.id
        if job.name in OWN:
            self._own.take(job, message)
            return
        if job.name not in ACTIONS and not self._executor.stubbed(job.name):
            pause = self._strangers.pause(job, now=now)
            if pause is not None:
                self._conclude(job, message, Returned(now + pause))
                return
            self._conclude(job, message, refused(message, Reason.UNKNOWN, why_unknown(job.name), now))
            return
        try:
            arguments = decode_call(message.arguments)
        except CodecError as error:
            unreadable = f"its arguments cannot be read: {error}"
            self._conclude(job, message, refused(message, Reason.UNREADABLE, unreadable, now))
            return
        timeout = message.timeout if message.timeout is not None else _timeout_of(job.name)
        action = ACTIONS.get(job.name)
        if action is not None and action.batch is not None and not self._executor.stubbed(job.name):
            item = arguments[0][0] if arguments[0] else next(iter(arguments[1].values()), None)
            # One that may have killed its workers takes nobody with it.
            alone, member = job.id == self._suspect, Member(job, message, item)
            self._held[job.id] = _Held(job, message, self._gathering.add(member, action.batch, timeout, alone=alone))
            return
        current = _current(job)
        attempt = Attempt(
            job.name,
            None,
            arguments,
            timeout,
            partial(self._ended, job, message),
            job=Running(current, partial(self._reporter.tell, job.id)),
            before=partial(self._hooks.begin, current) if self._hooks.before else None,
        )
        if message.early:
            attempt.before = partial(self._begin_early, job, message, attempt, attempt.before)
        self._held[job.id] = _Held(job, message, attempt)
        self._executor.submit(attempt)

    async def _begin_early(
        self, job: ClaimedJob, message: Message, attempt: Attempt, before: Callable[[], Awaitable[None]] | None
    ) -> None:
        """Settle it before it runs. From here on it is nobody's: there is nothing to hand back, and nothing to ask for."""
        del self._held[job.id]
        await self._early.settle(job, message, attempt)
        if before is not None:
            await before()

    def _tell_early(self, job: ClaimedJob, told: Done | Failed | None) -> None:
        """An early job has ended; what it came to is for others to know, and not to be written."""
        if told is None:
            # It did not run. If it is this worker's still, others may have it.
            self._settler.put(job.settled(Returned(self._clock.now() + ALONE_PAUSE)))
            return
        if self._counts is not None:
            self._counts.concluded(job, told)
        if self._hooks.tells:
            self._hooks.ended(_current(job), told, self._background)

    def _ended(self, job: ClaimedJob, message: Message, ended: Gave | Raised) -> None:
        self.finished += 1
        now = self._clock.now()
        if job.id in self._early.running:
            self._tell_early(job, self._early.ended(job, ended, now=now))
            return
        action = ACTIONS.get(job.name)
        policy = self._policy if action is None or action.policy is None else action.policy
        self._held.pop(job.id, None)
        try:
            outcome = conclude(job, message, ended, policy=policy, now=now, chance=jitter_chance())
        except Exception as error:  # noqa: BLE001 - what users raise may answer nothing that it is asked
            said = f"its end cannot be judged: {type(error).__name__}: {error}"
            outcome = refused(message, Reason.FAILED, said, now)
        self._conclude(job, message, outcome)

    def _conclude(self, job: ClaimedJob, message: Message | None, outcome: Outcome) -> None:
        follow: Sequence[Job] = ()
        if message is not None and (message.then or message.otherwise):
            now = self._clock.now()
            try:
                follow = following(job, message, outcome, now=now)
            except CodecError as error:
                said = f"what follows from its end ({type(outcome).__name__.lower()}) cannot be put together: {error}"
                outcome = refused(message, Reason.FAILED, said, now)
        log_failure(job, outcome, now=self._clock.now())
        self._reporter.forget(job.id)
        self._settler.put(job.settled(outcome, follow))
        if self._counts is not None:
            self._counts.concluded(job, outcome)
        if self._hooks.tells:
            self._hooks.ended(_current(job), outcome, self._background)

    # --- letting go

    def heard(self, beat: Beat) -> None:
        """A heartbeat was answered."""
        self.ask()
        if beat.workers > 1 or not self._broker.home.traits.knows_workers:
            late = time.monotonic() - PATIENCE
            self._hand_back(
                [held for held in self._held.values() if not held.begun and not held.gathers and held.since < late]
            )

    def ask(self, *_: str) -> None:
        """Somebody may have asked for the end of a job that runs here, or is on its way to here."""
        self._asked_early = True
        if self._asking:
            self._ask_again = True
        elif self._held:
            self._asking = True
            self._background.begin(self._drop_unwanted())

    async def _drop_unwanted(self) -> None:
        try:
            asked = dict(self._held)
            unwanted = await self._broker.unwanted(self._worker, list(asked))
        except StoreUnavailable as error:
            # The next heartbeat asks again.
            log.warning("held jobs not asked for", error=str(error))
            return
        finally:
            self._asking = False
        if self._ask_again:
            self._ask_again = False
            self.ask()
        for id in unwanted:
            held = asked[id]
            if self._held.get(id) is held:
                del self._held[id]
                self._drop(held)
                self._conclude(held.job, held.message, cancelled(held.message, self._clock.now()))

    def drain(self) -> None:
        """Claim nothing more, and hand back what has not begun."""
        self._ending = True
        self._look.set()
        self._hand_back([held for held in self._held.values() if not held.begun])

    def _hand_back(self, waiting: Sequence[_Held]) -> None:
        for held in waiting:
            self._drop(held)
            self._held.pop(held.job.id, None)
        self._give_back([held.job for held in waiting])

    def _drop(self, held: _Held) -> None:
        """Stop it, if it can be stopped."""
        if isinstance(held.by, Batch):
            self._gathering.leave(held.by, held.job.id)
        else:
            self._executor.drop(held.by)

    def _give_back(self, jobs: Sequence[ClaimedJob]) -> None:
        now = self._clock.now()
        for job in jobs:
            self._conclude(job, None, Returned(now))

    async def settled_down(self) -> None:
        """Return once nothing runs and everything is written."""
        while self.busy or self._background.busy:
            await self._executor.drained()
            await asyncio.sleep(0.005)

    def abandon_all(self) -> None:
        """The lease is lost, or given up: drop everything in memory. Others go on."""
        for held in self._held.values():
            self._drop(held)
        for attempt in self._early.abandon():
            self._executor.drop(attempt)
        self._held.clear()
        self._settler.forget_all()
        self._reporter.close()
        self._background.cancel()


def _current(job: ClaimedJob) -> CurrentJob:
    return CurrentJob(job.id, job.name, job.attempt, job.queue)


def _readable(job: ClaimedJob) -> Message | None:
    """Its message, if it can be read."""
    try:
        return messages.read(job.payload)
    except DecodeError:
        return None


def _is_final(settlement: Settlement) -> bool:
    """Whether no other job can be claimed since this one was settled, nor itself."""
    ended = isinstance(settlement.outcome, Done | Failed | Cancelled)
    return ended and not settlement.follow and settlement.gate is None


def _timeout_of(name: str) -> float | None:
    action = ACTIONS.get(name)
    return None if action is None else action.defaults.timeout
