"""The link of one session that is held here: all that is asked about it, and its lock. Decides nothing.

The client can do but one thing at a time over a link: whoever uses it waits for one answer before he asks again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import SessionLockLostError

from holdfast.backends.servicebus.desk import settle
from holdfast.backends.servicebus.held import LONGEST, SHORTEST
from holdfast.backends.servicebus.letters import Letter, wake_up
from holdfast.backends.servicebus.links import Links
from holdfast.backends.servicebus.trouble import explained
from holdfast.errors import StoreUnavailable
from holdfast.model.job import ClaimedJob

T = TypeVar("T")

LINGER = 0.1
"""Seconds for which a message is waited for."""
REQUESTS = 9_000
"""Requests after which the link has had enough: the client waits for ever after 10,000."""
LAST_REQUESTS = 9_900
"""Requests after which the lock is not renewed any more, whatever runs."""
ONCE_MORE = 1.0
"""Seconds until a renewal is tried again that could not be done."""


class SessionLink:
    """Requests raise SessionLockLostError once the session is lost, StoreUnavailable while the service is out of reach."""

    def __init__(self, links: Links, receiver: ServiceBusReceiver, entity: str) -> None:
        self.id = str(receiver.session.session_id)
        self.entity = entity
        self._links = links
        self._receiver = receiver
        self._requests = 0
        self._lasts = _lasts(receiver)
        self._renewed = time.monotonic()
        self._put_off = 0.0

    @property
    def worn(self) -> bool:
        """Whether it should not be used for another job."""
        return self._requests >= REQUESTS

    @property
    def renewal(self) -> float:
        """When the lock is to be renewed, by the monotonic clock."""
        return max(self._renewed + self._lasts / 3, self._put_off)

    async def receive(self) -> ServiceBusReceivedMessage | None:
        """The next message in the line, if there is one."""
        with explained(self._links.address, self.entity):
            messages = await self._receiver.receive_messages(1, max_wait_time=LINGER)
        return messages[0] if messages else None

    async def fetch(self, number: int) -> ServiceBusReceivedMessage:
        """A message that was deferred. Raises MessageNotFoundError where it is not, or is not any more."""
        [message] = await self._ask(lambda: self._receiver.receive_deferred_messages(number))
        return message

    async def read(self) -> bytes | None:
        """The session's state."""
        return await self._ask(self._receiver.session.get_state)

    async def write(self, state: bytes | None) -> None:
        """Change the session's state."""
        await self._ask(lambda: self._receiver.session.set_state(state))

    async def settle(self, settlement: str, token: UUID, details: Mapping[str, str] | None = None) -> None:
        """Settle a message, in the words of Service Bus."""
        await self._ask(lambda: settle(self._receiver, settlement, [token], details))

    async def send(self, letter: Letter) -> None:
        """Put another message at the end of the line, when it is due."""
        await self._links.send([letter])

    async def send_wake_up(self, job: ClaimedJob, due_at: float) -> None:
        """Have the session looked at when this job is due."""
        await self._links.outbox(self.entity).send([wake_up(self.id, job, due_at)])

    async def renew(self) -> None:
        """Begin the lock's time anew, if it is time for that."""
        now = time.monotonic()
        if now < self.renewal:
            return
        if self._requests >= LAST_REQUESTS:
            raise SessionLockLostError(message=f"its link has had {self._requests} requests, and takes no more")
        try:
            await self._ask(self._receiver.session.renew_lock)
        except StoreUnavailable:
            self._put_off = time.monotonic() + ONCE_MORE
            if time.monotonic() - self._renewed > self._lasts:
                raise
        else:
            self._renewed = now

    def learn(self, lasts: float) -> None:
        """A message of it is locked for so many seconds: it knows better, where the clock there is ahead of ours."""
        self._lasts = min(self._lasts, lasts)

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        self._requests += 1
        link: Any = self._receiver
        with explained(self._links.address, self.entity):
            # A link that broke would be made anew by the client, and the session asked for by its name.
            link._check_live()
            return await request()


def _lasts(receiver: ServiceBusReceiver) -> float:
    until = receiver.session.locked_until_utc
    seconds = SHORTEST if until is None else (until - datetime.now(UTC)).total_seconds()
    return min(max(seconds, SHORTEST), LONGEST)
