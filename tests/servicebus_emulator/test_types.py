"""AMQP's types as bytes: by hand from the specification, and whatever Hypothesis thinks of."""

from __future__ import annotations

import math
import struct
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.servicebus_emulator.amqp.decode import decode, decode_whole, skip
from holdfast.servicebus_emulator.amqp.encode import encode
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

COMPACT: list[tuple[str, Any]] = [
    ("40", None),
    ("41", True),
    ("42", False),
    ("43", UInt(0)),
    ("44", ULong(0)),
    ("45", []),
    ("50 ff", UByte(255)),
    ("51 80", Byte(-128)),
    ("52 ff", UInt(255)),
    ("53 01", ULong(1)),
    ("54 ff", Int(-1)),
    ("55 7f", 127),
    ("60 ffff", UShort(65535)),
    ("61 8000", Short(-32768)),
    ("70 00000100", UInt(256)),
    ("71 00000080", Int(128)),
    ("72 3fc00000", Float(1.5)),
    ("73 0001f600", Char("😀")),
    ("74 22500001", Decimal32(bytes.fromhex("22500001"))),
    ("80 0000000000000100", ULong(256)),
    ("81 ffffffffffffff7f", -129),
    ("82 3ff8000000000000", 1.5),
    ("83 00000000000003e8", Timestamp(1000)),
    ("84 2238000000000001", Decimal64(bytes.fromhex("2238000000000001"))),
    ("94 22080000000000000000000000000001", Decimal128(bytes.fromhex("22080000000000000000000000000001"))),
    ("98 f81d4fae7dec11d0a76500a0c91e6bf6", UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")),
    ("a0 02 00ff", b"\x00\xff"),
    ("a1 1e 48656c6c6f20476c6f72696f7573204d6573736167696e6720576f726c64", "Hello Glorious Messaging World"),
    ("a3 03 666f6f", Symbol("foo")),
    ("c0 05 02 a1 01 61 41", ["a", True]),
    ("c1 06 02 a3 01 6b 55 01", {Symbol("k"): 1}),
    ("e0 0a 02 a3 03 666f6f 03 626172", Array(0xA3, (Symbol("foo"), Symbol("bar")))),
    ("e0 04 01 00 44 40", Array(0x40, (None,), ULong(0))),
    # The specification's own example: a described string, and the descriptor of open.
    ("00 a1 03 55524c a1 03 783a2f", Described("URL", "x:/")),
    ("00 53 10 45", Described(ULong(0x10), [])),
]
WIDE: list[tuple[str, Any]] = [
    ("56 01", True),
    ("56 00", False),
    ("70 00000000", UInt(0)),
    ("80 0000000000000001", ULong(1)),
    ("71 ffffffff", Int(-1)),
    ("81 000000000000007f", 127),
    ("b0 00000002 00ff", b"\x00\xff"),
    ("b1 00000002 c3a9", "é"),
    ("b3 00000003 666f6f", Symbol("foo")),
    ("d0 00000008 00000002 a1 01 61 41", ["a", True]),
    ("d0 00000004 00000000", []),
    ("d1 00000009 00000002 a3 01 6b 55 01", {Symbol("k"): 1}),
    ("f0 0000000d 00000002 71 00000001 ffffffff", Array(0x71, (Int(1), Int(-1)))),
    ("00 80 0000000000000010 d0 00000004 00000000", Described(ULong(0x10), [])),
]


@pytest.mark.parametrize(("written", "value"), COMPACT)
def test_a_value_has_its_most_compact_form(written: str, value: Any) -> None:
    assert encode(value) == bytes.fromhex(written)


@pytest.mark.parametrize(("written", "value"), COMPACT + WIDE)
def test_every_form_of_a_value_is_understood(written: str, value: Any) -> None:
    data = bytes.fromhex(written)
    found = decode_whole(data)
    assert found == value
    assert type(found) is type(value)
    assert skip(data, 0) == len(data)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "57",  # no such constructor
        "56 02",  # a boolean of two
        "70 0000",
        "a1 05 61",
        "a1 01 ff",  # not UTF-8
        "a3 01 ff",  # not ASCII
        "73 00110000",  # beyond Unicode
        "b0 ffffffff 00",
        "c0 02 02 41",
        "c0 03 01 41 41",  # an item too many
        "c1 03 01 41",
        "c1 05 04 41 42 41 42",  # a key twice
        "c1 03 02 45 41",  # a list cannot be a key here
        "d0 00000008 ffffffff 41 41 41 41",
        "f0 00000005 ffffffff 40",  # four billion nulls in no bytes
        "00",
        "00 53",
        "00 53 10",
        "00" * 100_000,
        "c0 ff 01" * 1000,
    ],
)
def test_what_is_no_value_is_refused(written: str) -> None:
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(written))


