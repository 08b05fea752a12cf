"""What becomes of messages in a queue, with moments given and none waited for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.servicebus_emulator.peer import message

from holdfast.servicebus_emulator.amqp import sections
from holdfast.servicebus_emulator.amqp.decode import decode_whole
from holdfast.servicebus_emulator.amqp.encode import encode, encode_map
from holdfast.servicebus_emulator.amqp.types import Symbol, Timestamp, UInt
from holdfast.servicebus_emulator.entities.content import Content, read_content
from holdfast.servicebus_emulator.entities.message_session import Entry
from holdfast.servicebus_emulator.entities.options import QueueOptions
from holdfast.servicebus_emulator.entities.queue import Queue
from holdfast.servicebus_emulator.entities.settlements import (
    Abandon,
    Complete,
    DeadLetter,
    Defer,
    LockLost,
    MessageNotFound,
    NotAllowed,
    Release,
    SessionCannotBeLocked,
    SessionLockLost,
)


class Holder:
    """A receiver that only counts what it lost."""

    lost = 0

    def session_lost(self) -> None:
        self.lost += 1


def queue(**options: Any) -> Queue:
    return Queue("q", QueueOptions(**options))


def content(body: str = "x", *, id: str | None = None, session: str | None = None, **fields: Any) -> Content:
    made = read_content(message(body.encode(), properties=[id, *[None] * 9, session]))
    return replace(made, **fields)


def body(entry: Entry | None) -> str | None:
    """What a message says, or None if there is none."""
    return None if entry is None else decode_whole(entry.content.body).value.decode()


@pytest.fixture
def token() -> Callable[[], bytes]:
    numbers = itertools.count()
    return lambda: next(numbers).to_bytes(16, "big")


def test_messages_leave_in_the_order_they_came():
    q = queue()
    for name in "abc":
        q.enqueue(content(name), now=0.0)
    assert [body(q.take(1.0, None)) for _ in range(4)] == ["a", "b", "c", None]


def test_a_completed_message_is_gone(token):
    q = queue()
    q.enqueue(content(), now=0.0)
    entry = q.take(1.0, token())
    q.settle(entry.token, Complete(), 2.0)
    assert set(q.counts().values()) == {0}


def test_a_locked_message_is_nobody_elses_until_its_lock_ends(token):
    q = queue(lock=30)
    q.enqueue(content(), now=0.0)
    first = token()
    q.take(1.0, first)
    assert q.take(30.9, token()) is None
    assert q.next_due() == 31.0
    q.pass_time(31.0)
    again = q.take(31.0, token())
    assert again.delivery_count == 1
    with pytest.raises(LockLost):
        q.settle(first, Complete(), 31.0)


def test_a_settlement_after_the_locks_end_is_refused_even_before_time_was_passed(token):
    q = queue(lock=30)
    q.enqueue(content(), now=0.0)
    entry = q.take(0.0, token())
    with pytest.raises(LockLost):
        q.settle(entry.token, Complete(), 30.0)


def test_a_renewed_lock_ends_later_than_younger_ones(token):
    q = queue(lock=30)
    q.enqueue(content("old"), now=0.0)
    q.enqueue(content("young"), now=0.0)
    old, young = q.take(0.0, token()), q.take(1.0, token())
    assert q.renew(old.token, 20.0) == 50.0
    assert q.next_due() == 31.0
    q.pass_time(31.0)
    assert (young.token, old.token is None) == (None, False)


def test_an_abandoned_message_returns_to_its_place_and_counts(token):
    q = queue()
    for name in "abc":
        q.enqueue(content(name), now=0.0)
    first, _ = q.take(0.0, token()), q.take(0.0, token())
    q.settle(first.token, Abandon(), 1.0)
    again = q.take(1.0, token())
    assert (body(again), again.delivery_count) == ("a", 1)
    assert body(q.take(1.0, token())) == "c"


def test_a_released_message_returns_and_does_not_count(token):
    q = queue()
    q.enqueue(content(), now=0.0)
    q.settle(q.take(0.0, token()).token, Release(), 1.0)
    assert q.take(1.0, token()).delivery_count == 0


def test_after_the_last_delivery_a_message_is_dead(token):
    q = queue(max_delivery_count=3, lock=10)
    q.enqueue(content("x"), now=0.0)
    q.settle(q.take(0.0, token()).token, Abandon(), 0.0)
    q.take(0.0, token())
    q.pass_time(10.0)
    q.settle(q.take(10.0, token()).token, Abandon(), 10.0)
    assert q.take(10.0, token()) is None
    dead = q.dead.take(10.0, token())
    assert dead.delivery_count == 3
    assert decode_whole(dead.content.application_properties)["DeadLetterReason"] == "MaxDeliveryCountExceeded"


def test_dead_letters_are_never_given_up_and_cannot_be_sent_to(token):
    q = queue(max_delivery_count=1)
    q.enqueue(content(), now=0.0)
    q.settle(q.take(0.0, token()).token, DeadLetter("why", "so"), 0.0)
    for _ in range(5):
        q.dead.settle(q.dead.take(0.0, token()).token, Abandon(), 0.0)
    assert q.dead.take(0.0, token()).delivery_count == 5
    with pytest.raises(NotAllowed):
        q.dead.enqueue(content(), now=0.0)


def test_a_dead_letter_keeps_its_bytes_and_says_why_it_died(token):
    wide = b"\xd1\x00\x00\x00\x0c\x00\x00\x00\x02\xb1\x00\x00\x00\x01k\x54\x01"
    q = queue()
    raw = message(b"x") + sections.described(sections.APPLICATION_PROPERTIES, wide)
    q.enqueue(read_content(raw), now=0.0)
    q.settle(q.take(0.0, token()).token, DeadLetter("why", "so"), 0.0)
    dead = q.dead.take(0.0, None)
    properties = dead.content.application_properties
    assert b"\xb1\x00\x00\x00\x01k\x54\x01" in properties
    assert list(decode_whole(properties)) == ["k", "DeadLetterReason", "DeadLetterErrorDescription"]
    annotations = decode_whole(sections.split(dead.rendered()).message_annotations)
    assert annotations["x-opt-deadletter-source"] == "q"


# --- deferred and scheduled


def test_a_deferred_message_comes_only_by_its_number(token):
    q = queue()
    (number,) = q.enqueue(content(), now=0.0)
    q.settle(q.take(0.0, token()).token, Defer(), 0.0)
    assert q.take(0.0, token()) is None
    (entry,) = q.take_deferred([number], 0.0, token, None)
    assert entry.delivery_count == 1
    with pytest.raises(MessageNotFound):
        q.take_deferred([number], 0.0, token, None)
    q.settle(entry.token, Abandon(), 0.0)
    assert q.counts()["deferred"] == 1
    q.take_deferred([number], 0.0, None, None)
    assert set(q.counts().values()) == {0}


def test_a_message_that_is_deferred_too_often_dies(token):
    q = queue(max_delivery_count=2)
    (number,) = q.enqueue(content(), now=0.0)
    q.settle(q.take(0.0, token()).token, Defer(), 0.0)
    q.settle(q.take_deferred([number], 0.0, token, None)[0].token, Defer(), 0.0)
    assert q.counts() == {"active": 0, "locked": 0, "deferred": 0, "scheduled": 0, "dead": 1}


def test_a_number_that_is_asked_for_twice_is_one_message(token):
    q = queue(lock=10)
    (number,) = q.enqueue(content(), now=0.0)
    q.settle(q.take(0.0, token()).token, Defer(), 0.0)
    assert len(q.take_deferred([number, number], 0.0, token, None)) == 1
    q.pass_time(10.0)
    assert (q.counts()["deferred"], q.next_due()) == (1, None)
    (later,) = q.enqueue(content(scheduled_at=50.0), now=10.0)
    q.cancel_scheduled([later, later])
    assert q.counts()["scheduled"] == 0


def test_a_deferred_message_never_expires(token):
    q = queue(ttl=10)
    (number,) = q.enqueue(content(), now=0.0)
    q.settle(q.take(0.0, token()).token, Defer(), 0.0)
    q.pass_time(100.0)
    assert q.take_deferred([number], 100.0, None, None)


def test_a_scheduled_message_appears_in_time_with_a_new_number(token):
    q = queue()
    (first,) = q.enqueue(content("later", scheduled_at=10.0), now=0.0)
    q.enqueue(content("now"), now=0.0)
    assert q.counts()["scheduled"] == 1
    assert q.next_due() == 10.0
    assert body(q.take(0.0, None)) == "now"
    assert q.take(9.0, None) is None
    q.pass_time(10.0)
    entry = q.take(10.0, None)
    assert (body(entry), entry.enqueued_at, entry.sequence > first) == ("later", 10.0, True)


def test_cancelling_takes_all_scheduled_messages_or_none():
    q = queue()
    numbers = q.enqueue(*[content(scheduled_at=10.0)] * 2, now=0.0)
    with pytest.raises(MessageNotFound):
        q.cancel_scheduled([*numbers, 99])
    assert q.counts()["scheduled"] == 2
    q.cancel_scheduled(numbers)
    q.pass_time(10.0)
    assert q.take(10.0, None) is None


def test_a_life_begins_when_a_scheduled_message_appears():
    q = queue(ttl=5)
    q.enqueue(content(scheduled_at=10.0), now=0.0)
    q.pass_time(10.0)
    q.pass_time(14.0)
    assert q.take(14.0, None) is not None


# --- lives and duplicates


@pytest.mark.parametrize(("own", "of_queue", "lives"), [(5.0, None, 5), (None, 5.0, 5), (9.0, 5.0, 5), (5.0, 9.0, 5)])
def test_the_shorter_life_counts(own, of_queue, lives):
    q = queue(ttl=of_queue)
    q.enqueue(content(ttl=own), now=0.0)
    q.pass_time(lives - 0.1)
    assert q.counts()["active"] == 1
    q.pass_time(lives)
    assert q.counts()["active"] == 0


def test_expired_messages_are_dead_letters_if_the_queue_says_so():
    q = queue(ttl=5, dead_letter_expired=True)
    q.enqueue(content(), now=0.0)
    assert q.take(5.0, None) is None
    dead = q.dead.take(5.0, None)
    assert decode_whole(dead.content.application_properties)["DeadLetterReason"] == "TTLExpiredException"


def test_a_locked_message_outlives_its_time_until_it_returns(token):
    q = queue(ttl=5, lock=60)
    q.enqueue(content(), now=0.0)
    entry = q.take(4.0, token())
    q.pass_time(10.0)
    assert q.counts()["locked"] == 1
    q.settle(entry.token, Abandon(), 10.0)
    assert set(q.counts().values()) == {0}


def test_a_second_message_with_one_id_is_dropped_within_the_window():
    q = queue(duplicate_window=60)
    for at in (0.0, 59.9, 60.0):
        q.enqueue(content(id="one"), now=at)
    q.enqueue(content(), now=60.0)
    q.enqueue(content(), now=60.0)
    assert q.counts()["active"] == 4


def test_a_number_and_its_text_are_two_ids():
    q = queue(duplicate_window=60)
    for id in ("1", 1, "1", 1):
        q.enqueue(content(id=id), now=0.0)
    assert q.counts()["active"] == 2


def test_ends_of_lives_that_are_over_are_forgotten():
    q = queue(ttl=1000)
    for at in range(5000):
        q.enqueue(content(), now=float(at) / 1000)
        q.take(float(at) / 1000, None)
    assert len(q._expiring) < 2000


def test_a_look_sees_messages_in_every_state(token):
    q = queue()
    for name in "abc":
        q.enqueue(content(name), now=0.0)
    q.enqueue(content("later", scheduled_at=10.0), now=0.0)
    q.settle(q.take(0.0, token()).token, Defer(), 0.0)
    q.take(0.0, token())
    assert [(body(entry), entry.state) for entry in q.peek(1, 10)] == [("a", 1), ("b", 0), ("c", 0), ("later", 2)]
    assert [body(entry) for entry in q.peek(2, 2)] == ["b", "c"]


# --- sessions


def sessions(*names: str, **options: Any) -> Queue:
    """A queue with a message for each letter; its session is the letter's case-blind self."""
    q = queue(sessions=True, **options)
    for name in names:
        q.enqueue(content(name, session=name.lower()), now=0.0)
    return q


