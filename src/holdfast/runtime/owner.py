"""Ownership: the instances of one worker, from their claim until they are let go. Puts the parts of the runtime together.

A turn of the machine, the state it leads to and the calls it asks for are one commit, and a call starts only after
the commit that made it. For a first call that follows from the arguments alone, that is the commit of the start.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, assert_never

from holdfast.clock import Clock
from holdfast.codec import describe, loads, traceback_in
from holdfast.engine import DropCall, GiveUpChild, PendingCall, StartCall
from holdfast.errors import CodecError, ProgramError
from holdfast.ids import InstanceId, WorkerId
from holdfast.logs import get_logger
from holdfast.model.call import CannotGoOn
from holdfast.model.instance import Claimed, Commit, Committed, DeliveryKind, Ending, Park, Release, Status
from holdfast.ports import Beat, Store
from holdfast.registry import Registry
from holdfast.retry import jitter_chance
from holdfast.runtime import joining
from holdfast.runtime.alarms import Alarms
from holdfast.runtime.announcing import Announcer
from holdfast.runtime.children import Joiner
from holdfast.runtime.claiming import Claiming
from holdfast.runtime.counting import Counts
from holdfast.runtime.dismissing import end_of, heed
from holdfast.runtime.executor import Attempt, CannotRun, Executor, Gave, Raised
from holdfast.runtime.mail import Mail, concerns
from holdfast.runtime.patience import patiently
from holdfast.runtime.programs import Programs
from holdfast.runtime.resident import Resident, awaken
from holdfast.runtime.taken import Taken
from holdfast.runtime.turns import Begun, Terms, take_turn
from holdfast.runtime.writing import Receipt, Writer, Written
from holdfast.settings import Settings

log = get_logger("holdfast.worker")

RECOVERY_LIMIT = 10
"""Takeovers in a row without a step after which an instance is taken for the cause, and parked."""
DECLINES = 12
"""How often a worker lets go of an instance that it cannot run, for others that may, before it parks it."""
DECLINED_KEPT = 10_000
"""Instances of which a worker remembers that it could not run them."""
SPILL_FACTOR = 4
"""A worker keeps so many times its concurrency in calls before it hands further ones to others."""


class Owner:
    """The instances of one worker. `ended` is told of each that ends, with its status and outcome's payload."""

    def __init__(
        self,
        worker: WorkerId,
        *,
        store: Store,
        registry: Registry,
        executor: Executor,
        clock: Clock,
        settings: Settings,
        ended: Callable[[InstanceId, Ending], bool],
        parked: Callable[[InstanceId], None] = lambda _id: None,
        forgetful: bool = False,
        counts: Counts | None = None,
    ) -> None:
        self.worker = worker
        self.executor = executor
        self.residents: dict[InstanceId, Resident] = {}
        self.other_workers = 0
        self.stirred: Callable[[], None] = lambda: None
        """Called when another process has written anything at all, to a store that knows."""
        self._store = store
        self._registry = registry
        self._clock = clock
        self._ended = ended
        self._parked = parked
        self._counts = counts
        self._forgetful = forgetful
        """For tests: read every instance back from the store after each commit, as after a crash."""
        self._draining = False
        self._declined: dict[InstanceId, int] = {}
        """How often this worker could not run an instance, and left it to others."""
        self._declining: dict[InstanceId, tuple[Claimed, str]] = {}
        """Those that are being let go of for that, each with the reason."""

        self.writer = Writer(worker, self, store=store, clock=clock, counts=counts)
        self._stir = self.writer.stir
        self.mail = Mail(
            worker, store=store, clock=clock, residents=self.residents, stir=self._stir, abandon=self.abandon
        )
        self.taken = Taken(
            worker, store=store, executor=executor, clock=clock, settle=self.writer.settle, look=self.look
        )
        self.claiming = Claiming(
            worker,
            store=store,
            clock=clock,
            settings=settings,
            executor=executor,
            residents=self.residents,
            adopt=self._adopt,
            take=self.taken.run,
            mail=self.mail.look,
            mail_looks=lambda: self.mail.looks,
            stirred=lambda: self.stirred(),
            counts=counts,
        )
        self.joiner = Joiner(
            store=store, clock=clock, stir=self._stir, abandon=self.abandon, mail=self.mail.look, look=self.look
        )
        self._announcer = Announcer(worker, store=store, mail=self.mail.look, look=self.look)
        self._alarms = Alarms(self.residents, clock=clock, ring=self._rung)
        self._programs = Programs(store=store, registry=registry)
        self._terms = Terms(
            history_steps=settings.history_steps, spills=self._spills, program_of=self._programs.of_child
        )

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        """What must run for as long as the worker has its lease."""
        return [self.claiming.claim(), self.writer.write(), self.mail.read()]

    def look(self, *_: str) -> None:
        """There may be work to claim."""
        self.claiming.look()

    def heard(self, beat: Beat) -> None:
        """A heartbeat was answered."""
        self.other_workers = max(0, beat.workers - 1)
        self.taken.ask()

    @property
    def busy(self) -> bool:
        """Whether anything is running or waits to be written."""
        return self.writer.busy or self.executor.load > 0

    @property
    def quiet(self) -> bool:
        """Whether nothing will happen until time passes or somebody else acts."""
        return self.claiming.at_rest and not (self.busy or self.mail.busy or self.joiner.busy or self._announcer.busy)

    # --- taking up

    async def _adopt(self, claimed: Sequence[Claimed]) -> None:
        broken = await self._programs.load({one.program for one in claimed})
        now = self._clock.now()
        refused: list[tuple[Claimed, str]] = []
        for one in claimed:
            if (resident := self.residents.get(one.id)) is not None:
                # It was released and claimed again before the answer to its release was read.
                resident.reclaimed = one
            elif (reason := broken.get(one.program) or self._try_to_awaken(one, now)) is not None:
                refused.append((one, reason))
        if refused:
            await self._refuse(refused, now)

    def _awaken(self, one: Claimed, now: float, *, running: dict[int, Attempt] | None = None) -> None:
        if (reason := self._try_to_awaken(one, now, running=running)) is not None:
            self._park(one, reason)

    def _try_to_awaken(self, one: Claimed, now: float, *, running: dict[int, Attempt] | None = None) -> str | None:
        """Let it go on from its journal; why that cannot be, if it can't."""
        program = self._registry.get(one.program)
        assert program is not None
        try:
            resident = awaken(one, program, now=now)
        except (CodecError, ProgramError) as error:
            return f"its state cannot be read here: {error}"
        except Exception as error:  # noqa: BLE001 - a damaged row must stop nobody else
            return f"its state cannot be read here: {type(error).__name__}: {error}"
        machine = resident.machine
        machine.pinned = not self._registry.is_current(one.name, one.program)
        if one.recoveries >= RECOVERY_LIMIT:
            if program.prompt and not resident.begun:
                # Its first call is in no row; it follows from the arguments alone, so a turn tells which it is.
                try:
                    machine.turn(now)
                except CannotGoOn as error:
                    return f"{error}, then retry the instance"
            names = ", ".join(sorted({call.name for call in machine.calls.values()})) or "its own code"
            lost = f"{one.recoveries} workers in a row were lost while they ran it ({names})"
            return f"{lost}; mend the cause, then retry it"
        self.residents[one.id] = resident
        resident.attempts = running or {}
        if machine.calls:
            self._recover_calls(resident)
        self._stir(resident)
        return None

    async def _refuse(self, refused: Sequence[tuple[Claimed, str]], now: float) -> None:
        """Instances that cannot go on here are left to others, if there are any; in the end they are parked.

        But those that were asked to end, end.
        """
        mail = await patiently(lambda: self._store.take_inbox(self.worker))
        cancels = {row.instance: row for row in mail if row.kind is DeliveryKind.CANCEL}
        others = len(await patiently(lambda: self._store.workers(now=now))) > 1
        for one, reason in refused:
            cancel = cancels.get(one.id)
            if cancel is None or not concerns(cancel, one) or not one.steps:
                if others and self._declined.get(one.id, 0) < DECLINES:
                    self._decline(one, reason, now)
                else:
                    self._park(one, reason)
                continue
            end = end_of(one, one.steps, why="cancelled", reason=reason, now=now)
            self._count(one, end.ending.status)
            log.warning("instance cancelled while parked", instance=one.id, reason=reason)
            self.writer.give_up(
                Commit(instance=one.id, steps=[end.step], close=end.ending, deliveries=end.deliveries, claim=one.claim)
            )

    def _decline(self, one: Claimed, reason: str, now: float) -> None:
        """While a deploy is under way, other workers may have the code that this one has not."""
        if len(self._declined) >= DECLINED_KEPT:
            self._declined.clear()
        times = self._declined[one.id] = self._declined.get(one.id, 0) + 1
        self._declining[one.id] = (one, reason)
        log.info("instance left to others", instance=one.id, reason=reason, times=times)
        self.claiming.hold_back()
        # Chance keeps this worker from being the one that takes it again each time.
        due = now + 2.0 ** min(times - 3, 3) * (1 + jitter_chance())
        self.writer.give_up(Commit(instance=one.id, close=Release(due_at=due), claim=one.claim))

    def _recover_calls(self, resident: Resident) -> None:
        """Start the calls found in its state again, as far as nobody else runs them and nothing yet asks for them."""
        machine = resident.machine
        calls = list(machine.calls.values())
        asked = {command.call.id for command in machine.commands if isinstance(command, StartCall)}
        for call in calls:
            if call.child is not None or call.spilled or call.due_at is not None or call.id in asked:
                continue
            if call.id in resident.attempts:
                continue
            if self._is_for_others(call):
                # Its last owner served that queue.
                machine.commands.append(StartCall(call))
            else:
                self._run(resident, call)
        if given_up := [call.id for call in calls if call.given_up and call.id not in asked]:
            self.joiner.let_go(resident, given_up)
        others = [call.id for call in calls if joining.may_be_anothers(resident.id, call)]
        if others:
            resident.children.unknown.update(others)
            self.joiner.join(resident, [id for id in others if id not in asked])

    # --- turns

    def turn(self, resident: Resident, now: float) -> Written | None:
        """Let it take its turn; None if there is nothing to write."""
        try:
            commit, commands = take_turn(resident, now, self._terms)
        except CannotGoOn as error:
            # As it was saved last, it waits until that is mended.
            self.abandon(resident, f"{error}, then retry the instance")
            return None
        if commit is not None:
            return resident, commit, commands
        if commands:
            self._begin(resident, commands)
        else:
            self._alarms.set(resident)
        return None

    def _rung(self, resident: Resident) -> None:
        """A moment has come for which it waits."""
        self.joiner.look_after(resident)
        self._stir(resident)

    def _is_for_others(self, call: PendingCall) -> bool:
        return call.options.queue is not None and not self.claiming.serves(call.options.queue)

    def _spills(self, call: PendingCall, local: int) -> bool:
        if self._is_for_others(call):
            return True
        return self.other_workers > 0 and self.executor.load + local >= SPILL_FACTOR * self.executor.room

    async def prepare(self) -> None:
        """A child's program is there before the child is."""
        await self._programs.keep()

    def announce(self, committed: Committed) -> None:
        """Tell whoever waits for what a commit did."""
        self._announcer.tell(committed, others=self.other_workers > 0)

    async def conclude(self, receipt: Receipt) -> None:
        """A group is durable: what it asked for begins, and parents hear of what has ended."""
        committed = receipt.committed
        for resident, commit, commands in receipt.written:
            self._written(resident, commit, commands, committed)
        for commit in receipt.leaving:
            if isinstance(commit.close, Release):
                declined = self._declining.pop(commit.instance, None)
                if declined is not None and commit.instance in committed.kept:
                    # Something in its inbox keeps it here.
                    self._park(*declined)
            elif isinstance(commit.close, Park):
                self._parked(commit.instance)
            elif isinstance(commit.close, Ending) and commit.instance not in committed.lost:
                self._ended(commit.instance, commit.close)
        await self.joiner.tell(receipt.commits, committed)
        await self._dismiss(receipt)
        if self._forgetful:
            await self._read_back(receipt.written)

    async def _dismiss(self, receipt: Receipt) -> None:
        """Those that were told to end and are parked end at once."""
        cancels = [
            delivery
            for commit in receipt.commits
            for delivery in commit.deliveries
            if delivery.kind is DeliveryKind.CANCEL and delivery.instance in receipt.committed.parked
        ]
        if cancels:
            await patiently(lambda: heed(self._store, cancels, now=self._clock.now()))

    def _written(self, resident: Resident, commit: Commit, commands: Sequence[Begun], committed: Committed) -> None:
        """A resident's commit is durable: what it asked for may start."""
        if resident.reclaimed is not None:
            # Whatever became of this: the store has given the instance to this worker anew.
            self.forget(resident)
            self._awaken(resident.reclaimed, self._clock.now())
            self.mail.look()
            return
        if resident.id in committed.lost:
            log.warning("instance lost", instance=resident.id, reason="another worker owns it now")
            self.forget(resident)
            self.look()
            return
        if commit.consumed:
            self.mail.spend(resident, commit.consumed)
        match commit.close:
            case None:
                pass
            case Park(reason=reason):
                self.forget(resident)
                self._say_parked(resident.claimed, reason)
                self._parked(resident.id)
                self.claiming.made_room()
                return
            case Ending() as ending:
                self.forget(resident)
                self._count(resident.claimed, ending.status)
                if ending.status is Status.FAILED:
                    tree = loads(ending.payload)
                    fields = {"instance": resident.id, "workflow": resident.claimed.name}
                    error, trace = describe(tree, limit=500), traceback_in(tree)
                    log.warning("instance failed", **fields, error=error, exception=trace)
                self._ended(resident.id, ending)
                self.claiming.made_room()
                return
            case Release(due_at=due_at) if resident.id not in committed.kept:
                self.forget(resident)
                self.claiming.made_room()
                if due_at is not None:
                    # The next claim tells for how long there is nothing to do.
                    self.look()
                return
            case Release():
                # Something arrived before it could be let go.
                self.mail.look()
        if self._forgetful:
            # Whoever reads it back starts its calls.
            commands = [command for command in commands if not isinstance(command, StartCall)]
        self._begin(resident, commands)
        if commit.starts and resident.children.unknown:
            # Only what is there by now can be looked for.
            made = {start.parent_call for start in commit.starts}
            self.joiner.join(resident, [id for id in resident.children.unknown if str(id) in made])
        self._alarms.set(resident)

    async def _read_back(self, written: Sequence[Written]) -> None:
        """Take instances from the store again, as if this worker had just come by them."""
        for resident, _, commands in written:
            if resident.gone:
                continue
            steps = await self._store.history(resident.id, after=resident.fulls[-1] - 1, limit=100_000)
            if resident.gone:
                continue
            if self.writer.is_stirred(resident.id):
                # It stays for the turn that it is to take, which may write nothing: nobody else would start its calls.
                self._begin(resident, [command for command in commands if isinstance(command, StartCall)])
                continue
            running, resident.attempts = resident.attempts, {}
            self.forget(resident)
            self._awaken(resident.claimed._replace(steps=steps), self._clock.now(), running=running)

    # --- calls

    def _begin(self, resident: Resident, commands: Sequence[Begun]) -> None:
        for command in commands:
            if isinstance(command, StartCall):
                self._run(resident, command.call)
                continue
            match command:
                case DropCall(call):
                    attempt = resident.attempts.pop(call.id, None)
                    if attempt is not None:
                        self.executor.drop(attempt)
                case GiveUpChild(call):
                    self.joiner.let_go(resident, [call.id])
                case _:
                    assert_never(command)

    def _run(self, resident: Resident, call: PendingCall) -> None:
        if self._draining or resident.gone or resident.machine.calls.get(call.id) is not call:
            return
        attempt = Attempt(
            call.name,
            call.payload,
            call.arguments,
            call.options.timeout,
            partial(self._reported, resident.id, call.id),
        )
        resident.attempts[call.id] = attempt
        self.executor.submit(attempt)

    def _reported(self, id: InstanceId, call: int, outcome: Gave | Raised) -> None:
        resident = self.residents.get(id)
        if resident is None:
            return
        resident.attempts.pop(call, None)
        machine = resident.machine
        if isinstance(outcome, Gave):
            machine.call_done(call, outcome.tree, outcome.value)
        elif isinstance(outcome.error, CannotRun):
            self.abandon(resident, f"{outcome.error}, then retry the instance")
            return
        else:
            machine.now = max(machine.now, self._clock.now())
            machine.call_failed(call, outcome.error, outcome.tree, chance=jitter_chance())
        self._stir(resident)

    # --- letting go

    def abandon(self, resident: Resident, reason: str) -> None:
        """Let go of it, and park it: it cannot go on here."""
        self.forget(resident)
        self._park(resident.claimed, reason)
        self.look()

    def _park(self, claimed: Claimed, reason: str) -> None:
        self._say_parked(claimed, reason)
        self.writer.give_up(Commit(instance=claimed.id, close=Park(reason=reason), claim=claimed.claim))

    def _say_parked(self, claimed: Claimed, reason: str) -> None:
        log.warning("instance parked", instance=claimed.id, reason=reason)
        self._count(claimed, Status.PARKED)

    def _count(self, claimed: Claimed, status: Status) -> None:
        if self._counts is not None:
            self._counts.finished(claimed.name, status)

    def forget(self, resident: Resident) -> None:
        """Let go of it: what it runs is dropped, and what comes for it is not for this worker."""
        resident.gone = True
        if self.residents.get(resident.id) is resident:
            del self.residents[resident.id]
            self.writer.forget(resident.id)
        for attempt in resident.attempts.values():
            self.executor.drop(attempt)
        resident.attempts.clear()

    def drain(self) -> None:
        """Claim and begin nothing more."""
        self._draining = True
        self.executor.waiting.clear()
        self.claiming.end()

    async def settled_down(self) -> None:
        """Return once nothing runs and everything is written."""
        while self.busy:
            await self.executor.drained()
            if self.writer.busy:
                await self.writer.wrote()

    def abandon_all(self) -> None:
        """The lease is lost, or given up: drop everything in memory. Others go on from what was committed."""
        for resident in list(self.residents.values()):
            self.forget(resident)
        self.taken.drop_all()
        self.joiner.stop()
        self.writer.forget_all()
        self._alarms.clear()
