"""Values to bytes, each in its most compact form. Never guesses: a type it does not know is a TypeError."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from uuid import UUID

from holdfast.servicebus_emulator.amqp.types import (
    Array,
    Byte,
    Char,
    Decimal32,
    Decimal64,
    Decimal128,
    Described,
    Float,
    Int,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)

SYMBOLS = 0xB3
LONGS = 0x81
TIMESTAMPS = 0x83
STRINGS = 0xB1
UUIDS = 0x98
"""Constructors for arrays of the kinds that are sent."""


def encode(value: Any) -> bytes:
    """The bytes of one value, constructor included."""
    return _ENCODERS[type(value)](value)


def encode_list(encoded: list[bytes]) -> bytes:
    """A list of values that are encoded already."""
    body = b"".join(encoded)
    if not encoded:
        return b"\x45"
    return _compound(0xC0, len(encoded), body)


def encode_map(encoded: bytes, count: int) -> bytes:
    """A map from `count` keys and values, one after the other, that are encoded already."""
    return _compound(0xC1, count, encoded)


def _compound(code: int, count: int, body: bytes) -> bytes:
    # The size counts the bytes of the count as well.
    if len(body) < 255 and count < 256:
        return bytes((code, len(body) + 1, count)) + body
    return bytes((code | 0x10,)) + struct.pack(">II", len(body) + 4, count) + body


def _variable(code: int, body: bytes) -> bytes:
    if len(body) < 256:
        return bytes((code, len(body))) + body
    return bytes((code | 0x10,)) + struct.pack(">I", len(body)) + body


def _fixed(code: int, form: str) -> Callable[[Any], bytes]:
    pack = struct.Struct(">B" + form).pack
    return lambda value: pack(code, value)


def _unsigned(zero: bytes, small: int, wide: int, form: str) -> Callable[[Any], bytes]:
    pack = struct.Struct(">B" + form).pack

    def encoder(value: int) -> bytes:
        if 0 < value < 256:
            return bytes((small, value))
        return pack(wide, value) if value else zero

    return encoder


def _signed(small: int, wide: int, form: str) -> Callable[[Any], bytes]:
    pack = struct.Struct(">B" + form).pack
    return lambda value: bytes((small, value & 0xFF)) if -128 <= value < 128 else pack(wide, value)


def _array(value: Array) -> bytes:
    constructor = bytes((value.code,))
    if value.descriptor is not None:
        constructor = b"\x00" + encode(value.descriptor) + constructor
    body = _ARRAY_ITEMS[value.code]
    return _compound(0xE0, len(value.items), constructor + b"".join([body(item) for item in value.items]))


def _pairs(value: dict[Any, Any]) -> bytes:
    return b"".join([encode(part) for pair in value.items() for part in pair])


def _sized(form: str, to_bytes: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    pack = struct.Struct(">" + form).pack

    def encoder(value: Any) -> bytes:
        body = to_bytes(value)
        return pack(len(body)) + body

    return encoder


def _counted(form: str, width: int, parts: Callable[[Any], tuple[int, bytes]]) -> Callable[[Any], bytes]:
    pack = struct.Struct(">" + form * 2).pack

    def encoder(value: Any) -> bytes:
        count, body = parts(value)
        return pack(len(body) + width, count) + body

    return encoder


def _list_parts(value: list[Any]) -> tuple[int, bytes]:
    return len(value), b"".join(map(encode, value))


def _map_parts(value: dict[Any, Any]) -> tuple[int, bytes]:
    return 2 * len(value), _pairs(value)


def _array_parts(value: Array) -> tuple[int, bytes]:
    # An array in an array is written wide, and its constructor stands before its items.
    constructor = bytes((value.code,))
    return len(value.items), constructor + b"".join(map(_ARRAY_ITEMS[value.code], value.items))


def _utf8(value: str) -> bytes:
    return value.encode()


def _ascii(value: str) -> bytes:
    return value.encode("ascii")


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    UByte: _fixed(0x50, "B"),
    Byte: _fixed(0x51, "b"),
    UShort: _fixed(0x60, "H"),
    Short: _fixed(0x61, "h"),
    UInt: _unsigned(b"\x43", 0x52, 0x70, "I"),
    ULong: _unsigned(b"\x44", 0x53, 0x80, "Q"),
    Int: _signed(0x54, 0x71, "i"),
    int: _signed(0x55, 0x81, "q"),
    Float: _fixed(0x72, "f"),
    float: _fixed(0x82, "d"),
    Char: lambda value: b"\x73" + struct.pack(">I", ord(value)),
    Timestamp: _fixed(0x83, "q"),
    UUID: lambda value: b"\x98" + value.bytes,
    Decimal32: lambda value: b"\x74" + value,
    Decimal64: lambda value: b"\x84" + value,
    Decimal128: lambda value: b"\x94" + value,
    bytes: lambda value: _variable(0xA0, value),
    str: lambda value: _variable(0xA1, value.encode()),
    Symbol: lambda value: _variable(0xA3, value.encode("ascii")),
    list: lambda value: encode_list([encode(item) for item in value]),
    dict: lambda value: encode_map(_pairs(value), 2 * len(value)),
    Array: _array,
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
}

_ARRAY_ITEMS: dict[int, Callable[[Any], bytes]] = {
    0x40: lambda _: b"",
    0x41: lambda _: b"",
    0x42: lambda _: b"",
    0x43: lambda _: b"",
    0x44: lambda _: b"",
    0x45: lambda _: b"",
    0x50: struct.Struct(">B").pack,
    0x51: struct.Struct(">b").pack,
    0x52: struct.Struct(">B").pack,
    0x53: struct.Struct(">B").pack,
    0x54: struct.Struct(">b").pack,
    0x55: struct.Struct(">b").pack,
    0x56: lambda value: b"\x01" if value else b"\x00",
    0x60: struct.Struct(">H").pack,
    0x61: struct.Struct(">h").pack,
    0x70: struct.Struct(">I").pack,
    0x71: struct.Struct(">i").pack,
    0x72: struct.Struct(">f").pack,
    0x73: lambda value: struct.pack(">I", ord(value)),
    0x74: bytes,
    0x80: struct.Struct(">Q").pack,
    0x81: struct.Struct(">q").pack,
    0x82: struct.Struct(">d").pack,
    0x83: struct.Struct(">q").pack,
    0x84: bytes,
    0x94: bytes,
    0x98: lambda value: value.bytes,
    0xA0: _sized("B", bytes),
    0xA1: _sized("B", _utf8),
    0xA3: _sized("B", _ascii),
    0xB0: _sized("I", bytes),
    0xB1: _sized("I", _utf8),
    0xB3: _sized("I", _ascii),
    0xC0: _counted("B", 1, _list_parts),
    0xC1: _counted("B", 1, _map_parts),
    0xD0: _counted("I", 4, _list_parts),
    0xD1: _counted("I", 4, _map_parts),
    0xE0: _counted("B", 1, _array_parts),
    0xF0: _counted("I", 4, _array_parts),
}