def test_a_message_without_a_session_is_refused_with_all_that_came_with_it():
    q = sessions()
    with pytest.raises(NotAllowed):
        q.enqueue(content(session="a"), content(), now=0.0)
    assert q.counts()["active"] == 0


def test_the_session_that_waited_longest_is_next(token):
    q = sessions("a", "b", "A")
    first = q.accept_session(None, Holder(), 0.0)
    second = q.accept_session(None, Holder(), 0.0)
    assert (first.id, second.id, q.accept_session(None, Holder(), 0.0)) == ("a", "b", None)
    assert [body(q.take(0.0, token(), first)) for _ in range(3)] == ["a", "A", None]


def test_a_held_session_is_nobody_elses():
    q = sessions("a")
    q.accept_session("a", Holder(), 0.0)
    with pytest.raises(SessionCannotBeLocked):
        q.accept_session("a", Holder(), 1.0)


def test_a_session_that_is_given_back_counts_no_delivery(token):
    q = sessions("a")
    holder = Holder()
    session = q.accept_session("a", holder, 0.0)
    q.take(0.0, token(), session)
    q.release_session(session, holder, 1.0)
    again = q.accept_session(None, Holder(), 1.0)
    assert q.take(1.0, token(), again).delivery_count == 0


def test_a_session_whose_lock_ends_counts_a_delivery_and_tells_its_holder(token):
    q = sessions("a", lock=30)
    holder = Holder()
    session = q.accept_session("a", holder, 0.0)
    entry = q.take(0.0, token(), session)
    held = entry.token
    assert entry.locked_until == 30.0
    assert q.next_due() == 30.0
    assert q.pass_time(30.0) == [holder]
    with pytest.raises(SessionLockLost):
        q.settle(held, Complete(), 30.0)
    with pytest.raises(SessionLockLost):
        q.held_session("a", holder, 30.0)
    assert q.take(30.0, token(), q.accept_session("a", Holder(), 30.0)).delivery_count == 1


