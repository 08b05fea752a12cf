"""The intake: inboxes and sessions of all queues that are served here, out of which workers get their jobs. Settles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from holdfast.backends.servicebus.held import Held, Holdings
from holdfast.backends.servicebus.inbox import Inbox
from holdfast.backends.servicebus.ledger import Ledger
from holdfast.backends.servicebus.links import Links
from holdfast.backends.servicebus.sessions import Sessions
from holdfast.backends.servicebus.settling import Settling
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Cancelled, ClaimedJobs

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
        self._sources: dict[str, tuple[Inbox, Sessions]] = {}
        self._turn = 0

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, now: float) -> ClaimedJobs:
        """Give a worker up to `room` jobs of these queues, and have more sent for the rest of the room."""
        sources = self._of(queues)
        if not sources:
            return ClaimedJobs()
        for queue in self._served(queues):
            self._sources[queue][1].tell(now)
        # Each has its share of the room, and in turn the first pick of what others leave: none keeps the others waiting.
        self._turn += 1
        sources = sources[self._turn % len(sources) :] + sources[: self._turn % len(sources)]
        owed = min(room, sum(source.owed for source in sources if isinstance(source, Sessions)))
        found: list[Held] = []
        for most in (-(-room // len(sources)), room):
            for source in sources:
                left = room - len(found) - (owed if isinstance(source, Inbox) else 0)
                found += source.take(worker, max(0, min(most, left)))
        rest = room - len(found)
        share, alone = (-(-number // (len(sources) // 2)) for number in (rest, max(0, rest - owed)))
        for source in sources:
            source.want(alone if isinstance(source, Inbox) else share)
        return ClaimedJobs(jobs=[held.job for held in found])

    async def drop_recalled(self, queues: Sequence[str], now: float) -> Sequence[tuple[str, JobId]]:
        """End what waits here and is not wanted any more; returns (channel, job) of those to notify."""
        if self._ledger is None:
            return []
        sources = self._of(queues)
        waiting = [held for source in sources for held in source.waiting]
        recalled = await self._ledger.recalled([held.job.id for held in waiting])
        if not recalled:
            return []
        end = Cancelled(now, now + CANCELLED_KEPT)
        ended = [(held.job.settled(end), held) for held in waiting if held.job.id in recalled]
        waiters = await self._settling.end(ended)
        for source in sources:
            source.waiting = [held for held in source.waiting if not held.settled]
        return waiters

    async def close(self) -> list[Held]:
        """Receive no more, and give sessions back; what nobody had claimed of the rest."""
        sources, self._sources = list(self._sources.values()), {}
        await asyncio.gather(*[source.close() for pair in sources for source in pair])
        return [held for inbox, _ in sources for held in inbox.waiting]

    def _of(self, queues: Sequence[str]) -> list[Inbox | Sessions]:
        return [source for queue in self._served(queues) for source in self._both(queue)]

    def _served(self, queues: Sequence[str]) -> Sequence[str]:
        """The queues one by one: all that the URL names, if all are meant."""
        return list(self._links.address.queues) if "*" in queues else list(dict.fromkeys(queues))

    def _both(self, queue: str) -> tuple[Inbox, Sessions]:
        if queue not in self._sources:
            links, holdings, arrived = self._links, self._holdings, self._arrived
            entity = links.address.entity(queue)
            self._sources[queue] = (
                Inbox(links, holdings, queue=queue, entity=entity, arrived=arrived),
                Sessions(links, holdings, queue=queue, arrived=arrived),
            )
        return self._sources[queue]
