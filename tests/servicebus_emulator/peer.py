"""A client made of nothing but frames, for what the real one never does, and to be no burden when speed is measured."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from holdfast.servicebus_emulator.amqp import frames, sections
from holdfast.servicebus_emulator.amqp.encode import encode
from holdfast.servicebus_emulator.amqp.performatives import (
    RECEIVER,
    SENDER,
    Attach,
    Begin,
    Flow,
    Open,
    Source,
    Target,
    Transfer,
    decode_performative,
    encode_performative,
)


def message(body: bytes, *, properties: list[Any] | None = None) -> bytes:
    """An encoded message with one data section."""
    made = b"" if properties is None else sections.described(sections.PROPERTIES, encode(properties))
    return made + sections.described(sections.DATA, encode(body))


def batch(messages: list[bytes]) -> bytes:
    """An encoded batch."""
    return b"".join(sections.described(sections.DATA, encode(each)) for each in messages)


class Peer:
    """A connection on which a test says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = frames.FrameReader(1 << 20)
        self._heard: list[frames.Frame | frames.ProtocolHeader] = []

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def say(self, performative: Any, payload: bytes = b"", *, channel: int = 0) -> None:
        self.write(frames.frame(encode_performative(performative) + payload, channel=channel))

    async def frame(self) -> frames.Frame | frames.ProtocolHeader | None:
        """The next frame, or None if the connection has ended."""
        while not self._heard:
            data = await asyncio.wait_for(self._reader.read(1 << 16), 10)
            if not data:
                return None
            self._heard = list(self._frames.feed(data))
        return self._heard.pop(0)

    async def hear(self, kind: type[Any]) -> tuple[Any, bytes]:
        """The next performative of a kind, and its payload; others are passed over."""
        while True:
            frame = await self.frame()
            assert frame is not None, f"the connection ended before a {kind.__name__} came"
            if isinstance(frame, frames.Frame) and frame.body:
                performative, end = decode_performative(frame.body)
                if isinstance(performative, kind):
                    return performative, frame.body[end:]

    async def open(self, *, max_frame_size: int = 65536, window: int = 1 << 20) -> None:
        """Greet without SASL, open, and begin a session on channel 0."""
        self.write(frames.AMQP_HEADER)
        self.say(Open("peer", None, max_frame_size))
        self.say(Begin(None, 0, window, window))
        await self.hear(Begin)

    async def sender(self, queue: str, handle: int = 0) -> None:
        self.say(
            Attach(f"sender-{handle}", handle, SENDER, 0, 0, Source("here"), Target(queue), initial_delivery_count=0)
        )
        await self.hear(Flow)

    async def receiver(self, queue: str, handle: int = 1, *, settle_mode: int = 0) -> None:
        self.say(Attach(f"receiver-{handle}", handle, RECEIVER, settle_mode, 1, Source(queue), Target("here")))
        await self.hear(Attach)

    def credit(self, credit: int, *, handle: int = 1, count: int = 0, drain: bool = False) -> None:
        self.say(Flow(0, 1 << 20, 0, 1 << 20, handle, count, credit, None, drain))

    def send(self, payload: bytes, number: int, *, batched: bool = False, **fields: Any) -> None:
        tag = number.to_bytes(4, "big")
        self.say(Transfer(0, number, tag, 0x80013700 if batched else 0, False, **fields), payload)

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Peer]:
    """A connection on which nothing was said yet."""
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield peer
    finally:
        await peer.close()