def test_renewing_a_session_keeps_its_messages(token):
    q = sessions("a", "b", lock=30)
    holder = Holder()
    session = q.accept_session("a", holder, 0.0)
    other = q.accept_session("b", Holder(), 10.0)
    entry = q.take(0.0, token(), session)
    assert q.renew_session(session, 20.0) == 50.0
    assert q.next_due() == other.locked_until == 40.0
    q.pass_time(49.0)
    q.settle(entry.token, Complete(), 49.0)


def test_a_session_stays_in_order_when_a_message_is_abandoned(token):
    q = sessions("a", "A")
    session = q.accept_session("a", Holder(), 0.0)
    q.settle(q.take(0.0, token(), session).token, Abandon(), 0.0)
    assert body(q.take(0.0, token(), session)) == "a"


def test_deferred_messages_belong_to_their_session(token):
    q = sessions("a", "b")
    session = q.accept_session("a", Holder(), 0.0)
    entry = q.take(0.0, token(), session)
    q.settle(entry.token, Defer(), 0.0)
    with pytest.raises(MessageNotFound):
        q.take_deferred([entry.sequence], 0.0, token, q.accept_session("b", Holder(), 0.0))
    assert q.take_deferred([entry.sequence], 0.0, token, session) == [entry]


def test_a_session_is_next_only_while_a_message_of_it_can_be_had(token):
    q = sessions("a")
    q.enqueue(content("later", session="a", scheduled_at=50.0), now=0.0)
    holder = Holder()
    session = q.accept_session(None, holder, 0.0)
    q.settle(q.take(0.0, token(), session).token, Defer(), 0.0)
    assert q.session_counts() == {"free": 0, "held": 1}
    q.release_session(session, holder, 1.0)
    assert (q.accept_session(None, holder, 1.0), q.session_counts()) == (None, {"free": 0, "held": 0})
    q.pass_time(50.0)
    assert q.session_counts() == {"free": 1, "held": 0}
    assert body(q.take(50.0, token(), q.accept_session(None, holder, 50.0))) == "later"


