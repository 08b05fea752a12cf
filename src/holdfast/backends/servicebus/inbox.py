"""The inbox of one queue: receives as many messages as are wanted, and keeps them until they are claimed. Settles none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from azure.servicebus.aio import ServiceBusReceiver

from holdfast.backends.servicebus.held import Held, Holdings, held_of
from holdfast.backends.servicebus.links import Links
from holdfast.backends.servicebus.trouble import explained, let_go
from holdfast.errors import ConfigurationError, StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.logs import get_logger

log = get_logger("holdfast.servicebus")

LONG = 20.0
"""Seconds for which the first message is waited for in one call."""
SHORT = 0.01
"""Seconds for which more are waited for than the one that came."""
CLOSING = 1.0
"""Seconds for which a call that is to end is waited for."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds between two tries while the service is out of reach."""


class Inbox:
    """Messages of one entity, locked for this process. `arrived` is called when there are new ones."""

    def __init__(
        self, links: Links, holdings: Holdings, *, queue: str, entity: str, arrived: Callable[[], None]
    ) -> None:
        self.waiting: list[Held] = []
        """What nobody has claimed yet, oldest first."""
        self._links = links
        self._holdings = holdings
        self._queue = queue
        self._entity = entity
        self._arrived = arrived
        self._wanted = 0
        self._quiet = True
        """Whether the last call brought nothing."""
        self._collecting = False
        """Whether messages may be on their way from the client to us."""
        self._trouble: ConfigurationError | None = None
        self._receiver: ServiceBusReceiver | None = None
        self._running: asyncio.Task[None] | None = None

    def want(self, number: int) -> None:
        """So many are wanted now, all in all."""
        self._wanted = number
        if number > 0 and (self._running is None or self._running.done()):
            self._running = asyncio.create_task(self._run(), name=f"holdfast-receive-{self._entity}")

    def take(self, worker: WorkerId, room: int) -> list[Held]:
        """Give a worker up to `room` of what waits. Raises ConfigurationError where nothing can be received."""
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble
        taken: list[Held] = []
        left: list[Held] = []
        for held in self.waiting:
            if held.lost:
                self._holdings.forget([held])
            elif len(taken) < room and self._holdings.get(worker, held.job.id) is None:
                self._holdings.give(held, worker)
                taken.append(held)
            else:
                # A second message of a job waits until this worker is done with the first.
                left.append(held)
        self.waiting = left
        return taken

    async def close(self) -> None:
        """Receive no more. What waits stays locked, for whoever gives it back."""
        self.want(0)
        running, self._running = self._running, None
        if running is not None:
            if not self._collecting:
                running.cancel()
            # The client may swallow that; closed under it, it ends.
            await asyncio.wait([running], timeout=CLOSING)
        await self._drop()
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while self._wanted > 0:
            try:
                await self._receive()
                pause = FIRST_PAUSE
            except StoreUnavailable as error:
                if self._wanted <= 0:
                    return
                log.warning("cannot receive", queue=self._entity, error=str(error), again_in=pause)
                await self._drop()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except ConfigurationError as error:
                self._trouble, self._wanted = error, 0
                await self._drop()
                self._arrived()

    async def _receive(self) -> None:
        """Wait for one message, or take as many as are wanted while they come."""
        number, wait = (1, LONG) if self._quiet else (self._wanted, SHORT)
        with explained(self._links.address, self._entity):
            if self._receiver is None:
                self._receiver = self._links.receiver(self._entity)
            self._collecting = not self._quiet
            try:
                found = await self._receiver.receive_messages(number, max_wait_time=wait)
            finally:
                self._collecting = False
        self._quiet = not found
        for message in found:
            held = held_of(message, queue=self._queue, entity=self._entity)
            self._holdings.add(held)
            self.waiting.append(held)
        if found:
            self._wanted -= len(found)
            self._arrived()

    async def _drop(self) -> None:
        receiver, self._receiver = self._receiver, None
        self._quiet = True
        await let_go(receiver)
