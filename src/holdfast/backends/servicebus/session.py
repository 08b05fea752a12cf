"""A session that is held here: the jobs of one key, one after the other, and all that is asked about them.

One task does all of it, as the client can do but one thing at a time over a link. A session is left when nothing comes any
more, when others want it, or when it is lost; who has lost it can settle nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import MessageLockLostError, MessageNotFoundError, SessionLockLostError

from holdfast.backends.servicebus.aside import Aside, Note, error_text
from holdfast.backends.servicebus.deaths import described
from holdfast.backends.servicebus.desk import settle
from holdfast.backends.servicebus.held import LONGEST, SHORTEST, Held, Holdings, held_of
from holdfast.backends.servicebus.letters import wake_up, wakes_at
from holdfast.backends.servicebus.links import Links
from holdfast.backends.servicebus.trouble import explained
from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.logs import get_logger
from holdfast.model.job import Again, Failed, Gate, Returned, Settlement

log = get_logger("holdfast.servicebus")

T = TypeVar("T")

LINGER = 0.1
"""Seconds for which an empty session is held."""
NO_ROOM = 0.5
"""Seconds for which a session is held for whose jobs nobody here has room."""
UNCLAIMED = 2.0
"""Seconds for which a job waits here to be claimed before its session is left."""
AT_ONCE = 0.1
"""Seconds for which a job keeps its place and its session; one that waits longer for its next attempt gives way."""
LONGEST_PLACE = 5.0
"""Seconds for which a job that is handed back until then keeps its session, at most."""
TURN = 5.0
"""Seconds after which a session is left between two jobs, if there is no room for other ones."""
REQUESTS = 9_000
"""Requests after which a session is left between two jobs: the client waits for ever after 10,000."""
LAST_REQUESTS = 9_900
"""Requests after which the lock is not renewed any more, whatever runs."""


class Shelf(Protocol):
    """Where sessions put their jobs for workers to claim, and learn whether there is room for more."""

    async def room(self, seconds: float) -> bool:
        """Whether a job is wanted within so many seconds; if so, the session sets out to receive it."""
        ...

    def received(self, *, found: bool) -> None:
        """What it had set out for has come, or has not."""
        ...

    def offer(self, held: Held) -> None:
        """A job is there to be claimed."""
        ...

    def passed_over(self) -> None:
        """The session is left as nobody here had room for its jobs."""
        ...

    def withdraw(self, held: Held) -> None:
        """It is not there any more."""
        ...

    @property
    def full(self) -> bool:
        """Whether no further session can be held."""
        ...

    def now(self) -> float:
        """The moment by the clock of those who claim."""
        ...


@dataclass(slots=True, eq=False)
class _Order:
    """A settlement that somebody waits for."""

    held: Held
    settlement: Settlement
    done: asyncio.Future[bool]


class _WakeUp(NamedTuple):
    """A wake-up that is held, until no job that it is for is put aside any more."""

    due_at: float
    token: UUID


class Session:
    """What `receiver` has accepted. Its task is `run`; all else may be called at any time."""

    def __init__(
        self, links: Links, holdings: Holdings, shelf: Shelf, receiver: ServiceBusReceiver, *, queue: str, entity: str
    ) -> None:
        self._links = links
        self._holdings = holdings
        self._shelf = shelf
        self._receiver = receiver
        self._queue = queue
        self._entity = entity
        self._id = str(receiver.session.session_id)
        self._aside = Aside({})
        self._absent: set[int] = set()
        """Those put aside whose messages are not: they are in the line, or gone."""
        self._passed = 0
        """The number of the last message that came in the line."""
        self._wake_ups: list[_WakeUp] = []
        self._moment = 0.0
        """The latest moment that has come by the service's clock, as far as is known."""
        self._orders: deque[_Order] = deque()
        self._stirred = asyncio.Event()
        self._leaving = False
        self._over = False
        self._kept = False
        """Whether it was given back, and not lost."""
        self._held: Held | None = None
        self._number = 0
        """The sequence number of the job in hand."""
        self._again_at: float | None = None
        """When the job in hand runs again without having given way."""
        self._lasts = _lasts(receiver)
        self._since = self._renewed = time.monotonic()
        self._requests = 0

    def leave(self) -> None:
        """Give the session back, at once; what is in hand is as if it had not been taken."""
        self._leaving = True
        self._stirred.set()

    async def settle(self, held: Held, settlement: Settlement) -> bool:
        """Have a message of this session settled; False if it is not ours any more. Raises StoreUnavailable, StoreError."""
        if self._over or held.lost:
            return False
        order = _Order(held, settlement, asyncio.get_running_loop().create_future())
        self._orders.append(order)
        self._stirred.set()
        return await order.done

    async def run(self) -> None:
        """Serve the session until it is to be left, or is lost; then its receiver is to be closed."""
        try:
            self._aside = Aside.read(await self._ask(self._receiver.session.get_state))
            while not self._leaving and await self._next():
                if self._requests >= REQUESTS or (self._shelf.full and time.monotonic() - self._since > TURN):
                    break
            await self._restore()
            self._kept = True
        except (SessionLockLostError, MessageLockLostError, HoldfastError) as error:
            log.warning("session lost", queue=self._entity, session=self._id, error=str(error))
        finally:
            self._over = True
            self._end_all()

    def _end_all(self) -> None:
        """Nothing of this session can be had here any more."""
        held = self._held
        if held is not None and not held.settled:
            self._shelf.withdraw(held)
            if not self._kept:
                self._holdings.lose([held])
        for order in self._orders:
            _tell(order, False)

    # --- one job

    async def _next(self) -> bool:
        """Have the next job run; False if there is none."""
        if not await self._shelf.room(NO_ROOM):
            self._shelf.passed_over()
            return False
        held: Held | None = None
        try:
            held = await self._due() or await self._received()
        finally:
            self._shelf.received(found=held is not None)
        found = held is not None
        while held is not None:
            self._offer(held)
            held = await self._worked(held)
        if found and not self._leaving:
            await self._let_wake_ups_go()
        return found

    async def _due(self) -> Held | None:
        """The first of those put aside whose time has come."""
        for number in self._aside.due(self._now()):
            if number in self._absent:
                continue
            try:
                [message] = await self._ask(lambda number=number: self._receiver.receive_deferred_messages(number))
            except MessageNotFoundError:
                if self._passed > number:
                    await self._forget(number)
                else:
                    # It was not put aside before whoever had it was lost: then it is the first in the line.
                    self._absent.add(number)
                continue
            return await self._taken(message)
        return None

    async def _received(self) -> Held | None:
        """The next job in the line, unless one that was put aside is due first."""
        while True:
            with explained(self._links.address, self._entity):
                messages = await self._receiver.receive_messages(1, max_wait_time=LINGER)
            if not messages:
                return None
            [message] = messages
            number = self._passed = message.sequence_number or 0
            for each in [absent for absent in self._absent if absent < number]:
                await self._forget(each)
            if (due_at := wakes_at(message)) is not None:
                self._wake_ups.append(_WakeUp(due_at, _token(message)))
                self._moment = max(self._moment, due_at)
                if (held := await self._due()) is not None:
                    return held
                await self._let_wake_ups_go()
                continue
            note = self._aside.get(number)
            if note is not None and note.due_at > self._now():
                held = self._as_held(message)
                await self._links.outbox(self._entity).send([wake_up(self._id, held.job, note.due_at)])
                await self._settle_message("defered", held.token)
                continue
            return await self._taken(message)

    async def _taken(self, message: ServiceBusReceivedMessage) -> Held:
        """The job of this message. What its note says is written first as if this claim were lost."""
        held = self._as_held(message)
        self._number = message.sequence_number or 0
        self._absent.discard(self._number)
        note = self._aside.get(self._number)
        if note is not None:
            job = held.job._replace(attempt=note.attempt, claim=note.claims + 1, losses=note.losses)
            held.job = job
            self._aside.put(self._number, note._replace(claims=job.claim, losses=job.losses + 1))
            await self._write()
        return held

    def _as_held(self, message: ServiceBusReceivedMessage) -> Held:
        held = held_of(message, queue=self._queue, entity=self._entity, keyed=True)
        held.job = held.job._replace(gate=Gate(self._id, limit=1))
        # What a message tells of its lock is known better, where the clock there is ahead of ours.
        self._lasts = min(self._lasts, held.lasts)
        held.session = self
        return held

    def _offer(self, held: Held) -> None:
        self._held = held
        self._shelf.offer(held)

    async def _worked(self, held: Held) -> Held | None:
        """Keep the lock until this job is settled, or the session left; the same job, if it is to run again at once."""
        self._again_at = None
        offered = time.monotonic()
        while not self._leaving and not held.settled:
            await self._wait(self._renewed + self._lasts / 3)
            await self._obey()
            if time.monotonic() - self._renewed >= self._lasts / 3:
                await self._renew()
            if held.worker is None and time.monotonic() - offered > UNCLAIMED:
                self._shelf.passed_over()
                self._leaving = True
        await self._obey()
        if self._again_at is None or self._leaving:
            return None
        while not self._leaving and (rest := self._again_at - self._now()) > 0:
            await self._wait(min(time.monotonic() + rest, self._renewed + self._lasts / 3))
            if time.monotonic() - self._renewed >= self._lasts / 3:
                await self._renew()
        return None if self._leaving else await self._once_more(held)

    async def _once_more(self, before: Held) -> Held:
        note = self._aside.get(self._number)
        job = before.job._replace(claim=before.job.claim + 1)
        if note is not None:
            job = job._replace(attempt=note.attempt, claim=note.claims + 1, losses=note.losses)
            self._aside.put(self._number, note._replace(claims=job.claim, losses=job.losses + 1))
            await self._write()
        return Held(before.letter, job, self._entity, before.token, before.lasts, self)

    async def _wait(self, until: float) -> None:
        """Wait until then, by the monotonic clock, or until something is asked."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(until - time.monotonic(), UNCLAIMED)):
                await self._stirred.wait()
        self._stirred.clear()

    # --- settling

    async def _obey(self) -> None:
        while self._orders:
            order = self._orders.popleft()
            if order.held is not self._held or order.held.settled:
                _tell(order, False)
                continue
            try:
                await self._do(order.held, order.settlement)
            except (SessionLockLostError, MessageLockLostError):
                _tell(order, False)
                raise
            except Exception as error:  # noqa: BLE001 - it is told to those who asked
                if not order.done.done():
                    order.done.set_exception(error)
            else:
                order.held.settled = True
                _tell(order, True)

    async def _do(self, held: Held, settlement: Settlement) -> None:
        match settlement.outcome:
            case Again() as outcome:
                await self._try_again(held, outcome)
            case Returned(due_at):
                await self._hand_back(held, due_at)
            case Failed(dead=True) as outcome:
                details = {
                    "deadletter-reason": outcome.reason.value,
                    "deadletter-description": described(
                        outcome, attempt=None if held.job.attempt == held.letter.attempt else held.job.attempt
                    ),
                }
                await self._end(held, "suspended", details)
            case _:
                await self._end(held, "completed")

    async def _end(self, held: Held, settlement: str, details: dict[str, str] | None = None) -> None:
        await self._settle_message(settlement, held.token, details)
        if self._aside.drop(self._number):
            await self._write()

    async def _try_again(self, held: Held, again: Again) -> None:
        """Put it aside until then. What a crash leaves of that is done by whoever has the session next."""
        job = held.job
        if not self._aside.has_room(self._number):
            fresh = {"attempt": job.attempt + 1, "claims": job.claim, "losses": 0, "error": again.error}
            await self._links.send([held.letter._replace(due_at=again.due_at, **fresh)])
            await self._end(held, "completed")
            return
        note = Note(again.due_at, job.attempt + 1, job.claim, 0, error_text(again.error))
        self._aside.put(self._number, note)
        await self._write()
        if again.due_at - self._now() <= AT_ONCE:
            self._again_at = again.due_at
            return
        await self._links.outbox(self._entity).send([wake_up(self._id, job, again.due_at)])
        await self._settle_message("defered", held.token)

    async def _hand_back(self, held: Held, due_at: float) -> None:
        """It is the first in the line as before; others may have it, or it waits here for a moment."""
        note = self._aside.get(self._number)
        if note is not None:
            self._aside.put(self._number, note._replace(losses=held.job.losses))
            await self._write()
        if 0 < due_at - self._now() <= LONGEST_PLACE:
            self._again_at = due_at
        else:
            self._leaving = True

    async def _restore(self) -> None:
        """What is in hand when the session is left was not lost with a worker."""
        held = self._held
        if held is None or held.settled:
            return
        note = self._aside.get(self._number)
        if note is not None and note.losses != held.job.losses:
            self._aside.put(self._number, note._replace(losses=held.job.losses))
            await self._write()

    async def _let_wake_ups_go(self) -> None:
        """Remove those for which nothing is put aside any more: until then they have the session looked at after a crash."""
        for each in list(self._wake_ups):
            if not self._aside.due(each.due_at):
                await self._settle_message("completed", each.token)
                self._wake_ups.remove(each)

    async def _forget(self, number: int) -> None:
        """The message of a note is gone: it was settled, and its worker lost before it could write that."""
        self._absent.discard(number)
        if self._aside.drop(number):
            await self._write()

    # --- requests

    async def _write(self) -> None:
        state = self._aside.written()
        await self._ask(lambda: self._receiver.session.set_state(state))

    async def _settle_message(self, settlement: str, token: UUID, details: dict[str, str] | None = None) -> None:
        await self._ask(lambda: settle(self._receiver, settlement, [token], details))

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        self._requests += 1
        link: Any = self._receiver
        # A link that broke would be made anew by the client, and the session asked for by its name.
        link._check_live()
        with explained(self._links.address, self._entity):
            return await request()

    async def _renew(self) -> None:
        if self._requests >= LAST_REQUESTS:
            raise SessionLockLostError(message=f"its link has had {self._requests} requests, and takes no more")
        now = time.monotonic()
        try:
            await self._ask(self._receiver.session.renew_lock)
        except StoreUnavailable:
            if time.monotonic() - self._renewed > self._lasts:
                raise
            return
        self._renewed = now

    def _now(self) -> float:
        return max(self._shelf.now(), self._moment)


def _tell(order: _Order, done: bool) -> None:
    if not order.done.done():
        order.done.set_result(done)


def _token(message: ServiceBusReceivedMessage) -> UUID:
    assert isinstance(message.lock_token, UUID)
    return message.lock_token


def _lasts(receiver: ServiceBusReceiver) -> float:
    until = receiver.session.locked_until_utc
    seconds = SHORTEST if until is None else (until - datetime.now(UTC)).total_seconds()
    return min(max(seconds, SHORTEST), LONGEST)