def test_an_undecided_queue_has_sessions_if_its_first_message_does():
    for session in (None, "a"):
        q = Queue("q", QueueOptions(), undecided=True)
        q.enqueue(content(session=session), now=0.0)
        q.decide(sessions=session is None)
        assert q.options.sessions == (session is not None)


def test_sessions_are_forgotten_when_nothing_is_left_of_them(token):
    q = sessions("a", "b")
    for id in "ab":
        holder = Holder()
        session = q.accept_session(id, holder, 0.0)
        q.settle(q.take(0.0, token(), session).token, Complete(), 0.0)
        session.state = b"kept" if id == "b" else None
        q.release_session(session, holder, 0.0)
    assert q.session_ids(None) == ["b"]
    assert list(q.sessions) == ["b"]


# --- content


@pytest.mark.parametrize("key", [[1], {}, b"x", None])
def test_odd_keys_are_kept_when_a_message_dies(token, key):
    pair = encode(key) + encode(1)
    section = b"\x00\x53\x74" + encode_map(pair, 2)
    q = queue()
    q.enqueue(read_content(message(b"x") + section), now=0.0)
    q.settle(q.take(0.0, token()).token, DeadLetter("why"), 0.0)
    assert pair in q.dead.take(0.0, None).content.application_properties


def test_a_life_that_is_no_number_is_none():
    assert read_content(message(b"x") + sections.described(sections.HEADER, encode([None, None, "long"]))).ttl is None


