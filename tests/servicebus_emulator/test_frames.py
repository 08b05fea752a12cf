"""Frames out of a stream that was cut anywhere, and what they say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.servicebus_emulator.amqp import frames, performatives, sections
from holdfast.servicebus_emulator.amqp.encode import encode
from holdfast.servicebus_emulator.amqp.frames import Frame, FrameReader, ProtocolHeader
from holdfast.servicebus_emulator.amqp.performatives import decode_performative, encode_performative
from holdfast.servicebus_emulator.amqp.types import (
    Array,
    DecodeError,
    Described,
    FramingError,
    Symbol,
    UInt,
    ULong,
)

FRAMES = [Frame(0, 0, b""), Frame(0, 7, b"a body"), Frame(1, 0, b"sasl"), Frame(0, 65535, b"x" * 500)]
STREAM = frames.SASL_HEADER + b"".join(frames.frame(f.body, channel=f.channel, kind=f.kind) for f in FRAMES)


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_frames_are_found_however_the_stream_is_cut(cuts: list[int]) -> None:
    reader = FrameReader(1024)
    found: list[Any] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for begin, end in zip(edges, edges[1:], strict=False):
        found += reader.feed(STREAM[begin:end])
    assert found == [ProtocolHeader(frames.SASL_HEADER), *FRAMES]


def test_an_extended_header_is_passed_over() -> None:
    data = bytes.fromhex("0000000e 03 00 0001 deadbeef 4142")
    assert list(FrameReader(512).feed(data)) == [Frame(0, 1, b"AB")]


@pytest.mark.parametrize(
    "written", ["00000007 02 00 0000", "00000201 02 00 0000", "00000008 01 00 0000", "00000008 03 00 0000"]
)
def test_a_frame_that_cannot_be_is_refused(written: str) -> None:
    with pytest.raises(FramingError):
        list(FrameReader(512).feed(bytes.fromhex(written)))


def test_what_came_before_a_bad_frame_is_kept() -> None:
    found: list[Any] = []
    with pytest.raises(FramingError):
        for frame in FrameReader(512).feed(frames.frame(b"good") + b"\xff" * 8):
            found.append(frame)
    assert found == [Frame(0, 0, b"good")]


def test_open_is_the_bytes_the_specification_says() -> None:
    said = performatives.Open("id", None, 512)
    assert encode_performative(said) == bytes.fromhex("00 53 10 c0 0e 04 a1 02 6964 40 70 00000200 60 ffff")


SAID = [
    performatives.Open("id", "host", 65536, 255, 1000, properties={Symbol("product"): "x"}),
    performatives.Begin(None, 1, 2, 3),
    performatives.Begin(4, 1, 2, 3, 255),
    performatives.Attach("name", 0, True, 0, 1, performatives.Source("q"), performatives.Target("t")),
    performatives.Flow(None, 1, 2, 3, 4, 5, 6, 7, True, True),
    performatives.Transfer(0, 1, b"tag", 0, False, True, state=performatives.Received(1, 2)),
    performatives.Disposition(True, 1, 2, True, performatives.Accepted()),
    performatives.Disposition(True, 1, None, True, performatives.Modified(True, True, {Symbol("a"): 1})),
    performatives.Detach(1, True, performatives.Error("amqp:not-found", "no", {Symbol("a"): "b"})),
    performatives.End(),
    performatives.Close(performatives.Error("amqp:decode-error")),
    performatives.SaslMechanisms(Array(0xB3, (Symbol("ANONYMOUS"),))),
    performatives.SaslInit("ANONYMOUS", b"me"),
    performatives.SaslOutcome(0),
]


@pytest.mark.parametrize("said", SAID, ids=lambda said: type(said).__name__)
def test_what_is_said_is_understood(said: Any) -> None:
    body = encode_performative(said) + b"payload"
    assert decode_performative(body) == (said, len(body) - 7)


@pytest.mark.parametrize(
    "value",
    [
        Described(ULong(0x99), []),
        Described(ULong(0x14), []),  # a transfer without a handle
        Described(ULong(0x14), ["zero"]),
        Described(ULong(0x16), [UInt(0), True, None, None]),  # a field too many
        Described([], []),
        [],
        "open",
    ],
)
def test_what_nobody_can_mean_is_refused(value: Any) -> None:
    with pytest.raises(DecodeError):
        decode_performative(encode(value))


def test_a_performative_may_be_named_by_its_symbol() -> None:
    said, _ = decode_performative(encode(Described(Symbol("amqp:detach:list"), [UInt(3)])))
    assert said == performatives.Detach(3)


def test_sections_are_found_in_any_order_and_stay_the_bytes_they_are() -> None:
    properties = bytes.fromhex("d0 00000006 00000001 a1 00")  # wider than it need be
    body = sections.described(sections.DATA, encode(b"one")) + sections.described(sections.DATA, encode(b"two"))
    message = (
        sections.described(sections.PROPERTIES, properties)
        + body
        + sections.described(sections.DELIVERY_ANNOTATIONS, encode({Symbol("x"): 1}))
    )
    assert sections.split(message) == sections.Sections(b"", b"", properties, b"", body, b"")


@pytest.mark.parametrize(
    "message", [b"x", b"\x00", b"\x00\x53", b"\x00\x53\x10\x45", b"\x00\x53\x75", b"\x00\x53\x70\x45" * 2]
)
def test_a_message_that_is_not_made_of_sections_is_refused(message: bytes) -> None:
    with pytest.raises(DecodeError):
        sections.split(message)
