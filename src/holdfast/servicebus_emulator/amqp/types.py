"""The types of AMQP 1.0 that Python lacks, and the errors of the wire. Encodes and decodes nothing.

`None`, `bool`, `bytes`, `str`, `list`, `dict`, `float` (double), `uuid.UUID` and `int` (long) stand for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class AmqpError(Exception):
    """A peer broke the protocol, or asked for what it cannot have. `condition` is AMQP's name for that."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description


class DecodeError(AmqpError):
    """Bytes that are not what AMQP says they should be."""

    def __init__(self, description: str) -> None:
        super().__init__("amqp:decode-error", description)


class FramingError(AmqpError):
    """A frame whose size or offset cannot be."""

    def __init__(self, description: str) -> None:
        super().__init__("amqp:connection:framing-error", description)


class UByte(int):
    """0 to 2**8 - 1."""

    __slots__ = ()


class UShort(int):
    """0 to 2**16 - 1."""

    __slots__ = ()


class UInt(int):
    """0 to 2**32 - 1."""

    __slots__ = ()


class ULong(int):
    """0 to 2**64 - 1."""

    __slots__ = ()


class Byte(int):
    """-2**7 to 2**7 - 1."""

    __slots__ = ()


class Short(int):
    """-2**15 to 2**15 - 1."""

    __slots__ = ()


class Int(int):
    """-2**31 to 2**31 - 1."""

    __slots__ = ()


class Timestamp(int):
    """Milliseconds since 1970 in UTC."""

    __slots__ = ()


class Float(float):
    """A float of 32 bits."""

    __slots__ = ()


class Char(str):
    """One character."""

    __slots__ = ()


class Symbol(str):
    """A name from a domain that all agree on; ASCII."""

    __slots__ = ()


class Decimal32(bytes):
    """Four bytes of IEEE 754-2008, kept as they are."""


class Decimal64(bytes):
    """Eight bytes of IEEE 754-2008, kept as they are."""


class Decimal128(bytes):
    """Sixteen bytes of IEEE 754-2008, kept as they are."""


@dataclass(frozen=True, slots=True)
class Described:
    """A value with a descriptor that says what it means."""

    descriptor: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Array:
    """Values of one type. `code` is the constructor they share, `descriptor` what describes each, if anything does."""

    code: int
    items: tuple[Any, ...]
    descriptor: Any = None
