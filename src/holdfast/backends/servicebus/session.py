"""A session that is held here: its jobs are offered one after the other, and its lock is kept while they run.

One task does all that is asked about them. A session is left when nothing comes any more, when others want its place, or
when it is lost; who has lost it can settle nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from azure.servicebus.exceptions import MessageLockLostError, SessionLockLostError

from holdfast.backends.servicebus.deaths import described
from holdfast.backends.servicebus.held import Held, Holdings
from holdfast.backends.servicebus.line import Line
from holdfast.backends.servicebus.session_link import SessionLink
from holdfast.errors import HoldfastError
from holdfast.logs import get_logger
from holdfast.model.job import Again, Failed, Returned, Settlement

log = get_logger("holdfast.servicebus")

NO_ROOM = 0.5
"""Seconds for which a session is held for whose jobs nobody here has room."""
UNCLAIMED = 2.0
"""Seconds for which a job waits here to be claimed before its session is left."""
LONGEST_PLACE = 5.0
"""Seconds for which a job that is handed back until then keeps its session, at most."""
TURN = 5.0
"""Seconds after which a session is left between two jobs, if there is no room for other ones."""


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

    def withdraw(self, held: Held) -> None:
        """It is not there any more."""
        ...

    def passed_over(self) -> None:
        """The session is left as nobody here had room for its jobs."""
        ...

    @property
    def tight(self) -> bool:
        """Whether those that are held keep others waiting."""
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


class Session:
    """Its task is `run`; all else may be called at any time."""

    def __init__(self, link: SessionLink, *, queue: str, shelf: Shelf, holdings: Holdings) -> None:
        self._link = link
        self._shelf = shelf
        self._holdings = holdings
        self._line = Line(link, queue=queue, holder=self, clock=shelf.now)
        self._since = time.monotonic()
        self._held: Held | None = None
        """The job in hand, or the last one."""
        self._again_at: float | None = None
        """When the job in hand runs again without having given way."""
        self._orders: deque[_Order] = deque()
        self._stirred = asyncio.Event()
        self._leaving = False
        self._over = False

    @property
    def busy(self) -> bool:
        """Whether it has a job in hand."""
        return self._held is not None and not self._held.settled

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
        kept = False
        try:
            await self._line.open()
            while not self._leaving and await self._next():
                if self._link.worn or (self._shelf.tight and time.monotonic() - self._since > TURN):
                    break
            kept = True
        except (SessionLockLostError, MessageLockLostError, HoldfastError) as error:
            log.warning("session lost", queue=self._link.entity, session=self._link.id, error=str(error))
        finally:
            self._over = True
            if self._held is not None and not self._held.settled:
                self._shelf.withdraw(self._held)
                self._held.lost = True
                if not kept:
                    self._holdings.lose([self._held])
            for order in self._orders:
                _tell(order, False)

    # --- one job

    async def _next(self) -> bool:
        """Have the next job run; False if there is none, or none that could."""
        if not await self._shelf.room(NO_ROOM):
            self._shelf.passed_over()
            return False
        held: Held | None = None
        try:
            held = await self._line.next()
        finally:
            self._shelf.received(found=held is not None)
        if held is None:
            return False
        while held is not None:
            self._held = held
            if not self._leaving:
                self._shelf.offer(held)
            held = await self._worked(held)
        if self._leaving:
            return False
        await self._line.let_wake_ups_go()
        return True

    async def _worked(self, held: Held) -> Held | None:
        """Keep the lock until this job is settled, or the session left; the same job, if it is to run again at once."""
        self._again_at = None
        offered = time.monotonic()
        while not self._leaving and not held.settled:
            await self._wait(self._link.renewal)
            await self._obey()
            await self._link.renew()
            if held.worker is None and time.monotonic() - offered > UNCLAIMED:
                self._shelf.passed_over()
                self._leaving = True
        if self._leaving and held.worker is None:
            self._shelf.withdraw(held)
        await self._obey()
        if not held.settled:
            await self._line.give_back(held)
        if self._again_at is None:
            return None
        while not self._leaving and (rest := self._again_at - self._line.now()) > 0:
            await self._wait(min(time.monotonic() + rest, self._link.renewal))
            await self._link.renew()
        return None if self._leaving else await self._line.once_more(held)

    async def _wait(self, until: float) -> None:
        """Wait until then, by the monotonic clock, or until something is asked; a moment at most."""
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
            except HoldfastError as error:
                if not order.done.done():
                    order.done.set_exception(error)
            except BaseException:
                # The session is lost by that, if it was not before.
                _tell(order, False)
                raise
            else:
                order.held.settled = True
                _tell(order, True)

    async def _do(self, held: Held, settlement: Settlement) -> None:
        match settlement.outcome:
            case Again(due_at) as outcome:
                if not await self._line.put_aside(held, outcome):
                    self._again_at = due_at
            case Returned(due_at):
                await self._line.give_back(held)
                if 0 < due_at - self._line.now() <= LONGEST_PLACE:
                    self._again_at = due_at
                else:
                    self._leaving = True
            case Failed(dead=True) as outcome:
                attempt = None if held.job.attempt == held.letter.attempt else held.job.attempt
                words = described(outcome, attempt=attempt)
                details = {"deadletter-reason": outcome.reason.value, "deadletter-description": words}
                await self._line.end(held, "suspended", details)
            case _:
                await self._line.end(held, "completed")


def _tell(order: _Order, done: bool) -> None:
    if not order.done.done():
        order.done.set_result(done)
