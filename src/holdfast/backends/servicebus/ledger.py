"""The ledger: in a store beside, which jobs were sent, how they ended, and which were recalled. Service Bus can tell none of it.

It is written before Service Bus is: a job that was accepted is in both, and an end is known before its message goes. So a
crash between costs a repetition, and no result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast.backends.servicebus.held import Held
from holdfast.backends.servicebus.letters import Letter
from holdfast.ids import JobId
from holdfast.model.job import Cancelled, CancelledJobs, Done, Failed, Job, JobView, Settlement
from holdfast.ports import ELSEWHERE, Ended, Store

PATIENCE = 30 * 86400.0
"""Seconds after its moment for which a job is expected; after that nothing is known of it any more."""


class Ledger:
    """Kept in a store that is opened and closed by others."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._results = store.results()
        self._broker = store.broker()

    async def expect(self, letters: Sequence[Letter], *, again: bool = False) -> None:
        """These will be sent. `again`: although they have ended."""
        until = max((letter.due_at for letter in letters), default=0.0) + PATIENCE
        await self._results.expect([_job(letter) for letter in letters], keep_until=until, again=again)

    async def conclude(self, settled: Sequence[tuple[Settlement, Held]]) -> Sequence[tuple[str, JobId]]:
        """Those of these that end, end so; returns (channel, job) of those to notify."""
        ended = [
            Ended(_job(held.letter), held.job.attempt, each.outcome)
            for each, held in settled
            if isinstance(each.outcome, Done | Failed | Cancelled)
        ]
        return await self._results.conclude(ended)

    async def recalled(self, ids: Sequence[JobId]) -> set[JobId]:
        """Which of these somebody has asked to end."""
        return set(await self._results.recalled(ids)) if ids else set()

    async def look(self, ids: Sequence[JobId], *, waiter: str | None) -> Sequence[JobView]:
        """What is known of these. With `waiter`, unfinished ones notify that channel when they end."""
        return await self._broker.look(ids, waiter=waiter)

    async def cancel(self, ids: Sequence[JobId], *, now: float) -> CancelledJobs:
        """Recall these: workers drop them, or stop them."""
        return await self._broker.cancel(ids, now=now, keep_until=None)

    async def report(self, progress: Mapping[JobId, bytes]) -> None:
        """Keep how far these are."""
        await self._broker.report(ELSEWHERE, progress)

    async def sweep(self, *, now: float, batch: int) -> int:
        """Remove what need not be kept any longer."""
        return await self._broker.sweep_jobs(now=now, batch=batch)


def _job(letter: Letter) -> Job:
    return Job(
        id=letter.id,
        name=letter.name,
        payload=letter.payload,
        created_at=letter.created_at,
        due_at=letter.due_at,
        queue=letter.queue,
        expires_at=letter.expires_at,
        waiter=letter.waiter,
    )
