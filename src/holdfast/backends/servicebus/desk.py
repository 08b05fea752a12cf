"""The desk: requests about the messages of one entity. Locks are settled and renewed by the hundred, whoever received them.

The client offers that for one message at a time only; here, its own requests are made with many tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast
from uuid import UUID

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus._common import mgmt_handlers
from azure.servicebus._common.constants import (
    MGMT_REQUEST_FROM_SEQUENCE_NUMBER,
    MGMT_REQUEST_MAX_MESSAGE_COUNT,
    REQUEST_RESPONSE_PEEK_OPERATION,
)
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import MessageLockLostError

from holdfast.backends.servicebus.address import Address
from holdfast.backends.servicebus.trouble import explained, let_go, to_its_end
from holdfast.errors import StoreUnavailable

T = TypeVar("T")

REQUESTS = 9_000
"""Requests over one link: the client gives its replies credit for 10,000 once, and then waits for ever."""
CLOSING = 2.0
"""Seconds for which a link that is to be closed may still be waited for."""
TOKENS = 500
"""Locks named in one request."""


class Desk:
    """Any number of callers at once; their requests are made one after the other."""

    def __init__(self, address: Address, entity: str, connect: Callable[[], ServiceBusReceiver]) -> None:
        self.requests = 0
        """How many were made over the present link."""
        self._address = address
        self._entity = entity
        self._connect = connect
        self._link: ServiceBusReceiver | None = None
        self._turn = asyncio.Lock()

    async def complete(self, tokens: Sequence[UUID]) -> set[UUID]:
        """Remove these messages; returns those whose locks are lost, or that were removed before."""
        return await self._each(tokens, lambda link, some: settle(link, "completed", some))

    async def bury(self, token: UUID, reason: str, description: str) -> bool:
        """Make a message a dead letter; False if its lock is lost."""
        details = {"deadletter-reason": reason, "deadletter-description": description}
        return not await self._each([token], lambda link, some: settle(link, "suspended", some, details))

    async def abandon(self, tokens: Sequence[UUID]) -> None:
        """Let these go; each counts as delivered once more."""
        await self._each(tokens, lambda link, some: settle(link, "abandoned", some))

    async def renew(self, tokens: Sequence[UUID]) -> set[UUID]:
        """Begin the time of these locks anew; returns those that are lost."""
        return await self._each(tokens, lambda link, some: cast(Any, link)._renew_locks(*some))

    async def peek(self, first: int, count: int) -> Sequence[ServiceBusReceivedMessage]:
        """Up to `count` messages from this sequence number on, whoever has locked them."""
        return await self._ask(lambda link: _peek(link, first, count))

    async def close(self) -> None:
        """Let go of the link, once what is being asked is answered, or soon."""
        try:
            async with asyncio.timeout(CLOSING), self._turn:
                await self._drop()
        except TimeoutError:
            await self._drop()

    async def _drop(self) -> None:
        link, self._link = self._link, None
        await let_go(link)

    async def _each(
        self, tokens: Sequence[UUID], act: Callable[[ServiceBusReceiver, Sequence[UUID]], Awaitable[object]]
    ) -> set[UUID]:
        """Act on all of them, in few requests; returns those whose locks are lost."""
        lost: set[UUID] = set()
        for at in range(0, len(tokens), TOKENS):
            some = tokens[at : at + TOKENS]
            try:
                await self._ask(lambda link, some=some: act(link, some))
            except MessageLockLostError:
                if len(some) == 1:
                    lost.update(some)
                    continue
                # One of them; the request does not say which, nor what became of the others.
                for token in some:
                    lost |= await self._each([token], act)
        return lost

    async def _ask(self, act: Callable[[ServiceBusReceiver], Awaitable[T]]) -> T:
        return await to_its_end(self._ask_in_turn(act))

    async def _ask_in_turn(self, act: Callable[[ServiceBusReceiver], Awaitable[T]]) -> T:
        async with self._turn:
            if self.requests >= REQUESTS:
                await self._drop()
            if self._link is None:
                self._link, self.requests = self._connect(), 0
            self.requests += 1
            try:
                with explained(self._address, self._entity):
                    return await act(self._link)
            except StoreUnavailable:
                await self._drop()
                raise


async def settle(
    link: ServiceBusReceiver, settlement: str, tokens: Sequence[UUID], details: Mapping[str, str] | None = None
) -> None:
    """Ask for one settlement of all these."""
    asked: Any = link
    await asked._do_retryable_operation(
        asked._settle_message_via_mgmt_link,
        settlement=settlement,
        lock_tokens=list(tokens),
        dead_letter_details=details,
    )


async def _peek(link: ServiceBusReceiver, first: int, count: int) -> Sequence[ServiceBusReceivedMessage]:
    # The client offers this for receivers alone, and its browser of sessions makes requests as they do.
    asked: Any = link
    reading: Any = mgmt_handlers
    kinds = asked._amqp_transport
    return await asked._mgmt_request_response_with_retry(
        REQUEST_RESPONSE_PEEK_OPERATION,
        {
            MGMT_REQUEST_FROM_SEQUENCE_NUMBER: kinds.AMQP_LONG_VALUE(first),
            MGMT_REQUEST_MAX_MESSAGE_COUNT: count,
        },
        partial(reading.peek_op, receiver=link, amqp_transport=kinds),
        keep_alive_associated_link=False,
    )
