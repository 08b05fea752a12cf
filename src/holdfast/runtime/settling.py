"""Settling: what became of jobs, written in groups. What comes in while one is written makes the next one.

Decides nothing but what a store takes: where that refuses an outcome, its job has failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from holdfast.clock import Clock
from holdfast.errors import LeaseLost, StoreError
from holdfast.ids import WorkerId
from holdfast.logs import get_logger
from holdfast.model.job import Again, Done, Failed, Outcome, Reason, SettledJobs, Settlement
from holdfast.ports import JOB_CHANNEL, Broker
from holdfast.runtime.announcing import news_of_endings, notify
from holdfast.runtime.background import Background
from holdfast.runtime.concluding import refused
from holdfast.runtime.counting import Counts
from holdfast.runtime.patience import patiently
from holdfast.runtime.sharing import serves

log = get_logger("holdfast.worker")

SETTLE_LIMIT = 500
"""Jobs settled in one statement."""
SETTLE_BYTES = 16_000_000
"""Outcomes beyond so many bytes wait for the next statement: a database takes only so much in one."""


class Settler:
    """Writes what became of the jobs of one worker, and tells who waits for them."""

    def __init__(
        self,
        worker: WorkerId,
        *,
        broker: Broker,
        clock: Clock,
        background: Background,
        counts: Counts | None,
        queues: Sequence[str],
        wrote: Callable[[Sequence[Settlement]], None],
    ) -> None:
        self._worker = worker
        self._broker = broker
        self._clock = clock
        self._background = background
        self._counts = counts
        self._queues = queues
        self._wrote = wrote
        """Called after each group."""
        self._settled: list[Settlement] = []
        self._wake = asyncio.Event()
        self._writing = False

    @property
    def busy(self) -> bool:
        """Whether anything is written, or waits for that."""
        return bool(self._settled or self._writing)

    def put(self, settlement: Settlement) -> None:
        """Have it written."""
        self._settled.append(settlement)
        self._wake.set()

    def forget_all(self) -> None:
        """Write nothing of what was not written yet."""
        self._settled.clear()

    async def run(self) -> None:
        """Write what is put here, for as long as this runs."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._writing = True
            while self._settled:
                group = self._next_group()
                await self._write_group(group)
                self._wrote(group)
            self._writing = False

    async def write_early(self, group: Sequence[Settlement]) -> SettledJobs:
        """Write these now, before their jobs run."""
        answer = await patiently(lambda: self._broker.settle(self._worker, group))
        self._tell_waiters(answer)
        return answer

    async def _write_group(self, group: Sequence[Settlement]) -> None:
        begin = time.monotonic()
        answer = await self._write(group)
        if self._counts is not None:
            self._counts.committed("job", len(group), time.monotonic() - begin)
            self._counts.jobs_lost.add((), len(answer.lost))
        if answer.lost:
            log.warning("jobs lost", jobs=len(answer.lost), reason="others hold them now, or they were removed")
        self._tell_waiters(answer)
        if any(not serves(self._queues, job.queue) for each in group for job in each.follow):
            # This worker looks for itself; those of other queues are told.
            self._background.begin(notify(self._broker.home, {JOB_CHANNEL: ""}))

    def _tell_waiters(self, answer: SettledJobs) -> None:
        if answer.waiters:
            self._background.begin(notify(self._broker.home, news_of_endings(answer.waiters)))

    def _next_group(self) -> list[Settlement]:
        """As many as one statement takes."""
        number, size = 0, 0
        for settlement in self._settled[:SETTLE_LIMIT]:
            size += _weight(settlement.outcome) + sum(len(job.payload) for job in settlement.follow)
            if number and size > SETTLE_BYTES:
                break
            number += 1
        group, self._settled = self._settled[:number], self._settled[number:]
        return group

    async def _write(self, group: Sequence[Settlement]) -> SettledJobs:
        """Settle these. Where the store refuses, each by itself; the job whose outcome it refuses has failed."""
        try:
            return await patiently(lambda: self._broker.settle(self._worker, group))
        except LeaseLost:
            raise
        except StoreError as error:
            if len(group) > 1:
                log.error("outcomes refused", error=str(error), hint="they are written one by one")
                answers = [await self._write([each]) for each in group]
                return SettledJobs.of(answers)
            [settlement] = group
            words = f"the store refuses what became of it: {error}"[:1000]
            words = words.encode("ascii", "replace").decode().replace("\0", "?")
            log.error("outcome refused", job=settlement.id, error=words, hint="the job is a dead letter")
            outcome = refused(None, Reason.FAILED, words, self._clock.now())
            instead = [settlement._replace(outcome=outcome, follow=())]
            return await patiently(lambda: self._broker.settle(self._worker, instead))


def _weight(outcome: Outcome) -> int:
    """How many bytes of an outcome are written."""
    match outcome:
        case Done(result):
            return len(result)
        case Again(error=error) | Failed(error=error):
            return len(error)
        case _:
            return 0