def test_what_the_sender_wrote_stays_the_bytes_it_was():
    properties = bytes.fromhex("d0 00000007 00000001 a1 01 69")
    annotations = encode({Symbol("mine"): 1, Symbol("x-opt-sequence-number"): 5})
    footer = encode({Symbol("f"): Timestamp(1)})
    raw = b"".join(
        [
            sections.described(sections.MESSAGE_ANNOTATIONS, annotations),
            sections.described(sections.PROPERTIES, properties),
            sections.described(sections.VALUE, encode([UInt(1)])),
            sections.described(sections.FOOTER, footer),
        ]
    )
    q = queue()
    q.enqueue(read_content(raw), now=1.0)
    found = sections.split(q.take(2.0, uuid4().bytes).rendered())
    assert (found.properties, found.footer) == (properties, footer)
    assert found.body == sections.described(sections.VALUE, encode([UInt(1)]))
    kept = decode_whole(found.message_annotations)
    assert (kept["mine"], kept["x-opt-sequence-number"], kept["x-opt-locked-until"]) == (1, 1, 62_000)


@given(st.data())
def test_no_message_is_ever_lost_or_held_twice(data):
    """Any course of events: every message is in exactly one place, and locks are as many as somebody has."""
    q = queue(lock=10, max_delivery_count=3)
    now, sent, gone, numbers = 0.0, 0, 0, itertools.count(1)
    held: dict[bytes, float] = {}
    for _ in range(data.draw(st.integers(1, 60))):
        match data.draw(st.sampled_from(["send", "take", "settle", "wait"])):
            case "send":
                q.enqueue(content(), now=now)
                sent += 1
            case "take":
                entry = q.take(now, next(numbers).to_bytes(16, "big"))
                if entry is not None:
                    held[entry.token] = now + 10
            case "settle" if held:
                key = data.draw(st.sampled_from(sorted(held)))
                how = data.draw(st.sampled_from([Complete(), Abandon(), Release(), DeadLetter()]))
                alive = held.pop(key) > now
                try:
                    q.settle(key, how, now)
                    assert alive
                    gone += isinstance(how, Complete)
                except LockLost:
                    assert not alive
            case "wait":
                now += data.draw(st.sampled_from([1.0, 9.0, 10.0]))
                q.pass_time(now)
                held = {key: until for key, until in held.items() if until > now}
        assert sum(q.counts().values()) == sent - gone
        assert q.counts()["locked"] == len(held)
