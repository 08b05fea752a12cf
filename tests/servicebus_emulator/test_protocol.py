"""What the real client never does: hostile bytes, small windows, cut frames, draining, and speaking out of turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.servicebus_emulator.peer import Peer, batch, connected, message

from holdfast.servicebus_emulator.amqp import frames, sections
from holdfast.servicebus_emulator.amqp.decode import decode_whole
from holdfast.servicebus_emulator.amqp.encode import encode
from holdfast.servicebus_emulator.amqp.performatives import (
    RECEIVER,
    Accepted,
    Attach,
    Begin,
    Close,
    Detach,
    Disposition,
    End,
    Error,
    Flow,
    Modified,
    Open,
    Received,
    Rejected,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    Source,
    Target,
    Transfer,
    decode_performative,
    encode_performative,
)


def body(payload: bytes) -> bytes:
    """What the data section of a delivered message says."""
    return decode_whole(sections.split(payload).body).value


async def delivered(peer: Peer) -> bytes:
    """The next whole message."""
    payload = b""
    while True:
        transfer, part = await peer.hear(Transfer)
        payload += part
        if not transfer.more:
            return payload


async def deliver(peer: Peer, queue: str, *bodies: bytes) -> None:
    """Send messages and wait until they are taken."""
    await peer.sender(queue)
    for number, each in enumerate(bodies):
        peer.send(message(each), number)
        await peer.hear(Disposition)


@pytest.mark.parametrize("mechanism", ["ANONYMOUS", "EXTERNAL", "MSSBCBS"])
async def test_sasl_lets_in_who_says_nothing(servicebus, mechanism):
    async with connected(servicebus.port) as peer:
        peer.write(frames.SASL_HEADER)
        assert await peer.frame() == frames.ProtocolHeader(frames.SASL_HEADER)
        offered, _ = await peer.hear(SaslMechanisms)
        assert mechanism in offered.mechanisms.items
        peer.write(frames.frame(encode_performative(SaslInit(mechanism)), kind=frames.SASL))
        assert (await peer.hear(SaslOutcome))[0].code == 0
        peer.write(frames.AMQP_HEADER)
        peer.say(Open("peer"))
        opened, _ = await peer.hear(Open)
        assert (opened.max_frame_size, opened.channel_max) == (65536, 255)


async def test_sasl_refuses_what_it_does_not_know(servicebus):
    async with connected(servicebus.port) as peer:
        peer.write(frames.SASL_HEADER + frames.frame(encode_performative(SaslInit("PLAIN")), kind=frames.SASL))
        assert (await peer.hear(SaslOutcome))[0].code == 1
        assert await peer.frame() is None


async def test_another_protocol_is_told_the_one_that_is_spoken(servicebus):
    async with connected(servicebus.port) as peer:
        peer.write(b"AMQP\x00\x00\x09\x01")
        assert await peer.frame() == frames.ProtocolHeader(frames.AMQP_HEADER)
        assert await peer.frame() is None


DECODE, FRAMING = "amqp:decode-error", "amqp:connection:framing-error"


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", FRAMING),
        (frames.AMQP_HEADER + b"\x00\x00\x00\x07\x02\x00\x00\x00", FRAMING),
        (frames.AMQP_HEADER + b"\x7f\x00\x00\x00\x02\x00\x00\x00", FRAMING),
        (frames.AMQP_HEADER + frames.frame(encode_performative(Open("x" * 1_000_000))), FRAMING),
        (frames.AMQP_HEADER + frames.frame(b"\xff\xff"), DECODE),
        (frames.AMQP_HEADER + frames.frame(b"\x00" * 60_000), DECODE),
        (frames.AMQP_HEADER + frames.frame(encode({})), DECODE),
        (frames.AMQP_HEADER + frames.frame(encode_performative(Begin(None, 0, 1, 1))), "amqp:not-allowed"),
        (frames.AMQP_HEADER + frames.frame(b"", kind=7), FRAMING),
        (frames.SASL_HEADER + frames.frame(b"\xff", kind=frames.SASL), DECODE),
    ],
)
async def test_malformed_input_is_closed_with_its_reason_and_harms_nobody_else(servicebus, data, condition):
    async with connected(servicebus.port) as peer, connected(servicebus.port) as other:
        await other.open()
        peer.write(data)
        closed, _ = await peer.hear(Close)
        assert closed.error.condition == condition
        assert await peer.frame() is None
        other.say(Flow(0, 1, 0, 1, echo=True))
        await other.hear(Flow)


@pytest.mark.parametrize(
    ("said", "condition"),
    [
        (Transfer(9, 0, b"t", 0), "amqp:session:unattached-handle"),
        (Flow(0, 1, 0, 1, 9), "amqp:session:unattached-handle"),
        (Detach(9), "amqp:session:unattached-handle"),
    ],
)
async def test_a_handle_nobody_attached_ends_the_session_only(servicebus, said, condition):
    async with connected(servicebus.port) as peer:
        await peer.open()
        peer.say(said)
        ended, _ = await peer.hear(End)
        assert ended.error.condition == condition
        peer.say(Begin(None, 0, 1, 1), channel=1)
        await peer.hear(Begin)


async def test_a_message_that_is_none_is_rejected_and_the_link_lives_on(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        await peer.sender(queue)
        peer.send(b"no sections", 0)
        refused, _ = await peer.hear(Disposition)
        assert isinstance(refused.state, Rejected)
        assert refused.state.error.condition == DECODE
        peer.send(message(b"good"), 1)
        assert (await peer.hear(Disposition))[0].state == Accepted()
    assert servicebus.counts(queue) == {"active": 1}


async def test_a_batch_with_one_bad_message_is_taken_by_none_of_it(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        await peer.sender(queue)
        peer.send(batch([message(b"good"), b"bad"]), 0, batched=True)
        assert isinstance((await peer.hear(Disposition))[0].state, Rejected)
    assert servicebus.counts(queue) == {}


async def test_an_aborted_delivery_leaves_nothing(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        await peer.sender(queue)
        peer.send(message(b"half"), 0, more=True)
        peer.say(Transfer(0, aborted=True))
        peer.send(message(b"whole"), 1)
        assert (await peer.hear(Disposition))[0].first == 1
    assert servicebus.counts(queue) == {"active": 1}


async def test_messages_are_cut_to_the_clients_frames(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open(max_frame_size=512)
        await deliver(peer, queue, bytes(range(250)) * 20)
        await peer.receiver(queue)
        peer.credit(1)
        payload = await delivered(peer)
        assert body(payload) == bytes(range(250)) * 20


async def test_no_more_frames_come_than_the_window_has_room_for(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open(window=2)
        await deliver(peer, queue, b"a", b"b", b"c")
        await peer.receiver(queue)
        peer.say(Flow(0, 2, 3, 10, 1, 0, 10))
        assert [body(await delivered(peer)) for _ in range(2)] == [b"a", b"b"]
        assert servicebus.counts(queue) == {"active": 1, "locked": 2}
        peer.say(Flow(2, 1, 3, 10))
        assert body(await delivered(peer)) == b"c"


async def test_a_message_of_many_frames_stops_where_the_window_ends(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open(max_frame_size=512, window=3)
        await deliver(peer, queue, bytes(range(200)) * 10)
        await peer.receiver(queue)
        peer.say(Flow(0, 3, 1, 10, 1, 0, 1))
        payload = b""
        for seen in range(1, 4):
            transfer, part = await peer.hear(Transfer)
            payload += part
        peer.say(Flow(3, 0, 1, 10, echo=True))
        flow, _ = await peer.hear((Flow, Transfer))
        assert isinstance(flow, Flow)
        assert flow.next_outgoing_id == seen
        peer.say(Flow(3, 10, 1, 10))
        payload += await delivered(peer)
        assert body(payload) == bytes(range(200)) * 10


async def test_a_slow_client_is_not_sent_all_at_once(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        await peer.sender(queue)
        for number in range(400):
            peer.send(message(bytes(60_000)), number)
            await peer.hear(Disposition)
        await peer.receiver(queue)
        peer.credit(400)
        await delivered(peer)
        # Of 24 MB, some are in the system's buffers now; the others still wait for this client to read.
        assert servicebus.counts(queue)["active"] > 0
        for _ in range(399):
            await delivered(peer)
    assert servicebus.counts(queue) == {"locked": 400}


async def test_no_more_messages_come_than_there_is_credit_for(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        await deliver(peer, queue, b"a", b"b", b"c")
        await peer.receiver(queue)
        peer.credit(1)
        assert body(await delivered(peer)) == b"a"
        peer.say(Flow(1, 1 << 20, 3, 10, 1, 1, 0, echo=True))
        await peer.hear(Flow)
        assert servicebus.counts(queue) == {"active": 2, "locked": 1}
        # Credit counts from what the client has seen: one of these two is under way already.
        peer.credit(2, count=0)
        assert body(await delivered(peer)) == b"b"
        assert servicebus.counts(queue) == {"active": 1, "locked": 2}


async def test_draining_returns_the_credit_that_is_left(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        await deliver(peer, queue, b"a")
        await peer.receiver(queue)
        peer.credit(10, drain=True)
        assert body(await delivered(peer)) == b"a"
        flow, _ = await peer.hear(Flow)
        assert (flow.delivery_count, flow.link_credit, flow.drain) == (10, 0, True)


async def test_a_range_of_deliveries_is_settled_at_once(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        await deliver(peer, queue, *[b"x"] * 5)
        await peer.receiver(queue)
        peer.credit(5)
        for _ in range(5):
            await delivered(peer)
        peer.say(Disposition(RECEIVER, 1, 3, False, Accepted()))
        for number in (1, 2, 3):
            outcome, _ = await peer.hear(Disposition)
            assert (outcome.first, outcome.settled, outcome.state) == (number, True, Accepted())
        # A range is the client's word, however long it says it is.
        peer.say(Disposition(RECEIVER, 0, 2**32 - 1, False, Modified(True)))
        for number in (0, 4):
            assert (await peer.hear(Disposition))[0] == Disposition(False, number, number, True, Modified(True))
    assert servicebus.counts(queue) == {"active": 2}


@pytest.mark.parametrize("state", [Received(0, 0), None])
async def test_a_state_that_decides_nothing_settles_nothing(servicebus, queue, state):
    async with connected(servicebus.port) as peer:
        await peer.open()
        await deliver(peer, queue, b"x")
        await peer.receiver(queue)
        peer.credit(1)
        await delivered(peer)
        peer.say(Disposition(RECEIVER, 0, 0, False, state))
        peer.say(Flow(1, 1 << 20, 1, 10, echo=True))
        await peer.hear(Flow)
    assert servicebus.counts(queue) == {"locked": 1}


async def test_the_locks_of_a_lost_connection_last_until_their_end(servicebus, declare):
    queue = declare(lock=30)
    async with connected(servicebus.port) as peer:
        await peer.open()
        await deliver(peer, queue, b"a", b"b")
        await peer.receiver(queue)
        peer.credit(2)
        await delivered(peer)
        await delivered(peer)
    assert servicebus.counts(queue) == {"locked": 2}
    servicebus.move(30)
    assert servicebus.counts(queue) == {"active": 2}


@pytest.mark.parametrize("clean", [True, False])
async def test_a_session_is_free_at_once_only_if_it_was_given_back(servicebus, declare, clean):
    queue = declare(sessions=True)
    wanted = Source(queue, filter={"com.microsoft:session-filter": "one"})

    async def attach(peer: Peer) -> Any:
        await peer.open()
        peer.say(Attach("receiver", 1, RECEIVER, 0, 1, wanted, Target("here")))
        attached, _ = await peer.hear(Attach)
        return attached

    async with connected(servicebus.port) as peer:
        await attach(peer)
        if clean:
            peer.say(Detach(1, True))
            await peer.hear(Detach)
    async with connected(servicebus.port) as peer:
        attached = await attach(peer)
        assert (attached.source is not None) == clean
        if not clean:
            refused, _ = await peer.hear(Detach)
            assert refused.error.condition == "com.microsoft:session-cannot-be-locked"


async def test_replies_without_credit_wait(servicebus, queue):
    async with connected(servicebus.port) as peer:
        await peer.open()
        address = f"{queue}/$management"
        await peer.sender(address)
        await peer.receiver(address)
        for number in range(2):
            parts = [
                sections.described(sections.PROPERTIES, encode([f"id-{number}", None, None, None, "here"])),
                sections.described(sections.APPLICATION_PROPERTIES, encode({"operation": "com.microsoft:nonsense"})),
                sections.described(sections.VALUE, encode({})),
            ]
            peer.send(b"".join(parts), number)
            await peer.hear(Disposition)
        for number in range(2):
            peer.credit(1, count=number)
            reply = sections.split(await delivered(peer))
            assert sections.fields(reply.properties)[5] == f"id-{number}"
            known = decode_whole(reply.application_properties)
            assert (known["statusCode"], known["errorCondition"]) == (400, "amqp:not-implemented")


async def test_a_silent_client_hears_that_the_broker_lives(servicebus):
    async with connected(servicebus.port) as peer:
        peer.write(frames.AMQP_HEADER)
        peer.say(Open("peer", idle_time_out=200))
        await peer.hear(Open)
        assert await peer.frame() == frames.Frame(0, 0, b"")


async def test_a_close_is_answered(servicebus):
    async with connected(servicebus.port) as peer:
        await peer.open()
        peer.say(Close(Error("amqp:internal-error")))
        assert (await peer.hear(Close))[0] == Close()
        assert await peer.frame() is None


async def test_random_bytes_kill_nobody(servicebus):
    """Many broken connections in a row, cut off at any point, and the next good one works."""
    good = frames.AMQP_HEADER + b"".join(
        frames.frame(encode_performative(said))
        for said in (Open("peer"), Begin(None, 0, 10, 10), Attach("a", 0, False, 0, 0, Source("a"), Target("fuzz")))
    )
    for at in range(0, len(good), 7):
        reader, writer = await asyncio.open_connection("127.0.0.1", servicebus.port)
        writer.write(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
    async with connected(servicebus.port) as peer:
        await peer.open()
        await deliver(peer, "fuzz", b"x")


async def test_a_receiver_must_name_a_source_and_a_sender_a_target(servicebus):
    async with connected(servicebus.port) as peer:
        await peer.open()
        for handle, said in enumerate(
            [
                Attach("a", 0, RECEIVER, 0, 0, Target("q"), Target("q")),
                Attach("b", 1, False, 0, 0, Source("q"), Source("q")),
                Attach("c", 2, RECEIVER, 0, 0, None, Target("q")),
                Attach("d", 3, RECEIVER, 0, 0, Source(dynamic=True), Target("q")),
            ]
        ):
            peer.say(said)
            refused, _ = await peer.hear(Detach)
            assert (refused.handle, refused.error.condition) == (handle, "amqp:not-implemented")


def test_what_a_peer_says_is_what_the_other_hears():
    said = Attach("n", 0, True, source=Source("q"), target=Target("t"))
    assert decode_performative(encode_performative(said))[0] == said
