"""Bytes to values, from every form AMQP allows. Whatever else they are, it raises DecodeError and nothing else."""

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
    DecodeError,
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

EMPTY_ITEMS = 10_000
"""Arrays of values without bytes may say that they have so many items; more would be memory for nothing."""

Decoder = Callable[[bytes, int], tuple[Any, int]]


def decode(data: bytes, at: int = 0) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends."""
    try:
        value, end = _DECODERS[data[at]](data, at + 1)
    except DecodeError:
        raise
    except (IndexError, struct.error) as error:
        raise DecodeError("a value ends too early") from error
    except RecursionError as error:
        raise DecodeError("values are nested too deeply") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise DecodeError(f"a value cannot be read: {error}") from error
    if end > len(data):
        raise DecodeError("a value ends too early")
    return value, end


def decode_whole(data: bytes) -> Any:
    """The one value that these bytes are."""
    value, end = decode(data)
    if end != len(data):
        raise DecodeError(f"{len(data) - end} bytes are left after a value")
    return value


def skip(data: bytes, at: int) -> int:
    """Where the value that begins at `at` ends, without reading it."""
    try:
        code = data[at]
        while code == 0:
            at = skip(data, at + 1)
            code = data[at]
        width = code >> 4
        if width == 0xA or width == 0xC or width == 0xE:
            end = at + 2 + data[at + 1]
        elif width == 0xB or width == 0xD or width == 0xF:
            end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")
        else:
            end = at + 1 + _WIDTHS[width]
    except (IndexError, KeyError, RecursionError) as error:
        raise DecodeError("a value ends too early, or is of no known type") from error
    if end > len(data):
        raise DecodeError("a value ends too early")
    return end


_WIDTHS = {4: 0, 5: 1, 6: 2, 7: 4, 8: 8, 9: 16}


def _unknown(_data: bytes, _at: int) -> tuple[Any, int]:
    raise DecodeError("there is no type of this constructor")


def _constant(value: Any) -> Decoder:
    return lambda _data, at: (value, at)


def _fixed(form: str, kind: Callable[[Any], Any]) -> Decoder:
    made = struct.Struct(">" + form)
    unpack, size = made.unpack_from, made.size

    def decoder(data: bytes, at: int) -> tuple[Any, int]:
        return kind(unpack(data, at)[0]), at + size

    return decoder


def _byte_as(kind: Callable[[Any], Any]) -> Decoder:
    return lambda data, at: (kind(data[at]), at + 1)


def _plain(value: Any) -> Any:
    return value


def _boolean(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] > 1:
        raise DecodeError("a boolean is neither 0 nor 1")
    return data[at] == 1, at + 1


def _raw(size: int, kind: Callable[[bytes], Any]) -> Decoder:
    def decoder(data: bytes, at: int) -> tuple[Any, int]:
        if at + size > len(data):
            raise DecodeError("a value ends too early")
        return kind(data[at : at + size]), at + size

    return decoder


def _uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


def _ascii(data: bytes) -> Symbol:
    return Symbol(data, "ascii")


def _utf8(data: bytes) -> str:
    return str(data, "utf-8")


def _short(kind: Callable[[bytes], Any]) -> Decoder:
    def decoder(data: bytes, at: int) -> tuple[Any, int]:
        end = at + 1 + data[at]
        if end > len(data):
            raise DecodeError("a value ends too early")
        return kind(data[at + 1 : end]), end

    return decoder


def _long(kind: Callable[[bytes], Any]) -> Decoder:
    def decoder(data: bytes, at: int) -> tuple[Any, int]:
        (size,) = _LENGTH(data, at)
        end = at + 4 + size
        if end > len(data):
            raise DecodeError("a value ends too early")
        return kind(data[at + 4 : end]), end

    return decoder


_LENGTH = struct.Struct(">I").unpack_from
_LENGTHS = struct.Struct(">II").unpack_from


def _sizes(data: bytes, at: int, wide: bool) -> tuple[int, int, int]:
    """Of a compound value: how many items it has, where they begin, where it ends."""
    if wide:
        size, count = _LENGTHS(data, at)
        begin, end = at + 8, at + 4 + size
    else:
        size, count = data[at], data[at + 1]
        begin, end = at + 2, at + 1 + size
    if end > len(data) or begin > end:
        raise DecodeError("a compound value ends too early")
    return count, begin, end


def _items(data: bytes, at: int, wide: bool) -> tuple[list[Any], int]:
    count, at, end = _sizes(data, at, wide)
    if count > end - at:
        raise DecodeError("a compound value has more items than bytes")
    items: list[Any] = []
    decoders = _DECODERS
    for _ in range(count):
        item, at = decoders[data[at]](data, at + 1)
        items.append(item)
    if at != end:
        raise DecodeError("a compound value is not as long as it says")
    return items, end


def _list(wide: bool) -> Decoder:
    return lambda data, at: _items(data, at, wide)


def _map(wide: bool) -> Decoder:
    def decoder(data: bytes, at: int) -> tuple[Any, int]:
        items, end = _items(data, at, wide)
        if len(items) % 2:
            raise DecodeError("a map has a key without a value")
        made = dict(zip(items[::2], items[1::2], strict=True))
        if len(made) * 2 != len(items):
            raise DecodeError("a map has one key twice")
        return made, end

    return decoder


def _array(wide: bool) -> Decoder:
    def decoder(data: bytes, at: int) -> tuple[Any, int]:
        count, at, end = _sizes(data, at, wide)
        descriptor: Any = None
        code, at = data[at], at + 1
        if code == 0:
            descriptor, at = _DECODERS[data[at]](data, at + 1)
            code, at = data[at], at + 1
        if count > (EMPTY_ITEMS if code >> 4 == 4 else end - at):
            raise DecodeError("an array has more items than bytes")
        items: list[Any] = []
        decoder_of_all = _DECODERS[code]
        for _ in range(count):
            item, at = decoder_of_all(data, at)
            items.append(item)
        if at != end:
            raise DecodeError("an array is not as long as it says")
        return Array(code, tuple(items), descriptor), end

    return decoder


def _described(data: bytes, at: int) -> tuple[Any, int]:
    descriptor, at = _DECODERS[data[at]](data, at + 1)
    value, at = _DECODERS[data[at]](data, at + 1)
    return Described(descriptor, value), at


def _empty_list(_data: bytes, at: int) -> tuple[Any, int]:
    return [], at


_KNOWN: dict[int, Decoder] = {
    0x00: _described,
    0x40: _constant(None),
    0x41: _constant(True),
    0x42: _constant(False),
    0x43: _constant(UInt(0)),
    0x44: _constant(ULong(0)),
    0x45: _empty_list,
    0x50: _byte_as(UByte),
    0x51: _fixed("b", Byte),
    0x52: _byte_as(UInt),
    0x53: _byte_as(ULong),
    0x54: _fixed("b", Int),
    0x55: _fixed("b", _plain),
    0x56: _boolean,
    0x60: _fixed("H", UShort),
    0x61: _fixed("h", Short),
    0x70: _fixed("I", UInt),
    0x71: _fixed("i", Int),
    0x72: _fixed("f", Float),
    0x73: _fixed("I", lambda value: Char(chr(value))),
    0x74: _raw(4, Decimal32),
    0x80: _fixed("Q", ULong),
    0x81: _fixed("q", _plain),
    0x82: _fixed("d", _plain),
    0x83: _fixed("q", Timestamp),
    0x84: _raw(8, Decimal64),
    0x94: _raw(16, Decimal128),
    0x98: _raw(16, _uuid),
    0xA0: _short(bytes),
    0xA1: _short(_utf8),
    0xA3: _short(_ascii),
    0xB0: _long(bytes),
    0xB1: _long(_utf8),
    0xB3: _long(_ascii),
    0xC0: _list(False),
    0xC1: _map(False),
    0xD0: _list(True),
    0xD1: _map(True),
    0xE0: _array(False),
    0xF0: _array(True),
}
_DECODERS: list[Decoder] = [_KNOWN.get(code, _unknown) for code in range(256)]
