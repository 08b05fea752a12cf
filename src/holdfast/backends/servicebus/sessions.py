"""The sessions of one queue's jobs with a key: accepts those that have messages, so many at once, and settles nothing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import OperationTimeoutError

from holdfast.backends.servicebus.held import Held, Holdings
from holdfast.backends.servicebus.inbox import CLOSING, FIRST_PAUSE, LONGEST_PAUSE
from holdfast.backends.servicebus.links import MISSING, Links
from holdfast.backends.servicebus.session import Session
from holdfast.backends.servicebus.session_link import SessionLink
from holdfast.backends.servicebus.trouble import MissingQueue, explained, let_go
from holdfast.errors import ConfigurationError, StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.logs import get_logger

log = get_logger("holdfast.servicebus")

ACCEPTS = 8
"""Sessions accepted at the same time while there are some, at most: each takes the client half a second."""
LEAVING = 3.0
"""Seconds for which sessions that are to be left are waited for; they may be waiting for an answer."""
OWED = 2.0
"""Seconds for which a place is kept free for jobs with a key that were passed over."""
LONG = 20.0
"""Seconds for which a session with messages is waited for in one call."""


class Sessions:
    """Jobs with a key of one queue, each in a session that is held here. `arrived` is called when there are new ones."""

    def __init__(self, links: Links, holdings: Holdings, *, queue: str, arrived: Callable[[], None]) -> None:
        self.waiting: list[Held] = []
        """What nobody has claimed yet, oldest first: one job of each session at most."""
        self._links = links
        self._holdings = holdings
        self._queue = queue
        self._entity = links.address.keyed(queue)
        self._most = links.address.sessions
        self._arrived = arrived
        self._wanted = 0
        """Jobs for which there is room, and which no session has set out to receive."""
        self._receiving = 0
        """Jobs that sessions have set out to receive."""
        self._asked = asyncio.Event()
        self._serving: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        """Those of sessions, which go on for a moment after these are left."""
        self._accepting: dict[asyncio.Task[None], ServiceBusReceiver | None] = {}
        self._plenty = False
        """Whether the last time there was a session to be had."""
        self._closed = False
        self._owed_until = 0.0
        """Until when a place is kept free, by the monotonic clock; for ever until somebody asks."""
        self._ahead = 0.0
        """Seconds by which the clock of those who claim is ahead of this machine's."""

    def tell(self, now: float) -> None:
        """This is the moment by the clock of those who claim."""
        self._ahead = now - time.time()

    def want(self, number: int) -> None:
        """So many jobs are wanted now, all in all."""
        self._wanted = max(0, number - self._receiving)
        if self._wanted:
            self._asked.set()
            self._go_on()

    @property
    def owed(self) -> int:
        """How many places are to be kept free for a moment: to accept a session takes longer than to receive a message."""
        now = time.monotonic()
        if self._owed_until == math.inf:
            self._owed_until = now + OWED
        return int(self._owed_until > now and not self.waiting)

    def take(self, worker: WorkerId, room: int) -> list[Held]:
        """Give a worker up to `room` of what waits."""
        taken: list[Held] = []
        left: list[Held] = []
        for held in self.waiting:
            if held.lost:
                continue
            if len(taken) < room and self._holdings.get(worker, held.job.id) is None:
                self._holdings.give(held, worker)
                taken.append(held)
            else:
                left.append(held)
        self.waiting = left
        return taken

    async def close(self) -> None:
        """Give all sessions back, and accept no more."""
        self._closed = True
        self._asked.set()
        for session in self._serving:
            session.leave()
        accepting = list(self._accepting)
        for task in accepting:
            task.cancel()
        if accepting:
            # The client may swallow that; closed under it, it ends.
            await asyncio.wait(accepting, timeout=CLOSING)
            await asyncio.gather(*[let_go(receiver) for receiver in self._accepting.values()])
            for task in accepting:
                task.cancel()
        if serving := list(self._tasks):
            await asyncio.wait(serving, timeout=LEAVING)
            for task in serving:
                task.cancel()
        await asyncio.gather(*accepting, *serving, return_exceptions=True)

    # --- what sessions ask

    def passed_over(self) -> None:
        """A session was left as nobody here had room for its jobs."""
        self._owed_until = math.inf

    def offer(self, held: Held) -> None:
        """A job is there to be claimed."""
        self._owed_until = 0.0
        self.waiting.append(held)
        self._arrived()

    def withdraw(self, held: Held) -> None:
        """It is not there any more."""
        self.waiting = [each for each in self.waiting if each is not held]

    async def room(self, seconds: float) -> bool:
        """Whether a job is wanted within so many seconds; if so, a session sets out to receive it."""
        until = time.monotonic() + seconds
        while self._wanted <= 0 and not self._closed:
            self._asked.clear()
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await self._asked.wait()
            except TimeoutError:
                return False
        if self._closed:
            return False
        self._wanted -= 1
        self._receiving += 1
        return True

    def received(self, *, found: bool) -> None:
        """What a session had set out for has come, or has not."""
        self._receiving -= 1
        self._wanted += not found

    @property
    def tight(self) -> bool:
        """Whether those that are held keep others waiting: no further one can be held, or there is no room for its jobs."""
        return self.full or self._wanted <= 0

    @property
    def full(self) -> bool:
        """Whether no further session can be held."""
        return len(self._serving) + len(self._accepting) >= self._most

    def now(self) -> float:
        """The moment by the clock of those who claim."""
        return time.time() + self._ahead

    # --- accepting

    def _go_on(self) -> None:
        """Have so many accepted as are wanted; where there was none the last time, one is enough to wait for it."""
        most = min(ACCEPTS, self._wanted) if self._plenty else 1
        while self._wanted > 0 and len(self._accepting) < most and not self.full and not self._closed:
            task = asyncio.create_task(self._accept_some(), name=f"holdfast-accept-{self._entity}")
            self._accepting[task] = None
            task.add_done_callback(self._accepted)

    def _accepted(self, task: asyncio.Task[None]) -> None:
        del self._accepting[task]
        if _check(task):
            self._go_on()

    async def _accept_some(self) -> None:
        """Accept a session, or wait for one for as long as any is wanted."""
        pause = FIRST_PAUSE
        while self._wanted > 0 and not self._closed:
            try:
                receiver = await self._accept()
            except StoreUnavailable as error:
                log.warning("cannot accept sessions", queue=self._entity, error=str(error), again_in=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            except MissingQueue:
                # Whoever sends a job with a key is told; where nobody does, there need be no such queue.
                log.debug("no queue for jobs with a key", queue=self._entity, again_in=MISSING)
                await asyncio.sleep(MISSING)
                continue
            except ConfigurationError as error:
                log.warning("no sessions for jobs with a key", queue=self._entity, error=str(error), again_in=MISSING)
                await asyncio.sleep(MISSING)
                continue
            self._plenty = receiver is not None
            if receiver is not None:
                self._begin(receiver)
                return
            pause = FIRST_PAUSE
            if len(self._accepting) > 1:
                return

    async def _accept(self) -> ServiceBusReceiver | None:
        """A receiver of the next session with messages; None if there was none for a while."""
        address = self._links.address
        task = asyncio.current_task()
        assert task is not None
        with explained(address, self._entity):
            receiver = self._links.session_receiver(self._entity, wait=min(LONG, 0.8 * address.timeout))
            self._accepting[task] = receiver
            try:
                return await receiver.__aenter__()
            except OperationTimeoutError:
                await let_go(receiver)
                return None
            except BaseException:
                await let_go(receiver)
                raise

    def _begin(self, receiver: ServiceBusReceiver) -> None:
        link = SessionLink(self._links, receiver, self._entity)
        session = Session(link, queue=self._queue, shelf=self, holdings=self._holdings)
        self._serving.add(session)
        if self._closed:
            session.leave()
        task = asyncio.create_task(self._serve(session, receiver), name=f"holdfast-session-{self._entity}")
        self._tasks.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        _check(task)

    async def _serve(self, session: Session, receiver: ServiceBusReceiver) -> None:
        try:
            await session.run()
        finally:
            self._serving.discard(session)
            self._go_on()
            # The session is free at once; the client then takes its time.
            await let_go(receiver)


def _check(task: asyncio.Task[None]) -> bool:
    """Whether nothing has gone wrong there that nobody foresaw."""
    if task.cancelled() or (error := task.exception()) is None:
        return True
    log.error("sessions in trouble", task=task.get_name(), error=f"{type(error).__name__}: {error}")
    return False
