"""The real client against the emulator: what it can do with a queue, it does as with Service Bus itself."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import AutoLockRenewer, ServiceBusClient, ServiceBusReceiver
from azure.servicebus.amqp import AmqpAnnotatedMessage
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    OperationTimeoutError,
    ServiceBusError,
    SessionCannotBeLockedError,
    SessionLockLostError,
)
from tests.servicebus import servicebus_emulator

SOON = 5.0
"""Seconds to wait for what is there already."""
NEVER = 0.5
"""Seconds to wait for what must not come."""


async def send(client, queue, *messages):
    async with client.get_queue_sender(queue) as sender:
        for each in messages:
            await sender.send_messages(each)


def message(body, **fields):
    return ServiceBusMessage(body, **fields)


async def test_a_message_arrives_as_it_was_sent(client, queue):
    sent = ServiceBusMessage(
        b"\x00body\xff",
        application_properties={"text": "é", "number": 1 << 30, "yes": True, "id": UUID(int=7), "share": 0.5},
        message_id="the-id",
        correlation_id="other",
        content_type="application/x",
        subject="about",
        to="there",
        reply_to="here",
        reply_to_session_id="s",
        session_id="mine",
        partition_key="mine",
    )
    await send(client, queue, sent)
    async with client.get_queue_receiver(queue) as receiver:
        (found,) = await receiver.receive_messages(max_wait_time=SOON)
        assert b"".join(found.body) == b"\x00body\xff"
        assert found.application_properties == {
            b"text": "é".encode(),
            b"number": 1 << 30,
            b"yes": True,
            b"id": UUID(int=7),
            b"share": 0.5,
        }
        for name in ("message_id", "correlation_id", "content_type", "subject", "to", "reply_to", "partition_key"):
            assert getattr(found, name) == getattr(sent, name)
        assert (found.session_id, found.reply_to_session_id) == ("mine", "s")
        assert (found.sequence_number, found.delivery_count) == (1, 0)
        assert isinstance(found.lock_token, UUID)
        assert 60 <= (found.locked_until_utc - found.enqueued_time_utc).total_seconds() < 70


async def test_bodies_of_all_kinds_arrive(client, queue):
    value = AmqpAnnotatedMessage(value_body={"a": [1, "b"]}, footer={"f": 1}, annotations={"mine": 1})
    sequence = AmqpAnnotatedMessage(sequence_body=[[1, 2], ["x"]])
    await send(client, queue, value, sequence, message(""))
    async with client.get_queue_receiver(queue, prefetch_count=5) as receiver:
        found = [(await receiver.receive_messages(max_wait_time=SOON))[0].raw_amqp_message for _ in range(3)]
        assert found[0].body == {b"a": [1, b"b"]}
        assert (found[0].footer, found[0].annotations[b"mine"]) == ({b"f": 1}, 1)
        assert list(found[1].body) == [[1, 2], [b"x"]]
        assert b"".join(found[2].body) == b""


async def test_a_batch_arrives_in_its_order(client, queue, servicebus):
    async with client.get_queue_sender(queue) as sender:
        batch = await sender.create_message_batch()
        for number in range(200):
            batch.add_message(message(str(number)))
        await sender.send_messages(batch)
    async with client.get_queue_receiver(queue, prefetch_count=300) as receiver:
        found = []
        while len(found) < 200:
            found += await receiver.receive_messages(200, max_wait_time=SOON)
        assert [str(each) for each in found] == [str(number) for number in range(200)]
        for each in found:
            await receiver.complete_message(each)
    assert servicebus.counts(queue) == {}


async def test_a_large_message_goes_both_ways_in_many_frames(client, queue):
    body = bytes(range(256)) * 3000
    await send(client, queue, message(body))
    async with client.get_queue_receiver(queue) as receiver:
        (found,) = await receiver.receive_messages(max_wait_time=SOON)
        assert b"".join(found.body) == body
        await receiver.complete_message(found)


async def test_a_message_beyond_the_limit_is_refused(client, queue):
    with pytest.raises(MessageSizeExceededError):
        await send(client, queue, message(b"x" * 2_000_000))


async def test_settlements_do_what_they_say(client, queue, servicebus):
    await send(client, queue, [message(name) for name in ("complete", "abandon", "defer", "dead")])
    async with client.get_queue_receiver(queue, prefetch_count=10) as receiver:
        complete, abandon, defer, dead = await receiver.receive_messages(4, max_wait_time=SOON)
        await receiver.complete_message(complete)
        await receiver.defer_message(defer)
        await receiver.dead_letter_message(dead, reason="why", error_description="so")
        assert servicebus.counts(queue) == {"locked": 1, "deferred": 1, "dead": 1}
        await receiver.abandon_message(abandon)
        (again,) = await receiver.receive_messages(max_wait_time=SOON)
        assert (str(again), again.delivery_count) == ("abandon", 1)
        (deferred,) = await receiver.receive_deferred_messages(defer.sequence_number)
        assert (str(deferred), deferred.delivery_count) == ("defer", 1)
        await receiver.complete_message(deferred)
        await receiver.complete_message(again)
        with pytest.raises(MessageNotFoundError):
            await receiver.receive_deferred_messages(defer.sequence_number)
    assert servicebus.counts(queue) == {"dead": 1}


@pytest.mark.parametrize("suffix", ["$deadletterqueue", "$DeadLetterQueue"])
async def test_dead_letters_say_why_they_died(client, queue, servicebus, suffix):
    await send(client, queue, message("x", application_properties={"kept": 1}))
    async with client.get_queue_receiver(queue) as receiver:
        (found,) = await receiver.receive_messages(max_wait_time=SOON)
        await receiver.dead_letter_message(found, reason="why", error_description="so")
    async with client.get_queue_receiver(f"{queue}/{suffix}") as receiver:
        (dead,) = await receiver.receive_messages(max_wait_time=SOON)
        assert (dead.dead_letter_reason, dead.dead_letter_error_description) == ("why", "so")
        assert dead.dead_letter_source == queue
        assert dead.application_properties[b"kept"] == 1
        await receiver.complete_message(dead)
    assert servicebus.counts(queue) == {}


async def test_too_many_deliveries_lead_to_the_dead_letters(client, declare):
    queue = declare(max_delivery_count=2)
    await send(client, queue, message("x"))
    async with client.get_queue_receiver(queue) as receiver:
        for _ in range(2):
            (found,) = await receiver.receive_messages(max_wait_time=SOON)
            await receiver.abandon_message(found)
    async with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as receiver:
        (dead,) = await receiver.receive_messages(max_wait_time=SOON)
        assert (dead.dead_letter_reason, dead.delivery_count) == ("MaxDeliveryCountExceeded", 2)


async def test_expired_messages_lead_to_the_dead_letters_if_the_queue_says_so(client, declare, servicebus):
    queue = declare(ttl=60, dead_letter_expired=True)
    await send(client, queue, message("x"))
    servicebus.move(60)
    assert servicebus.counts(queue) == {"dead": 1}
    async with client.get_queue_receiver(queue, sub_queue="deadletter") as receiver:
        (dead,) = await receiver.receive_messages(max_wait_time=SOON)
        assert dead.dead_letter_reason == "TTLExpiredException"


async def test_received_and_deleted_is_gone(client, queue, servicebus):
    await send(client, queue, [message("a"), message("b")])
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with client.get_queue_receiver(queue, receive_mode=mode) as receiver:
        found = await receiver.receive_messages(2, max_wait_time=SOON)
        assert [str(each) for each in found] == ["a", "b"]
        assert servicebus.counts(queue) == {}


async def test_an_empty_queue_is_waited_for_as_long_as_was_said(client, queue):
    async with client.get_queue_receiver(queue) as receiver:
        begun = asyncio.get_running_loop().time()
        assert await receiver.receive_messages(max_wait_time=NEVER) == []
        assert NEVER <= asyncio.get_running_loop().time() - begun < 5


async def test_iterating_ends_when_nothing_comes(client, queue):
    await send(client, queue, message("a"), message("b"))
    async with client.get_queue_receiver(queue, max_wait_time=NEVER) as receiver:
        found = []
        async for each in receiver:
            found.append(str(each))
            await receiver.complete_message(each)
    assert found == ["a", "b"]


async def test_scheduled_messages_appear_in_time(client, queue, servicebus):
    async with client.get_queue_sender(queue) as sender:
        kept, cancelled = await sender.schedule_messages(
            [message("kept"), message("cancelled")], servicebus.moment(100)
        )
        (also,) = await sender.schedule_messages(message("also"), servicebus.moment(100))
        assert servicebus.counts(queue) == {"scheduled": 3}
        await sender.cancel_scheduled_messages([cancelled])
        with pytest.raises(MessageNotFoundError):
            await sender.cancel_scheduled_messages(cancelled)
        servicebus.move(90)
        assert servicebus.counts(queue) == {"scheduled": 2}
        servicebus.move(10)
        assert servicebus.counts(queue) == {"active": 2}
    async with client.get_queue_receiver(queue) as receiver:
        found = await receiver.receive_messages(2, max_wait_time=SOON)
        assert {str(each) for each in found} == {"kept", "also"}
        assert min(each.sequence_number for each in found) > max(kept, also)


async def test_a_message_may_bring_its_own_schedule(client, queue, servicebus):
    await send(client, queue, message("x", scheduled_enqueue_time_utc=servicebus.moment(100)))
    assert servicebus.counts(queue) == {"scheduled": 1}
    servicebus.move(100)
    assert servicebus.counts(queue) == {"active": 1}


async def test_looking_takes_nothing(client, queue, servicebus):
    await send(client, queue, [message(name) for name in "abc"])
    async with client.get_queue_receiver(queue) as receiver:
        assert [str(each) for each in await receiver.peek_messages(2)] == ["a", "b"]
        assert [str(each) for each in await receiver.peek_messages(5)] == ["c"]
        assert await receiver.peek_messages(5) == []
        assert servicebus.counts(queue) == {"active": 3}


async def test_a_lock_that_ends_gives_the_message_to_another(client, declare, servicebus):
    queue = declare(lock=30)
    await send(client, queue, message("x"))
    async with client.get_queue_receiver(queue) as slow, client.get_queue_receiver(queue) as quick:
        (lost,) = await slow.receive_messages(max_wait_time=SOON)
        servicebus.move(30)
        (found,) = await quick.receive_messages(max_wait_time=SOON)
        assert found.delivery_count == 1
        with pytest.raises(MessageLockLostError):
            await slow.complete_message(lost)
        await quick.complete_message(found)


async def test_a_renewed_lock_lasts(client, declare, servicebus):
    queue = declare(lock=30)
    await send(client, queue, message("x"))
    async with client.get_queue_receiver(queue) as receiver:
        (found,) = await receiver.receive_messages(max_wait_time=SOON)
        servicebus.move(20)
        before = found.locked_until_utc
        assert (await receiver.renew_message_lock(found) - before).total_seconds() >= 20
        servicebus.move(20)
        token = found.lock_token
        await receiver.complete_message(found)
        with pytest.raises(MessageLockLostError):
            await receiver._renew_locks(token)
    assert servicebus.counts(queue) == {}


async def test_the_clients_own_renewer_keeps_a_lock(monkeypatch):
    renewed = asyncio.Event()
    renew = ServiceBusReceiver.renew_message_lock

    async def noticed(*args, **kwargs):
        done = await renew(*args, **kwargs)
        renewed.set()
        return done

    monkeypatch.setattr(ServiceBusReceiver, "renew_message_lock", noticed)
    # The client compares the lock's end with its own clock, so that no other test may have moved the emulator's.
    with servicebus_emulator("--queue", "q:lock=9") as own:
        async with ServiceBusClient.from_connection_string(own.connection_string) as client:
            await send(client, "q", message("x"))
            async with client.get_queue_receiver("q") as receiver, AutoLockRenewer() as renewer:
                (found,) = await receiver.receive_messages(max_wait_time=SOON)
                before = found.locked_until_utc
                renewer.register(receiver, found, max_lock_renewal_duration=60)
                await asyncio.wait_for(renewed.wait(), 20)
                assert found.locked_until_utc > before
                await receiver.complete_message(found)
        assert own.counts("q") == {}


async def test_a_closed_receiver_releases_what_nobody_asked_for_yet(client, queue, servicebus):
    await send(client, queue, [message(name) for name in "abc"])
    async with client.get_queue_receiver(queue, prefetch_count=10) as receiver:
        await receiver.receive_messages(max_wait_time=SOON)
        assert servicebus.counts(queue) == {"locked": 3}
    assert servicebus.counts(queue) == {"locked": 1, "active": 2}
    async with client.get_queue_receiver(queue) as receiver:
        (found,) = await receiver.receive_messages(max_wait_time=SOON)
        assert (str(found), found.delivery_count) == ("b", 0)


async def test_many_receivers_share_a_queue(client, queue, servicebus):
    await send(client, queue, [message(str(number)) for number in range(60)])
    found: list[str] = []

    async def work() -> int:
        mine = 0
        async with client.get_queue_receiver(queue, max_wait_time=1.0, prefetch_count=5) as receiver:
            async for each in receiver:
                found.append(str(each))
                mine += 1
                await receiver.complete_message(each)
        return mine

    shares = await asyncio.gather(*[work() for _ in range(3)])
    assert sorted(found, key=int) == [str(number) for number in range(60)]
    assert min(shares) > 0
    assert servicebus.counts(queue) == {}


async def test_a_second_message_with_one_id_is_dropped_within_the_window(client, declare, servicebus):
    queue = declare(duplicate_window=60)
    await send(client, queue, message("a", message_id="1"), message("b", message_id="1"))
    assert servicebus.counts(queue) == {"active": 1}
    servicebus.move(60)
    await send(client, queue, message("c", message_id="1"))
    assert servicebus.counts(queue) == {"active": 2}


# --- sessions


async def test_a_session_keeps_its_order_and_its_state(client, declare, servicebus):
    queue = declare(sessions=True)
    await send(client, queue, *[message(f"{s}{n}", session_id=s) for n in range(3) for s in "ab"])
    async with client.get_queue_receiver(queue, session_id="b", prefetch_count=5) as receiver:
        assert receiver.session.session_id == "b"
        assert await receiver.session.get_state() is None
        await receiver.session.set_state(b"half way")
        found = await receiver.receive_messages(3, max_wait_time=SOON)
        assert [str(each) for each in found] == ["b0", "b1", "b2"]
        await receiver.abandon_message(found[0])
        (again,) = await receiver.receive_messages(max_wait_time=SOON)
        assert (str(again), again.delivery_count) == ("b0", 1)
        for each in (again, *found[1:]):
            await receiver.complete_message(each)
    async with client.get_queue_receiver(queue, session_id="b") as receiver:
        assert await receiver.session.get_state() == b"half way"
    assert servicebus.counts(queue) == {"active": 3}
    assert [name async for name in client.list_queue_sessions(queue)] == ["a", "b"]


async def test_the_next_session_is_one_with_messages(client, declare):
    queue = declare(sessions=True)
    await send(client, queue, message("x", session_id="one"))
    async with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=SOON) as receiver:
        assert receiver.session.session_id == "one"
        assert [str(each) for each in await receiver.receive_messages(max_wait_time=SOON)] == ["x"]


async def test_a_receiver_waits_for_a_session_and_gives_up_in_time(client, declare):
    queue = declare(sessions=True)
    with pytest.raises(OperationTimeoutError):
        async with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=1):
            pass

    async def accept() -> str:
        async with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=20) as receiver:
            return receiver.session.session_id

    accepting = asyncio.create_task(accept())
    await send(client, queue, message("x", session_id="late"))
    assert await asyncio.wait_for(accepting, 20) == "late"


async def test_a_held_session_cannot_be_had(client, declare):
    queue = declare(sessions=True)
    async with client.get_queue_receiver(queue, session_id="one"):
        with pytest.raises(SessionCannotBeLockedError):
            async with client.get_queue_receiver(queue, session_id="one"):
                pass


async def test_a_session_lock_is_renewed_or_lost(client, declare, servicebus):
    queue = declare(sessions=True, lock=30)
    await send(client, queue, message("x", session_id="one"))
    async with client.get_queue_receiver(queue, session_id="one") as receiver:
        (found,) = await receiver.receive_messages(max_wait_time=SOON)
        before = receiver.session.locked_until_utc
        servicebus.move(20)
        assert (await receiver.session.renew_lock() - before).total_seconds() >= 20
        servicebus.move(30)
        async with client.get_queue_receiver(queue, session_id="one") as other:
            (again,) = await other.receive_messages(max_wait_time=SOON)
            assert again.delivery_count == 1
            with pytest.raises(SessionLockLostError):
                await receiver.complete_message(found)
            await other.complete_message(again)


async def test_deferred_messages_of_a_session_come_back_in_it(client, declare):
    queue = declare(sessions=True)
    await send(client, queue, message("x", session_id="one"))
    async with client.get_queue_receiver(queue, session_id="one") as receiver:
        (found,) = await receiver.receive_messages(max_wait_time=SOON)
        await receiver.defer_message(found)
        (deferred,) = await receiver.receive_deferred_messages(found.sequence_number)
        await receiver.complete_message(deferred)


async def test_a_session_is_offered_when_a_message_of_it_can_be_had(client, declare, servicebus):
    queue = declare(sessions=True)
    later = message("later", session_id="one", scheduled_enqueue_time_utc=servicebus.moment(60))
    await send(client, queue, message("now", session_id="one"), later)
    async with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=SOON) as receiver:
        (found,) = await receiver.receive_messages(max_wait_time=SOON)
        assert servicebus.do("sessions")["queues"][queue] == {"free": 0, "held": 1}
        await receiver.defer_message(found)
    # What is deferred or scheduled does not have its session taken.
    with pytest.raises(OperationTimeoutError):
        async with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=NEVER):
            pass
    servicebus.move(60)
    assert servicebus.do("sessions")["queues"][queue] == {"free": 1, "held": 0}
    async with client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=SOON) as receiver:
        (came,) = await receiver.receive_messages(max_wait_time=SOON)
        (deferred,) = await receiver.receive_deferred_messages(found.sequence_number)
        assert [str(came), str(deferred), deferred.delivery_count] == ["later", "now", 1]
        await receiver.complete_message(came)
        await receiver.complete_message(deferred)
    assert servicebus.counts(queue) == {}


async def test_a_queue_that_is_made_by_a_message_of_a_session_has_sessions(client):
    await send(client, "made-for-sessions", message("x", session_id="one"))
    async with client.get_queue_receiver("made-for-sessions", session_id="one") as receiver:
        assert [str(each) for each in await receiver.receive_messages(max_wait_time=SOON)] == ["x"]
    with pytest.raises(ServiceBusError, match="SessionId was not set"):
        await send(client, "made-for-sessions", message("x"))


async def test_queues_and_receivers_agree_about_sessions(client, declare):
    plain, with_sessions = declare(), declare(sessions=True)
    for queue, session in ((plain, "one"), (with_sessions, None)):
        with pytest.raises(ServiceBusError, match="not-allowed"):
            async with client.get_queue_receiver(queue, session_id=session):
                pass
    with pytest.raises(ServiceBusError, match="SessionId was not set"):
        await send(client, with_sessions, message("x"))


# --- what is there


async def test_an_unknown_queue_is_not_found_unless_queues_are_made_when_used(client):
    await send(client, "made-when-used", message("x"))
    with servicebus_emulator("--no-auto-create", "--queue", "known") as strict:
        async with ServiceBusClient.from_connection_string(strict.connection_string, retry_total=0) as other:
            await send(other, "known", message("x"))
            with pytest.raises(MessagingEntityNotFoundError):
                await send(other, "unknown", message("x"))
            with pytest.raises(MessagingEntityNotFoundError):
                async with other.get_queue_receiver("unknown"):
                    pass


async def test_nobody_sends_to_dead_letters_and_topics_are_unknown(client, queue):
    with pytest.raises(ServiceBusError, match="not-allowed"):
        await send(client, f"{queue}/$DeadLetterQueue", message("x"))
    with pytest.raises(MessagingEntityNotFoundError):
        async with client.get_subscription_receiver("topic", "subscription"):
            pass
