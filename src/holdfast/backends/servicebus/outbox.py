"""The outbox: messages on their way to one entity. What comes in while others are sent goes with the next batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from azure.servicebus import ServiceBusMessage, ServiceBusMessageBatch
from azure.servicebus.aio import ServiceBusSender
from azure.servicebus.exceptions import MessageSizeExceededError

from holdfast.backends.servicebus.address import Address
from holdfast.backends.servicebus.letters import size_of
from holdfast.backends.servicebus.trouble import explained, let_go, to_its_end
from holdfast.errors import StoreError, StoreUnavailable


@dataclass(slots=True, eq=False)
class _Parcel:
    """What one caller sends."""

    messages: Sequence[ServiceBusMessage]
    sent: asyncio.Future[None]


class Outbox:
    """Sends for any number of callers at once, each of which is told when its messages were accepted."""

    def __init__(self, address: Address, entity: str, connect: Callable[[], ServiceBusSender]) -> None:
        self._address = address
        self._entity = entity
        self._connect = connect
        self._sender: ServiceBusSender | None = None
        self._parcels: list[_Parcel] = []
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Connect, so that what is wrong is known. Raises ConfigurationError, StoreUnavailable."""
        async with self._turn:
            with explained(self._address, self._entity):
                await self._ready().create_message_batch()

    async def send(self, messages: Sequence[ServiceBusMessage]) -> None:
        """Have these accepted. Raises StoreError for one that is too large; then none was sent.

        When StoreUnavailable is raised, some may have been: with their ids they can be sent again.
        """
        if not messages:
            return
        parcel = _Parcel(messages, asyncio.get_running_loop().create_future())
        self._parcels.append(parcel)
        await to_its_end(self._send_in_turn(parcel))
        await parcel.sent

    async def _send_in_turn(self, parcel: _Parcel) -> None:
        async with self._turn:
            # Whoever had the turn before may have sent this one, too.
            if not parcel.sent.done():
                await self._send_all()

    async def close(self) -> None:
        """Let go of the link."""
        await self._drop()

    async def _send_all(self) -> None:
        parcels, self._parcels = self._parcels, []
        try:
            with explained(self._address, self._entity):
                await self._send(parcels)
        except StoreUnavailable as error:
            await self._drop()
            _tell(parcels, error)
        except Exception as error:  # noqa: BLE001 - it is told to those who sent
            _tell(parcels, error)

    async def _send(self, parcels: Sequence[_Parcel]) -> None:
        sender = self._ready()
        batch = await sender.create_message_batch()
        small: list[_Parcel] = []
        for parcel in parcels:
            largest = max(size_of(message) for message in parcel.messages)
            if largest < batch.max_size_in_bytes:
                small.append(parcel)
            else:
                _tell([parcel], self._too_large(largest, batch.max_size_in_bytes))
        messages = [message for parcel in small for message in parcel.messages]
        if len(messages) == 1:
            await sender.send_messages(messages[0])
        elif messages:
            await self._send_batches(sender, batch, messages)
        for parcel in small:
            if not parcel.sent.done():
                parcel.sent.set_result(None)

    async def _send_batches(
        self, sender: ServiceBusSender, batch: ServiceBusMessageBatch, messages: Sequence[ServiceBusMessage]
    ) -> None:
        for message in messages:
            try:
                batch.add_message(message)
            except MessageSizeExceededError:
                await sender.send_messages(batch)
                batch = await sender.create_message_batch()
                batch.add_message(message)
        await sender.send_messages(batch)

    def _too_large(self, size: int, limit: int) -> StoreError:
        return StoreError(
            f"a message for {self._entity!r} has {size:,} bytes, and Service Bus takes {limit:,} at most there: keep it "
            "elsewhere, and send its name"
        )

    def _ready(self) -> ServiceBusSender:
        if self._sender is None:
            self._sender = self._connect()
        return self._sender

    async def _drop(self) -> None:
        sender, self._sender = self._sender, None
        await let_go(sender)


def _tell(parcels: Sequence[_Parcel], error: Exception) -> None:
    for parcel in parcels:
        if not parcel.sent.done():
            parcel.sent.set_exception(error)