def test_bytes_after_a_value_are_refused() -> None:
    with pytest.raises(DecodeError):
        decode_whole(b"\x41\x41")


def test_a_type_without_a_form_is_refused() -> None:
    with pytest.raises(KeyError):
        encode({1, 2})


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000])
def test_long_values_use_the_wide_form_and_come_back(size: int) -> None:
    for value in (b"x" * size, "x" * size, Symbol("x" * size), [True] * size, Array(0x50, (UByte(1),) * size)):
        data = encode(value)
        assert decode_whole(data) == value
        assert skip(data, 0) == len(data)


def whole(low: int, high: int, kind: Any = int) -> st.SearchStrategy[Any]:
    return st.integers(low, high).map(kind)


ascii_text = st.text(st.characters(max_codepoint=127), max_size=300)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    whole(0, 2**8 - 1, UByte),
    whole(0, 2**16 - 1, UShort),
    whole(0, 2**32 - 1, UInt),
    whole(0, 2**64 - 1, ULong),
    whole(-(2**7), 2**7 - 1, Byte),
    whole(-(2**15), 2**15 - 1, Short),
    whole(-(2**31), 2**31 - 1, Int),
    whole(-(2**63), 2**63 - 1),
    whole(-(2**63), 2**63 - 1, Timestamp),
    st.floats(),
    st.floats(width=32).map(Float),
    st.characters(exclude_categories=["Cs"]).map(Char),
    st.binary(max_size=300),
    st.text(max_size=300),
    ascii_text.map(Symbol),
    st.uuids(),
    st.binary(min_size=4, max_size=4).map(Decimal32),
    st.binary(min_size=8, max_size=8).map(Decimal64),
    st.binary(min_size=16, max_size=16).map(Decimal128),
)
ARRAYS = st.one_of(
    st.lists(whole(-(2**63), 2**63 - 1), max_size=20).map(lambda items: Array(0x81, tuple(items))),
    st.lists(ascii_text.map(Symbol), max_size=20).map(lambda items: Array(0xB3, tuple(items))),
    st.lists(st.uuids(), max_size=20).map(lambda items: Array(0x98, tuple(items))),
    st.lists(whole(0, 255, UByte), max_size=20).map(lambda items: Array(0x50, tuple(items), Symbol("d"))),
    st.lists(st.lists(st.booleans(), max_size=3), max_size=5).map(lambda items: Array(0xD0, tuple(items))),
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=5) | ascii_text.map(Symbol), inner, max_size=5),
        st.builds(Described, ascii_text.map(Symbol) | whole(0, 2**64 - 1, ULong), inner),
    ),
    max_leaves=20,
)


def shape(value: Any) -> Any:
    """A value with its types, and floats by their bits, so that NaN is like itself."""
    if isinstance(value, float):
        return type(value), math.isnan(value) or struct.pack(">d", value)
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, dict):
        return [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, Array):
        return value.code, [shape(item) for item in value.items], shape(value.descriptor)
    if isinstance(value, Described):
        return "described", shape(value.descriptor), shape(value.value)
    return type(value), value


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    data = encode(value)
    assert shape(decode_whole(data)) == shape(value)
    assert skip(data, 0) == len(data)


@given(st.lists(VALUES, max_size=4), st.binary(max_size=10))
def test_values_in_a_row_end_where_they_end(values: list[Any], before: bytes) -> None:
    data = before + b"".join(map(encode, values))
    at = len(before)
    for value in values:
        assert skip(data, at) == decode(data, at)[1]
        found, at = decode(data, at)
        assert shape(found) == shape(value)
    assert at == len(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_decode_error(data: bytes) -> None:
    try:
        decode(data)
    except DecodeError:
        pass


@given(VALUES, st.data())
def test_a_value_cut_short_is_a_decode_error(value: Any, data: st.DataObject) -> None:
    encoded = encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(DecodeError):
        decode(encoded[:cut])
    with pytest.raises(DecodeError):
        skip(encoded[:cut], 0)
