"""What this process has locked: messages that wait here, and those that workers hold. Renews their locks; settles nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from azure.servicebus import ServiceBusReceivedMessage

from holdfast.backends.servicebus.letters import Letter, read
from holdfast.backends.servicebus.links import Links
from holdfast.errors import StoreUnavailable
from holdfast.ids import JobId, WorkerId
from holdfast.logs import get_logger
from holdfast.model.job import ClaimedJob, Settlement

log = get_logger("holdfast.servicebus")

SHORTEST, LONGEST = 1.0, 300.0
"""Seconds that a lock is taken to last, whatever the clocks say: Service Bus has no longer ones."""


class Holder(Protocol):
    """A session that is held here."""

    async def settle(self, held: Held, settlement: Settlement) -> bool:
        """Have its message settled; False if it is not ours any more."""
        ...


@dataclass(slots=True, eq=False)
class Held:
    """A locked message."""

    letter: Letter
    job: ClaimedJob
    entity: str
    token: UUID
    lasts: float
    """Seconds for which its lock lasts from each renewal on."""
    number: int = 0
    """Its place in its queue: that of an earlier message is smaller."""
    session: Holder | None = None
    """The session that it is held with, which settles it and keeps its lock; None: its lock is its own."""
    renewed: float = field(default_factory=time.monotonic)
    worker: WorkerId | None = None
    """Who has claimed it, if anybody has."""
    lost: bool = False
    copied: bool = False
    """Whether the message that follows it is sent."""
    settled: bool = False


def held_of(message: ServiceBusReceivedMessage, *, queue: str, entity: str, keyed: bool = False) -> Held:
    """A message that was just received; `keyed`: its session is that of its key."""
    letter = read(message, queue, keyed=keyed)
    deliveries = message.delivery_count or 0
    job = ClaimedJob(
        id=letter.id,
        name=letter.name,
        payload=letter.payload,
        queue=queue,
        attempt=letter.attempt,
        claim=letter.claims + deliveries + 1,
        losses=letter.losses + deliveries,
        expires_at=letter.expires_at,
    )
    assert isinstance(message.lock_token, UUID)
    return Held(letter, job, entity, message.lock_token, _lasts(message), message.sequence_number or 0)


def _lasts(message: ServiceBusReceivedMessage) -> float:
    until, since, now = message.locked_until_utc, message.enqueued_time_utc, datetime.now(UTC)
    if until is None:
        return SHORTEST
    # Where the clock there is ahead of ours, the message seems to have come from the future.
    seconds = (until - (now if since is None else max(now, since))).total_seconds()
    return min(max(seconds, SHORTEST), LONGEST)


class Holdings:
    """All that is locked here. `lost` hears of workers whose jobs are lost; it may be called from another thread."""

    def __init__(self, lost: Callable[[WorkerId], None]) -> None:
        self._lost = lost
        self._all: dict[UUID, Held] = {}
        self._jobs: dict[tuple[WorkerId, JobId], Held] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, held: Held) -> None:
        """A message came, and waits; its lock is to be renewed here."""
        self._all[held.token] = held

    def give(self, held: Held, worker: WorkerId) -> None:
        """A worker has claimed it."""
        held.worker = worker
        self._jobs[worker, held.job.id] = held

    def get(self, worker: WorkerId, id: JobId) -> Held | None:
        """The job that this worker holds, whether its lock stands or not."""
        return self._jobs.get((worker, id))

    def of(self, worker: WorkerId) -> list[Held]:
        """All that this worker holds."""
        return [held for (owner, _), held in self._jobs.items() if owner == worker]

    def forget(self, some: Iterable[Held]) -> None:
        """These are settled, or lost."""
        for held in some:
            self._all.pop(held.token, None)
            if held.worker is not None and self._jobs.get((held.worker, held.job.id)) is held:
                del self._jobs[held.worker, held.job.id]

    async def renew(self, links: Links) -> None:
        """Renew what has had a third of its time. Safe to call in another thread, with links of its event loop."""
        now = time.monotonic()
        due: dict[str, list[Held]] = {}
        for held in list(self._all.values()):
            if not held.lost and now - held.renewed > held.lasts / 3:
                due.setdefault(held.entity, []).append(held)
        for entity, some in due.items():
            try:
                lost = await links.desk(entity).renew([held.token for held in some])
            except StoreUnavailable as error:
                log.warning("locks not renewed", queue=entity, locks=len(some), error=str(error))
                self.lose([held for held in some if time.monotonic() - held.renewed > held.lasts])
                continue
            for held in some:
                held.renewed = now
            self.lose([held for held in some if held.token in lost and not held.settled])

    def lose(self, some: Sequence[Held]) -> None:
        """The locks of these are not ours any more; their workers are told."""
        if some:
            log.warning(
                "locks lost", locks=len(some), reason="they ended before they were renewed; others get the jobs"
            )
        for held in some:
            held.lost = True
        for worker in {held.worker for held in some if held.worker is not None}:
            self._lost(worker)
