"""The line of one session: which of its jobs is next, and what is put aside until another attempt. Waits for nobody.

A job that is tried again is noted in the session's state first, then its wake-up is sent, then its message is deferred.
Whoever has the session next finds what a crash has left of that, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple
from uuid import UUID

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.exceptions import MessageNotFoundError

from holdfast.backends.servicebus.aside import Aside, Note, error_text
from holdfast.backends.servicebus.held import Held, Holder, held_of
from holdfast.backends.servicebus.letters import wakes_at
from holdfast.backends.servicebus.session_link import SessionLink
from holdfast.model.job import Again, ClaimedJob, Gate

AT_ONCE = 0.1
"""Seconds for which a job keeps its place; one that waits longer for its next attempt gives way."""


class _WakeUp(NamedTuple):
    """A wake-up that is held, until no job that it is for is put aside any more."""

    due_at: float
    token: UUID


class Line:
    """The jobs of a session, of which one at a time is in hand. `clock` gives the moment of those who claim."""

    def __init__(self, link: SessionLink, *, queue: str, holder: Holder, clock: Callable[[], float]) -> None:
        self._link = link
        self._queue = queue
        self._holder = holder
        self._clock = clock
        self._aside = Aside({})
        self._absent: set[int] = set()
        """Those put aside whose messages are not: they are in the line, or gone."""
        self._passed = 0
        """The number of the last message that came."""
        self._wake_ups: list[_WakeUp] = []
        self._moment = 0.0
        """The latest moment that has come by the service's clock, as far as is known."""

    async def open(self) -> None:
        """Read what is put aside."""
        self._aside = Aside.read(await self._link.read())

    def now(self) -> float:
        """The moment, by whichever clock is ahead."""
        return max(self._clock(), self._moment)

    # --- what is next

    async def next(self) -> Held | None:
        """The next job: of those put aside the first that is due, else the next that comes; None if none does."""
        held = await self._due()
        while held is None:
            message = await self._link.receive()
            if message is None:
                return None
            held = await self._come(message)
        return held

    async def _due(self) -> Held | None:
        for number in self._aside.due(self.now()):
            if number in self._absent:
                continue
            try:
                message = await self._link.fetch(number)
            except MessageNotFoundError:
                if self._passed > number:
                    await self._forget(number)
                else:
                    # It was not deferred before whoever had it was lost: then it is the first in the line.
                    self._absent.add(number)
                continue
            return await self._taken(message)
        return None

    async def _come(self, message: ServiceBusReceivedMessage) -> Held | None:
        """The job of this message, or one that is before it; None if there is none yet."""
        number = self._passed = message.sequence_number or 0
        for absent in [each for each in self._absent if each < number]:
            await self._forget(absent)
        if (due_at := wakes_at(message)) is not None:
            assert isinstance(message.lock_token, UUID)
            self._wake_ups.append(_WakeUp(due_at, message.lock_token))
            self._moment = max(self._moment, due_at)
            held = await self._due()
            if held is None:
                await self.let_wake_ups_go()
            return held
        note = self._aside.get(number)
        if note is None or note.due_at <= self.now():
            return await self._taken(message)
        held = self._as_held(message)
        await self._defer(held, note.due_at)
        return None

    async def _taken(self, message: ServiceBusReceivedMessage) -> Held:
        held = self._as_held(message)
        self._absent.discard(held.number)
        held.job = await self._begun(held.number, held.job)
        return held

    async def once_more(self, before: Held) -> Held:
        """The job in hand, which has kept its place, for another claim."""
        job = before.job._replace(claim=before.job.claim + 1)
        return Held(
            before.letter,
            await self._begun(before.number, job),
            before.entity,
            before.token,
            before.lasts,
            before.number,
            self._holder,
        )

    async def _begun(self, number: int, job: ClaimedJob) -> ClaimedJob:
        """The job as its note has it. There it is written first as if this claim were lost."""
        note = self._aside.get(number)
        if note is None:
            return job
        job = job._replace(attempt=note.attempt, claim=note.claims + 1, losses=note.losses)
        await self._write(number, note._replace(claims=job.claim, losses=job.losses + 1))
        return job

    def _as_held(self, message: ServiceBusReceivedMessage) -> Held:
        held = held_of(message, queue=self._queue, entity=self._link.entity, keyed=True)
        held.job = held.job._replace(gate=Gate(self._link.id, limit=1))
        held.session = self._holder
        self._link.learn(held.lasts)
        return held

    # --- what becomes of it

    async def end(self, held: Held, settlement: str, details: Mapping[str, str] | None = None) -> None:
        """It goes, for ever or to the dead letters."""
        await self._link.settle(settlement, held.token, details)
        # It is gone, even where that cannot be noted now.
        held.settled = True
        await self._forget(held.number)

    async def put_aside(self, held: Held, again: Again) -> bool:
        """Have it tried again; False if it keeps its place until then, as that is soon."""
        job = held.job
        if not self._aside.has_room(held.number):
            fresh = {"attempt": job.attempt + 1, "claims": job.claim, "losses": 0, "error": again.error}
            await self._link.send(held.letter._replace(due_at=again.due_at, **fresh))
            await self.end(held, "completed")
            return True
        await self._write(held.number, Note(again.due_at, job.attempt + 1, job.claim, 0, error_text(again.error)))
        if again.due_at - self.now() <= AT_ONCE:
            return False
        await self._defer(held, again.due_at)
        return True

    async def give_back(self, held: Held) -> None:
        """It is the first again, and was not lost with a worker."""
        note = self._aside.get(held.number)
        if note is not None and note.losses != held.job.losses:
            await self._write(held.number, note._replace(losses=held.job.losses))

    async def let_wake_ups_go(self) -> None:
        """Remove those for which nothing is put aside any more: until then they have the session looked at after a crash."""
        for each in list(self._wake_ups):
            if not self._aside.due(each.due_at):
                await self._link.settle("completed", each.token)
                self._wake_ups.remove(each)

    async def _defer(self, held: Held, due_at: float) -> None:
        await self._link.send_wake_up(held.job, due_at)
        await self._link.settle("defered", held.token)

    async def _forget(self, number: int) -> None:
        """Its message is gone."""
        self._absent.discard(number)
        if self._aside.drop(number):
            await self._link.write(self._aside.written())

    async def _write(self, number: int, note: Note) -> None:
        self._aside.put(number, note)
        await self._link.write(self._aside.written())
