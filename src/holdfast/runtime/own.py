"""Jobs of Holdfast's own, which a worker does itself: it joins chords, and removes the results that have served."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from holdfast.clock import Clock
from holdfast.ids import JobId
from holdfast.logs import get_logger
from holdfast.model.job import ClaimedJob, Done, Failed, Job, JobView, Reason, Returned, Settlement
from holdfast.ports import Broker
from holdfast.runtime.background import Background
from holdfast.runtime.chords import AGAIN, FORGET, NOTHING, Members, failure_jobs, join, read_own
from holdfast.runtime.concluding import refused
from holdfast.runtime.messages import Message
from holdfast.runtime.patience import patiently

log = get_logger("holdfast.worker")


class OwnJobs:
    """Those of one worker."""

    def __init__(
        self, broker: Broker, *, clock: Clock, background: Background, settle: Callable[[Settlement], None]
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._background = background
        self._settle = settle
        self._ends: defaultdict[JobId, list[tuple[ClaimedJob, int]]] = defaultdict(list)
        """By chord, the jobs that say that a member has ended. One look serves all that were there before it."""
        self._joining: set[JobId] = set()
        """The chords that are looked at now."""

    def take(self, job: ClaimedJob, message: Message) -> None:
        """Have it done."""
        self._background.begin(self._told([job], message, self._do(job, message)))

    async def _do(self, job: ClaimedJob, message: Message) -> None:
        members, number, *failure = read_own(message)
        if job.name == FORGET:
            await patiently(lambda: self._broker.purge(list(members.ends())))
            self._done(job)
        elif failure:
            self._done(job, failure_jobs(members, message, failure[0], now=self._clock.now()))
        else:
            self._ends[members.chord].append((job, number))
            if members.chord not in self._joining:
                await self._join(members, message)

    async def _join(self, members: Members, message: Message) -> None:
        self._joining.add(members.chord)
        try:
            # Those that were claimed together come together.
            await asyncio.sleep(0)
            while ends := self._ends.pop(members.chord, []):
                jobs, numbers = [job for job, _ in ends], [number for _, number in ends]
                await self._told(jobs, message, self._join_these(jobs, numbers, members, message))
        finally:
            self._joining.discard(members.chord)

    async def _join_these(
        self, jobs: Sequence[ClaimedJob], numbers: Sequence[int], members: Members, message: Message
    ) -> None:
        now = self._clock.now()
        joining = await join(members, numbers, message, look=self._look, now=now)
        for job in jobs:
            if joining.again:
                self._settle(job.settled(Returned(now + AGAIN)))
            else:
                self._done(job, joining.follow if job is jobs[-1] else ())

    async def _look(self, ids: Sequence[JobId]) -> Sequence[JobView]:
        return await patiently(lambda: self._broker.look(ids))

    def _done(self, job: ClaimedJob, follow: Sequence[Job] = ()) -> None:
        self._settle(job.settled(Done(NOTHING, self._clock.now()), follow))

    async def _told(self, jobs: Sequence[ClaimedJob], message: Message, doing: Coroutine[Any, Any, None]) -> None:
        """Do it; what fails makes these jobs dead letters."""
        try:
            await doing
        except Exception as error:  # noqa: BLE001 - decoding results may run what users wrote
            said = f"{type(error).__name__}: {error}"
            log.error("own job failed", jobs=[job.id for job in jobs], error=said)
            outcome: Failed = refused(message, Reason.FAILED, said, self._clock.now())
            for job in jobs:
                self._settle(job.settled(outcome))
