"""The intake: the inboxes of all queues that are served here, out of which workers get their jobs. Settles nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from holdfast.backends.servicebus.held import Held, Holdings
from holdfast.backends.servicebus.inbox import Inbox
from holdfast.backends.servicebus.ledger import Ledger
from holdfast.backends.servicebus.links import Links
from holdfast.backends.servicebus.settling import Settling
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Cancelled, ClaimedJobs, Settlement

CANCELLED_KEPT = 3600.0
"""Seconds for which it is known of a job that it was dropped before it began."""


class Intake:
    """What has come in and nobody has claimed yet. `arrived` is called when there is more."""

    def __init__(
        self,
        links: Links,
        holdings: Holdings,
        settling: Settling,
        ledger: Ledger | None,
        *,
        arrived: Callable[[], None],
    ) -> None:
        self._links = links
        self._holdings = holdings
        self._settling = settling
        self._ledger = ledger
        self._arrived = arrived
        self._inboxes: dict[str, Inbox] = {}

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int) -> ClaimedJobs:
        """Give a worker up to `room` jobs of these queues, and have more sent for the rest of the room."""
        inboxes = [self._inbox(queue) for queue in self._served(queues)]
        found: list[Held] = []
        for inbox in inboxes:
            found += inbox.take(worker, room - len(found))
        rest = room - len(found)
        for inbox in inboxes:
            inbox.want(-(-rest // len(inboxes)))
        return ClaimedJobs(jobs=[held.job for held in found])

    async def drop_recalled(self, queues: Sequence[str], now: float) -> Sequence[tuple[str, JobId]]:
        """End what waits here and is not wanted any more; returns (channel, job) of those to notify."""
        if self._ledger is None:
            return []
        inboxes = [self._inbox(queue) for queue in self._served(queues)]
        waiting = [held for inbox in inboxes for held in inbox.waiting]
        recalled = await self._ledger.recalled([held.job.id for held in waiting])
        if not recalled:
            return []
        end = Cancelled(now, now + CANCELLED_KEPT)
        ended = [(Settlement(held.job.id, held.job.claim, end), held) for held in waiting if held.job.id in recalled]
        waiters = await self._settling.end(ended)
        for inbox in inboxes:
            inbox.waiting = [held for held in inbox.waiting if not held.settled]
        return waiters

    async def close(self) -> list[Held]:
        """Receive no more; what nobody had claimed."""
        inboxes, self._inboxes = list(self._inboxes.values()), {}
        await asyncio.gather(*[inbox.close() for inbox in inboxes])
        return [held for inbox in inboxes for held in inbox.waiting]

    def _served(self, queues: Sequence[str]) -> Sequence[str]:
        """The queues one by one: all that the URL names, if all are meant."""
        return list(self._links.address.queues) if "*" in queues else list(dict.fromkeys(queues))

    def _inbox(self, queue: str) -> Inbox:
        if queue not in self._inboxes:
            entity = self._links.address.entity(queue)
            self._inboxes[queue] = Inbox(self._links, self._holdings, queue=queue, entity=entity, arrived=self._arrived)
        return self._inboxes[queue]
