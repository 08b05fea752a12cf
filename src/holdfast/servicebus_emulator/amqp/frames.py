"""The stream of bytes cut into frames, however it was cut on the way. Looks into no frame."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from holdfast.servicebus_emulator.amqp.types import FramingError

AMQP = 0
SASL = 1
AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
HEADER_SIZE = 8
SMALLEST_MAXIMUM = 512
"""Every peer must take frames of this size."""
EMPTY = b"\x00\x00\x00\x08\x02\x00\x00\x00"
"""A frame that says nothing but that the sender is alive."""

_PREFIX = struct.Struct(">IBBH")


class Frame(NamedTuple):
    """One frame. The body of an empty one is empty."""

    kind: int
    channel: int
    body: bytes


class ProtocolHeader(NamedTuple):
    """The eight bytes that open a layer of the protocol."""

    data: bytes


def frame(body: bytes, *, channel: int = 0, kind: int = AMQP) -> bytes:
    """The bytes of a frame."""
    return _PREFIX.pack(len(body) + HEADER_SIZE, 2, kind, channel) + body


class FrameReader:
    """Takes bytes as they come, gives frames as they are complete."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame | ProtocolHeader]:
        """The frames that are complete now. Raises FramingError for one that cannot be."""
        held = self._held
        held += data
        at = 0
        try:
            while len(held) - at >= HEADER_SIZE:
                size, offset, kind, channel = _PREFIX.unpack_from(held, at)
                if size == 0x414D5150:  # "AMQP": as a size, it would be beyond any limit
                    at += HEADER_SIZE
                    yield ProtocolHeader(bytes(held[at - HEADER_SIZE : at]))
                    continue
                if size < HEADER_SIZE:
                    raise FramingError(f"a frame of {size} bytes is shorter than its header")
                if size > self.maximum:
                    raise FramingError(f"a frame of {size} bytes is longer than the {self.maximum} agreed on")
                if not 2 <= offset <= size // 4:
                    raise FramingError(f"a frame's body begins at byte {offset * 4}, outside of it")
                if len(held) - at < size:
                    return
                body = bytes(held[at + offset * 4 : at + size])
                at += size
                yield Frame(kind, channel, body)
        finally:
            del held[:at]
