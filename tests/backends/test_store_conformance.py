"""What every store does, whatever it is made of: instances, leases, claims, commits and inboxes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from tests.backends.making import (
    NOW,
    asleep,
    call,
    claim,
    commit,
    ending,
    enlist,
    ids,
    look,
    message,
    owned,
    start,
    step,
)

from holdfast.errors import LeaseLost
from holdfast.ids import InstanceId, ProgramHash, WorkerId
from holdfast.model.instance import DeliveryKind, InstanceFilter, Park, Status, StoredProgram
from holdfast.ports import Settled

# --- starting


async def test_a_started_instance_is_seen_with_its_first_step(store: Any) -> None:
    assert await store.start([start("a", queue="mail", priority=3, tags="by=test", parent="p", parent_call="c")]) == [
        "a"
    ]
    view = await look(store, "a")
    assert (view.status, view.queue, view.priority, view.tags) == (Status.PENDING, "mail", 3, "by=test")
    assert (view.created_at, view.due_at, view.owner, view.parent) == (NOW, NOW, None, "p")
    [first] = await store.history(InstanceId("a"))
    assert (first.seq, first.at, first.payload, first.full) == (0, NOW, b"input of a", True)


async def test_starting_twice_makes_one_instance_and_says_so(store: Any) -> None:
    assert await store.start([start("a"), start("b"), start("a", input=b"other")]) == ["a", "b"]
    assert await store.start([start("b", name="other"), start("c")]) == ["c"]
    assert (await look(store, "b")).name == "app:Greeting"
    assert [each.payload for each in await store.history(InstanceId("a"))] == [b"input of a"]
    assert await store.start([]) == []


async def test_two_starters_of_the_same_ids_at_once_make_each_instance_once(bench: Any) -> None:
    one, two = await bench.store(), await bench.store()
    names = [f"i{number}" for number in range(200)]
    made = await asyncio.gather(
        one.start([start(name) for name in names]), two.start([start(name) for name in reversed(names)])
    )
    assert sorted([*made[0], *made[1]]) == sorted(names)


async def test_programs_are_kept_as_they_first_came(store: Any) -> None:
    first = StoredProgram(hash=ProgramHash("h"), name="n", text="t", signature="s")
    await store.save_programs([first, StoredProgram(hash=ProgramHash("g"), name="m", text="u")])
    await store.save_programs([StoredProgram(hash=ProgramHash("h"), name="x", text="y")])
    assert await store.load_programs([ProgramHash("h"), ProgramHash("unknown")]) == [first]


# --- claiming


async def test_a_claim_brings_what_is_needed_to_go_on(store: Any) -> None:
    await store.start([start("a", parent="p", parent_call="c7", queue="mail")])
    await enlist(store, "w")
    [claimed] = (await claim(store, "w")).instances
    assert (claimed.id, claimed.name, claimed.program, claimed.queue) == ("a", "app:Greeting", "p1", "mail")
    assert (claimed.created_at, claimed.parent, claimed.parent_call, claimed.recoveries) == (
        NOW,
        "p",
        "c7",
        0,
    )
    assert [(each.seq, each.full, each.payload) for each in claimed.steps] == [(0, True, b"input of a")]
    assert (await look(store, "a")).owner == "w"


async def test_claims_go_by_priority_then_by_age_and_respect_queues_and_room(store: Any) -> None:
    await store.start(
        [
            start("late", due_at=NOW - 1),
            start("early", due_at=NOW - 5),
            start("urgent", priority=9, due_at=NOW),
            start("low", priority=-1, due_at=NOW - 9),
            start("mail", queue="mail", due_at=NOW - 7),
            start("future", due_at=NOW + 60),
        ]
    )
    await enlist(store, "w")
    assert ids(await claim(store, "w", queues=["default"], room=2)) == ["urgent", "early"]
    # When it could be claimed says nothing any more.
    assert ((await look(store, "early")).owner, (await look(store, "early")).due_at) == ("w", None)
    assert ids(await claim(store, "w", queues=["mail", "other"])) == ["mail"]
    assert ids(await claim(store, "w", queues=[])) == []
    assert ids(await claim(store, "w", room=0)) == []
    rest = await claim(store, "w")
    assert ids(rest) == ["late", "low"]
    assert rest.next_due == NOW + 60
    assert ids(await claim(store, "w", now=NOW + 61)) == ["future"]


async def test_an_idle_claim_tells_when_the_next_instance_is_due(store: Any) -> None:
    await enlist(store, "w")
    assert (await claim(store, "w")).next_due is None
    await store.start([start("b", due_at=NOW + 9), start("a", due_at=NOW + 5), start("c", due_at=NOW + 2, queue="z")])
    assert (await claim(store, "w")).next_due == NOW + 2
    assert (await claim(store, "w", queues=["default"])).next_due == NOW + 5


async def test_two_claimers_never_get_one_instance(bench: Any) -> None:
    stores = [await bench.store() for _ in range(3)]
    names = {f"i{number}" for number in range(150)}
    await stores[0].start([start(name, priority=random.randrange(3)) for name in names])
    for number, store in enumerate(stores):
        await enlist(store, f"w{number}")

    async def take_all(number: int) -> list[str]:
        taken: list[str] = []
        while got := ids(await claim(stores[number], f"w{number}", room=7)):
            taken += got
        return taken

    taken = await asyncio.gather(*map(take_all, range(3)))
    assert sorted(name for each in taken for name in each) == sorted(names)


async def test_only_an_enlisted_worker_claims(store: Any) -> None:
    await store.start([start("a")])
    with pytest.raises(LeaseLost):
        await claim(store, "nobody")
    assert (await look(store, "a")).owner is None


async def test_a_claim_after_a_full_step_starts_from_it(store: Any) -> None:
    await owned(store, "w", "a")
    await store.commit("w", [commit("a", step(1), step(2))])
    await store.commit("w", [commit("a", step(3, full=True), step(4), close=asleep(NOW))])
    [claimed] = (await claim(store, "w")).instances
    assert [each.seq for each in claimed.steps] == [3, 4]
    assert claimed.steps[0].full
    assert [each.seq for each in await store.history(InstanceId("a"))] == [0, 1, 2, 3, 4]
    assert [each.seq for each in await store.history(InstanceId("a"), after=1, limit=2)] == [2, 3]


# --- committing


async def test_steps_are_appended_and_seen(store: Any) -> None:
    await owned(store, "w", "a", "b")
    done = await store.commit("w", [commit("a", step(1)), commit("b", step(1), step(2))])
    assert (done.kept, list(done.waiters), list(done.owners), done.started, done.lost) == (
        frozenset(),
        [],
        [],
        False,
        frozenset(),
    )
    assert [each.payload for each in await store.history(InstanceId("b"))] == [
        b"input of b",
        b"step 1",
        b"step 2",
    ]


async def test_an_ending_keeps_the_outcome_and_tells_all_who_wait(store: Any) -> None:
    await store.start([start("a", waiter="ch_0")])
    await owned(store, "w", "b")
    await store.view([InstanceId("a"), InstanceId("b")], waiter="ch_1")
    await store.view([InstanceId("a")], waiter="ch_2")
    await store.view([InstanceId("a")], waiter="ch_1")
    done = await store.commit(
        "w",
        [
            commit("a", step(1, at=NOW + 3), close=ending()),
            commit("b", step(1, at=NOW + 4), close=ending(b"boom", Status.FAILED)),
        ],
    )
    assert sorted(done.waiters) == [("ch_0", "a"), ("ch_1", "a"), ("ch_1", "b"), ("ch_2", "a")]
    a, b = await look(store, "a"), await look(store, "b")
    assert (a.status, a.outcome, a.ended_at, a.owner, a.due_at) == (Status.DONE, b"42", NOW + 3, None, None)
    assert (b.status, b.outcome, b.ended_at) == (Status.FAILED, b"boom", NOW + 4)
    assert ids(await claim(store, "w", now=NOW + 999)) == []


async def test_a_child_that_exists_stays_that_of_the_parent_which_started_it(store: Any) -> None:
    await owned(store, "w", "p", "q")
    first = start("kid", parent=InstanceId("p"), parent_call="3")
    second = start("kid", parent=InstanceId("q"), parent_call="7", input=b"other")
    await store.commit("w", [commit("p", step(1), starts=[first])])
    done = await store.commit("w", [commit("q", step(1), starts=[second])])
    assert (done.lost, done.kept) == (frozenset(), frozenset())
    [seen] = await store.view([InstanceId("kid")], waiter="q")
    assert (seen.parent, seen.parent_call) == ("p", "3")
    assert [each.payload for each in await store.history(InstanceId("kid"))] == [b"input of kid"]
    await claim(store, "w")
    ended = [commit("kid", step(1), close=ending())]
    assert list((await store.commit("w", ended)).waiters) == [("q", "kid")]
    # The answer may be lost, and the commit repeated: whoever is to be told is named again.
    assert list((await store.commit("w", ended)).waiters) == [("q", "kid")]


async def test_a_child_asked_for_by_two_parents_in_one_commit_is_that_of_one(store: Any) -> None:
    await owned(store, "w", "p", "q")
    starts = [start("kid", parent=InstanceId(parent), parent_call="3") for parent in "pq"]
    await store.commit("w", [commit("p", step(1), starts=starts[:1]), commit("q", step(1), starts=starts[1:])])
    assert (await look(store, "kid")).parent == "p"


async def test_a_released_instance_sleeps_until_its_moment(store: Any) -> None:
    await owned(store, "w", "a", "b")
    done = await store.commit("w", [commit("a", step(1), close=asleep(NOW + 30)), commit("b", close=asleep())])
    assert done.kept == frozenset()
    assert (await look(store, "a")).owner is None
    idle = await claim(store, "w")
    assert (ids(idle), idle.next_due) == ([], NOW + 30)
    later = await claim(store, "w", now=NOW + 31)
    assert ids(later) == ["a"]
    assert [each.seq for each in later.instances[0].steps] == [0, 1]


async def test_a_commit_starts_children_and_spills_calls(store: Any) -> None:
    await owned(store, "w", "a")
    done = await store.commit(
        "w",
        [commit("a", step(1), starts=[start("child", parent="a", parent_call="c1")], spilled=[call("k", "a")])],
    )
    assert done.started
    claims = await claim(store, "w")
    assert ids(claims) == ["child"]
    assert list(claims.calls) == [call("k", "a")]


async def test_a_repeated_commit_changes_nothing(store: Any) -> None:
    await store.start([start("a", waiter="ch")])
    await owned(store, "w", "b", "c", "d")
    batch = [
        commit("a", step(1), close=ending()),
        commit("b", step(1), spilled=[call("k", "b")], deliveries=[message("m", "c")], starts=[start("e")]),
        commit("c", step(1), close=asleep()),
        commit("d", step(1, full=True), close=asleep(NOW + 60)),
    ]
    first = await store.commit("w", batch)
    assert first.kept == {"c"}
    # Meanwhile the call is run and its outcome read, the message is consumed, and the child goes its way.
    await claim(store, "w", queues=["none"])
    claims = await claim(store, "w")
    assert list(claims.calls) == [call("k", "b")]
    await store.settle("w", [Settled(call=claims.calls[0], delivery=message("r", "b", kind=DeliveryKind.RESULT))])
    assert {each.id for each in await store.take_inbox("w")} == {"m", "r"}
    await store.commit("w", [commit("c", step(2), consumed=["m"]), commit("b", step(2), consumed=["r"])])

    again = await store.commit("w", batch)
    assert again.lost == frozenset()
    assert again.kept == {"c"}
    assert list(again.waiters) == list(first.waiters) == [("ch", "a")]
    assert (await look(store, "d")).due_at == NOW + 60
    after = await claim(store, "w", now=NOW + 10)
    assert (list(after.calls), ids(after)) == ([], [])
    assert [each.id for each in await store.take_inbox("w")] == []
    assert [each.seq for each in await store.history(InstanceId("b"))] == [0, 1, 2]


async def test_a_repeated_release_does_not_let_go_of_a_new_claim(store: Any) -> None:
    await owned(store, "w", "a")
    batch = [commit("a", step(1), close=asleep(NOW))]
    assert (await store.commit("w", batch)).kept == frozenset()
    assert ids(await claim(store, "w")) == ["a"]
    assert (await store.commit("w", batch)).kept == {"a"}
    assert (await look(store, "a")).owner == "w"


async def test_a_commit_for_an_instance_of_another_owner_is_skipped_and_reported(bench: Any) -> None:
    one, two = await bench.store(), await bench.store()
    await owned(one, "w1", "a", "b", "c")
    await one.commit("w1", [commit("a", close=asleep(NOW))])
    await enlist(two, "w2")
    assert ids(await claim(two, "w2")) == ["a"]
    done = await one.commit(
        "w1",
        [
            commit("a", step(1, full=True), close=ending()),
            commit("b", step(1), close=ending()),
            commit("c", step(1)),
        ],
    )
    assert done.lost == {"a"}
    assert (await look(one, "a")).owner == "w2"
    assert [each.seq for each in await one.history(InstanceId("a"))] == [0]
    assert (await look(one, "b")).status == Status.DONE


async def test_an_empty_commit_is_harmless(store: Any) -> None:
    await enlist(store, "w")
    assert not (await store.commit("w", [])).started
    assert not (await store.settle("w", [])).started


async def test_trimming_removes_what_recovery_no_longer_needs(store: Any) -> None:
    await owned(store, "w", "a", "b")
    await store.commit("w", [commit("a", *map(step, range(1, 5))), commit("b", step(1))])
    await store.commit("w", [commit("a", step(5, full=True), trim_below=3)])
    assert [each.seq for each in await store.history(InstanceId("a"))] == [3, 4, 5]
    assert [each.seq for each in await store.history(InstanceId("b"))] == [0, 1]


# --- fencing


async def test_a_commit_without_a_lease_writes_nothing(store: Any) -> None:
    await owned(store, "w", "a")
    await store.retire("w", now=NOW)
    with pytest.raises(LeaseLost):
        await store.commit("w", [commit("a", step(1), starts=[start("child")], spilled=[call("k", "a")])])
    with pytest.raises(LeaseLost):
        await store.commit("w", [commit("a", step(1), close=ending(), deliveries=[message("m", "a")])])
    with pytest.raises(LeaseLost):
        await store.settle("w", [Settled(call=call("k", "a"), delivery=message("m", "a"))])
    with pytest.raises(LeaseLost):
        await claim(store, "w")
    assert [each.seq for each in await store.history(InstanceId("a"))] == [0]
    assert await store.view([InstanceId("child")]) == []
    assert (await look(store, "a")).status == Status.PENDING


async def test_an_expired_lease_is_freed_by_anothers_heartbeat_and_the_old_owner_is_fenced(
    bench: Any,
) -> None:
    one, two = await bench.store(), await bench.store()
    await owned(one, "w1", "a")
    await one.commit("w1", [commit("a", step(1), spilled=[call("k", "a")])])
    assert [each.id for each in (await claim(one, "w1")).calls] == ["k"]
    await enlist(two, "w2", now=NOW + 9)
    assert (await two.heartbeat("w2", lease=10, now=NOW + 9)).workers == 2
    beat = await two.heartbeat("w2", lease=10, now=NOW + 11)
    assert (beat.alive, beat.workers) == (True, 1)
    claims = await claim(two, "w2", now=NOW + 11)
    assert ids(claims) == ["a"]
    assert claims.instances[0].recoveries == 1
    assert [each.seq for each in claims.instances[0].steps] == [0, 1]
    assert [each.id for each in claims.calls] == ["k"]
    with pytest.raises(LeaseLost):
        await one.commit("w1", [commit("a", step(2))])
    assert not (await one.heartbeat("w1", lease=10, now=NOW + 12)).alive
    assert [each.seq for each in await two.history(InstanceId("a"))] == [0, 1]


async def test_a_heartbeat_keeps_the_lease(store: Any) -> None:
    await owned(store, "w1", "a")
    await enlist(store, "w2")
    for moment in (5, 10, 15, 20):
        assert (await store.heartbeat("w1", lease=10, now=NOW + moment)).alive
        assert (await store.heartbeat("w2", lease=10, now=NOW + moment)).workers == 2
    assert (await look(store, "a")).owner == "w1"


async def test_takeovers_add_up_only_without_a_step_in_between(store: Any) -> None:
    await store.start([start("a")])
    counts: list[int] = []
    for number in range(5):
        now = NOW + number * 100
        await enlist(store, f"w{number}", now=now)
        await store.heartbeat(f"w{number}", lease=10, now=now)
        [claimed] = (await claim(store, f"w{number}", now=now)).instances
        counts.append(claimed.recoveries)
        if number == 2:
            await store.commit(f"w{number}", [commit("a", step(1, at=now))])
    assert counts == [0, 1, 2, 1, 2]


async def test_retiring_frees_everything_at_once(store: Any) -> None:
    await owned(store, "w1", "a", "b")
    await store.commit("w1", [commit("a", step(1), spilled=[call("k", "a")])])
    await claim(store, "w1")
    await store.retire("w1", now=NOW)
    await store.retire("w1", now=NOW)
    await enlist(store, "w2")
    claims = await claim(store, "w2")
    assert sorted(ids(claims)) == ["a", "b"]
    assert [each.recoveries for each in claims.instances] == [0, 0]
    assert [each.id for each in claims.calls] == ["k"]


async def test_workers_are_listed_with_what_they_own(store: Any) -> None:
    await owned(store, "w1", "a", "b")
    await enlist(store, "w2", now=NOW + 1, lease=99)
    await store.idle("w2", True)
    [one, two] = await store.workers(now=NOW)
    assert (one.id, one.owned, one.idle, one.expires_at) == ("w1", 2, False, NOW + 10)
    assert (two.id, two.owned, two.idle, two.queues) == ("w2", 0, True, "*")
    beat = await store.heartbeat("w1", lease=10, now=NOW)
    assert (beat.workers, beat.idle_workers) == (2, 1)
    assert [each.id for each in await store.workers(now=NOW + 50)] == ["w2"]


# --- deliveries


async def test_a_delivery_wakes_a_sleeper(store: Any) -> None:
    await owned(store, "w", "a")
    await store.commit("w", [commit("a", step(1), close=asleep())])
    assert await store.deliver([message("m", "a", at=NOW + 1), message("n", "nobody")]) == ["a"]
    assert ids(await claim(store, "w", now=NOW + 2)) == ["a"]
    assert await store.take_inbox("w") == [message("m", "a", at=NOW + 1)]
    await store.commit("w", [commit("a", step(2), consumed=["m"])])
    assert await store.take_inbox("w") == []


async def test_a_claim_says_whose_inbox_may_hold_something(store: Any) -> None:
    """Mail comes with the claim's word that it is there: nobody else would tell the new owner of it."""
    await store.start([start("a"), start("b"), start("c")])
    await store.deliver([message("m", "b")])
    await enlist(store, "w1")
    assert {one.id for one in (await claim(store, "w1")).instances if one.told} == {"b"}
    done = commit("b", step(1), starts=[start("kid")], deliveries=[message("k", "kid")])
    await store.commit("w1", [done, commit("c", step(1), close=asleep())])
    assert {one.id for one in (await claim(store, "w1")).instances if one.told} == {"kid"}
    await store.deliver([message("n", "c")])
    await store.retire("w1", now=NOW)
    await enlist(store, "w2")
    assert {one.id for one in (await claim(store, "w2")).instances if one.told} >= {"b", "c", "kid"}


async def test_a_delivery_never_puts_off_what_is_due_earlier(store: Any) -> None:
    await store.start([start("a", due_at=NOW - 50), start("b", due_at=NOW + 50)])
    await store.deliver([message("m", "a"), message("n", "b")])
    assert (await look(store, "a")).due_at == NOW - 50
    assert (await look(store, "b")).due_at == NOW


async def test_delivering_twice_delivers_once(store: Any) -> None:
    await owned(store, "w", "a")
    await store.deliver([message("m", "a")])
    await store.deliver([message("m", "a"), message("n", "a", at=NOW + 1)])
    assert [each.id for each in await store.take_inbox("w")] == ["m", "n"]


async def test_inbox_rows_come_oldest_first_and_stay_until_a_commit_consumes_them(store: Any) -> None:
    await owned(store, "w1", "a", "b")
    await store.deliver(
        [message("late", "a", at=NOW + 5), message("early", "b", at=NOW + 1), message("mid", "a", at=NOW + 3)]
    )
    assert [each.id for each in await store.take_inbox("w1")] == ["early", "mid", "late"]
    await store.commit("w1", [commit("a", step(1), consumed=["mid"])])
    await store.deliver([message("new", "a", at=NOW + 9)])
    assert [each.id for each in await store.take_inbox("w1")] == ["early", "late", "new"]
    # A new owner is told the same, however the old one went.
    await store.retire("w1", now=NOW)
    await enlist(store, "w2")
    assert await store.take_inbox("w2") == []
    await claim(store, "w2")
    assert [each.id for each in await store.take_inbox("w2")] == ["early", "late", "new"]


async def test_a_release_does_not_happen_over_unread_mail(store: Any) -> None:
    """Also when it has been read already: reading and letting go may cross each other."""
    await owned(store, "w", "a", "b")
    await store.deliver([message("m", "a"), message("n", "a"), message("o", "b")])
    assert len(await store.take_inbox("w")) == 3
    done = await store.commit(
        "w",
        [
            commit("a", step(1), consumed=["m"], close=asleep()),
            commit("b", step(1), consumed=["o"], close=asleep()),
        ],
    )
    assert done.kept == {"a"}
    assert [each.id for each in await store.take_inbox("w")] == ["n"]
    assert (await store.commit("w", [commit("a", step(2), consumed=["n"], close=asleep())])).kept == frozenset()


async def test_a_release_does_not_happen_when_something_came_in_between(store: Any) -> None:
    await owned(store, "w", "a", "b")
    await store.deliver([message("m", "a")])
    done = await store.commit("w", [commit("a", step(1), close=asleep()), commit("b", step(1), close=asleep())])
    assert done.kept == {"a"}
    assert (await look(store, "a")).owner == "w"
    assert [each.id for each in await store.take_inbox("w")] == ["m"]
    done = await store.commit("w", [commit("a", step(2), consumed=["m"], close=asleep())])
    assert done.kept == frozenset()


async def test_a_release_loses_against_a_delivery_of_the_same_batch(store: Any) -> None:
    await owned(store, "w", "child", "parent")
    done = await store.commit(
        "w",
        [
            commit("parent", step(1), close=asleep()),
            commit("child", step(1), close=ending(), deliveries=[message("m", "parent")]),
        ],
    )
    assert (done.kept, list(done.owners), done.started) == ({"parent"}, ["w"], False)
    assert [each.id for each in await store.take_inbox("w")] == ["m"]


async def test_a_commit_that_stays_keeps_what_was_signalled_before_it(store: Any) -> None:
    await owned(store, "w", "a", "b")
    await store.deliver([message("m", "a")])
    done = await store.commit(
        "w",
        [commit("a", step(1, full=True)), commit("b", step(1), deliveries=[message("n", "a", at=NOW + 1)])],
    )
    assert done.lost == frozenset()
    assert [each.id for each in await store.take_inbox("w")] == ["m", "n"]


async def test_deliveries_of_a_commit_wake_sleepers_and_name_owners(bench: Any) -> None:
    one, two = await bench.store(), await bench.store()
    await owned(one, "w1", "a", "sleeper")
    await owned(two, "w2", "b")
    await one.commit("w1", [commit("sleeper", step(1), close=asleep())])
    done = await one.commit(
        "w1",
        [commit("a", step(1), deliveries=[message("m", "b"), message("n", "sleeper"), message("o", "ghost")])],
    )
    assert (list(done.owners), done.started) == (["w2"], True)
    assert [each.id for each in await two.take_inbox("w2")] == ["m"]
    assert ids(await claim(two, "w2")) == ["sleeper"]


async def test_a_commit_can_deliver_to_the_child_it_starts(store: Any) -> None:
    await owned(store, "w", "a")
    cancel = message("m", "child", kind=DeliveryKind.CANCEL)
    await store.commit("w", [commit("a", step(1), starts=[start("child")], deliveries=[cancel])])
    assert ids(await claim(store, "w")) == ["child"]
    assert await store.take_inbox("w") == [cancel]


async def test_what_comes_for_an_ended_instance_is_dropped(store: Any) -> None:
    await owned(store, "w", "a", "b")
    await store.deliver([message("early", "a")])
    done = await store.commit(
        "w",
        [
            commit("a", step(1), close=ending(), spilled=[call("k", "a")]),
            commit("b", step(1), deliveries=[message("m", "a")]),
        ],
    )
    assert list(done.owners) == []
    assert await store.deliver([message("n", "a")]) == []
    assert await store.take_inbox("w") == []
    assert list((await claim(store, "w")).calls) == []
    assert (await look(store, "a")).due_at is None


async def test_no_delivery_is_lost_between_owners_readers_and_writers(bench: Any) -> None:
    """Deliverers, and a worker that reads and lets go at the same time, all the time: everything is consumed once."""
    inside, outside = await bench.store(), await bench.store()
    names = [f"i{number}" for number in range(8)]
    await owned(inside, "w", *names)
    sent = sorted(f"m{number}" for number in range(200))
    seq = dict.fromkeys(names, 0)
    mine = set(names)
    read: dict[str, set[str]] = {name: set() for name in names}
    consumed: list[str] = []

    async def deliver(some: list[str]) -> None:
        while some:
            batch, some = some[:3], some[3:]
            assert await outside.deliver([message(each, random.choice(names)) for each in batch])

    def turn(name: str) -> Any:
        seq[name] += 1
        return commit(name, step(seq[name]), consumed=sorted(read[name]), close=asleep())

    async def work() -> None:
        while len(consumed) < len(sent):
            mine.update(ids(await claim(inside, "w")))
            commits = [turn(name) for name in sorted(mine)]
            inbox, done = await asyncio.gather(inside.take_inbox("w"), inside.commit("w", commits))
            assert not done.lost
            mine.intersection_update(done.kept)
            for each in commits:
                consumed.extend(each.consumed)
                read[each.instance].clear()
            for row in inbox:
                # What came for one that has been let go is forgotten here: it must not have been let go.
                if row.instance in mine and row.id not in consumed:
                    read[row.instance].add(row.id)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(work())
        group.create_task(deliver(sent[:100]))
        group.create_task(deliver(sent[100:]))
    assert sorted(consumed) == sent


async def test_a_storm_of_crossing_deliveries_and_commits_ends(bench: Any) -> None:
    """Every writer touches the same instances in an order of its own; none waits for another in a circle."""
    names = [f"i{number}" for number in range(20)]
    stores = [await bench.store() for _ in range(4)]
    for number, store in enumerate(stores):
        await owned(store, f"w{number}", f"own{number}")
    await stores[0].start([start(name, due_at=NOW + 99) for name in names])

    async def storm(number: int) -> None:
        order = random.Random(number)
        for turn in range(15):
            targets = order.sample(names, 12)
            deliveries = [message(f"{number}-{turn}-{name}", name) for name in targets]
            if number % 2:
                assert set(await stores[number].deliver(deliveries)) == set(targets)
            else:
                own = commit(f"own{number}", step(turn + 1, full=turn % 3 == 0), deliveries=deliveries)
                assert not (await stores[number].commit(f"w{number}", [own])).lost

    async with asyncio.timeout(60):
        await asyncio.gather(*map(storm, range(4)))
    await enlist(stores[0], "reader")
    assert len(ids(await claim(stores[0], "reader"))) == len(names)
    assert len(await stores[0].take_inbox("reader")) == 4 * 15 * 12


# --- parking


async def test_a_parked_instance_waits_for_a_person(store: Any) -> None:
    await owned(store, "w", "a", "b")
    await store.commit("w", [commit("a", step(1), close=Park(reason="no worker knows app:send"))])
    view = await look(store, "a")
    assert (view.status, view.reason, view.owner) == (Status.PARKED, "no worker knows app:send", None)
    cancel = message("m", "a", kind=DeliveryKind.CANCEL)
    assert await store.deliver([cancel]) == ["a"]
    assert ids(await claim(store, "w", now=NOW + 999)) == []
    assert (await look(store, "a")).status == Status.PARKED
    assert await store.resume([InstanceId("a"), InstanceId("b"), InstanceId("ghost")], now=NOW + 5) == ["a"]
    assert await store.resume([InstanceId("a")], now=NOW + 5) == []
    assert (await look(store, "a")).reason is None
    assert ids(await claim(store, "w", now=NOW + 5)) == ["a"]
    assert await store.take_inbox("w") == [cancel]


# --- spilled calls


async def test_spilled_calls_are_claimed_by_queue_priority_and_age(store: Any) -> None:
    await owned(store, "w", "a")
    spilled = [
        call("k1", "a", due_at=NOW - 1),
        call("k2", "a", due_at=NOW - 3, attempt=2),
        call("k3", "a", priority=5),
        call("k4", "a", queue="gpu"),
        call("k5", "a", due_at=NOW + 30),
    ]
    await store.commit("w", [commit("a", step(1), spilled=spilled)])
    assert list((await claim(store, "w", call_room=0)).calls) == []
    assert [each.id for each in (await claim(store, "w", queues=["default"], call_room=2)).calls] == [
        "k3",
        "k2",
    ]
    rest = await claim(store, "w", room=0)
    assert {each.id for each in rest.calls} == {"k1", "k4"}
    assert rest.next_due == NOW + 30


async def test_a_settled_call_goes_to_its_instances_inbox_once(bench: Any) -> None:
    one, two = await bench.store(), await bench.store()
    await owned(one, "w1", "a")
    await one.commit("w1", [commit("a", step(1), spilled=[call("k", "a")])])
    await enlist(two, "w2")
    [taken] = (await claim(two, "w2")).calls
    outcome = message("r", "a", kind=DeliveryKind.RESULT)
    assert list((await one.settle("w1", [Settled(call=taken, delivery=outcome)])).owners) == []
    assert await two.held_calls("w2", ["k", "ghost"]) == ["k"]
    done = await two.settle("w2", [Settled(call=taken, delivery=outcome)])
    assert (list(done.owners), done.started) == (["w1"], False)
    assert list((await two.settle("w2", [Settled(call=taken, delivery=outcome)])).owners) == []
    assert await one.take_inbox("w1") == [outcome]


async def test_a_settled_call_wakes_its_sleeping_instance(store: Any) -> None:
    await owned(store, "w", "a")
    await store.commit("w", [commit("a", step(1), spilled=[call("k", "a")], close=asleep())])
    [taken] = (await claim(store, "w")).calls
    done = await store.settle("w", [Settled(call=taken, delivery=message("r", "a"))])
    assert (list(done.owners), done.started) == ([], True)
    assert ids(await claim(store, "w")) == ["a"]


async def test_a_recalled_call_is_no_longer_wanted(store: Any) -> None:
    await owned(store, "w", "a")
    await store.commit(
        "w", [commit("a", step(1), spilled=[call("k", "a"), call("m", "a"), call("n", "a")], recalled=["n"])]
    )
    assert {each.id for each in (await claim(store, "w")).calls} == {"k", "m"}
    await store.commit("w", [commit("a", step(2), recalled=["k"])])
    assert await store.held_calls("w", ["k", "m", "n"]) == ["m"]
    assert list((await store.settle("w", [Settled(call=call("k", "a"), delivery=message("r", "a"))])).owners) == []
    assert await store.take_inbox("w") == []


# --- looking


async def test_listings_are_filtered_and_paged_newest_first(store: Any) -> None:
    await store.start(
        [
            start(f"i{number}", created_at=NOW + number // 2, name=f"app:N{number % 2}", tags=f"n={number} all")
            for number in range(6)
        ]
        + [start("kid", parent="i0", created_at=NOW - 5)]
    )

    async def found(**fields: Any) -> list[str]:
        filter = InstanceFilter(**fields)
        return [each.id for each in await store.find(filter)]

    assert await found() == ["i5", "i4", "i3", "i2", "i1", "i0", "kid"]
    assert await found(limit=2) == ["i5", "i4"]
    assert await found(limit=2, before=(NOW + 2, "i4")) == ["i3", "i2"]
    assert await found(name="app:N1") == ["i5", "i3", "i1"]
    assert await found(status=Status.DONE) == []
    assert await found(parent=InstanceId("i0")) == ["kid"]
    assert await found(tag="n=3") == ["i3"]
    assert await found(tag="n=") == []
    assert await found(created_after=NOW + 1) == ["i5", "i4"]
    assert await found(created_before=NOW) == ["kid"]
    assert await found(ids=[InstanceId("i1"), InstanceId("nope")]) == ["i1"]
    assert await found(name="app:N0", status=Status.PENDING, tag="all", created_before=NOW + 2) == [
        "i2",
        "i0",
    ]
    assert await store.count(InstanceFilter(name="app:N1")) == 3
    assert await store.count(InstanceFilter()) == 7
    tally = await store.tally()
    assert sum(tally.values()) == 7
    assert all([count == await store.count(InstanceFilter(status=status)) for status, count in tally.items()])


async def test_workflows_are_found_by_their_whole_names_and_by_their_classes(store: Any) -> None:
    names = {"a": "app.deep:Outer.Inner", "b": "app:Inner", "c": "own name", "d": "app:Thinner"}
    await store.start([start(id, name=name) for id, name in names.items()])

    async def found(name: str) -> list[str]:
        assert await store.count(InstanceFilter(name=name)) == len(await store.find(InstanceFilter(name=name)))
        return sorted([each.id for each in await store.find(InstanceFilter(name=name))])

    assert await found("Inner") == ["a", "b"]
    assert await found("Outer.Inner") == await found("app.deep:Outer.Inner") == ["a"]
    assert await found("own name") == ["c"]
    assert await found("inner") == await found("name") == await found("app") == await found("") == []


async def test_a_listing_leaves_outcomes_out(store: Any) -> None:
    await owned(store, "w", "a")
    await store.commit("w", [commit("a", step(1), close=ending())])
    [found] = await store.find(InstanceFilter(status=Status.DONE))
    assert found.outcome is None
    assert (await look(store, "a")).outcome == b"42"


async def test_only_ended_instances_can_be_deleted(store: Any) -> None:
    await owned(store, "w", "a", "b")
    await store.commit("w", [commit("a", step(1), close=ending())])
    assert await store.delete([InstanceId("a"), InstanceId("b"), InstanceId("ghost")]) == ["a"]
    assert [each.id for each in await store.view([InstanceId("a"), InstanceId("b")])] == ["b"]
    assert await store.history(InstanceId("a")) == []
    assert await store.start([start("a")]) == ["a"]


# --- a worker's id


async def test_enlisting_again_after_an_unclear_answer_is_harmless(store: Any) -> None:
    await owned(store, "w", "a")
    await enlist(store, "w", now=NOW + 2)
    assert [(each.id, each.owned) for each in await store.workers(now=NOW)] == [("w", 1)]
    assert (await look(store, "a")).owner == WorkerId("w")


# --- the number of a claim


async def test_a_release_that_is_repeated_after_a_new_claim_by_the_same_worker_changes_nothing(store: Any) -> None:
    await enlist(store, "w")
    await store.start([start("a")])
    (first,) = (await claim(store, "w")).instances
    release = commit("a", close=asleep(NOW), claim=first.claim)
    await store.commit("w", [release])
    (second,) = (await claim(store, "w")).instances
    assert second.claim == first.claim + 1
    # The answer to the release had got lost.
    committed = await store.commit("w", [release])
    assert committed.lost == {"a"}
    assert committed.kept == frozenset()
    assert (await look(store, "a")).owner == "w"
    committed = await store.commit("w", [commit("a", step(1), close=ending(), claim=second.claim)])
    assert committed.lost == frozenset()
    assert (await look(store, "a")).status is Status.DONE


async def test_an_ending_under_an_old_claim_is_lost_and_tells_nobody(store: Any) -> None:
    await enlist(store, "w")
    await store.start([start("a", waiter="someone")])
    (first,) = (await claim(store, "w")).instances
    await store.commit("w", [commit("a", step(1), close=asleep(NOW), claim=first.claim)])
    (second,) = (await claim(store, "w")).instances
    committed = await store.commit("w", [commit("a", step(2), close=ending(), claim=first.claim)])
    assert committed.lost == {"a"}
    assert list(committed.waiters) == []
    assert (await look(store, "a")).status is Status.PENDING
    committed = await store.commit("w", [commit("a", step(2), close=ending(), claim=second.claim)])
    assert list(committed.waiters) == [("someone", "a")]


async def test_a_repeated_ending_is_not_taken_for_a_lost_one(store: Any) -> None:
    await enlist(store, "w")
    await store.start([start("a", waiter="someone")])
    (mine,) = (await claim(store, "w")).instances
    end = commit("a", step(1), close=ending(), claim=mine.claim)
    first = await store.commit("w", [end])
    again = await store.commit("w", [end])
    assert again.lost == first.lost == frozenset()
    assert list(again.waiters) == list(first.waiters) == [("someone", "a")]


async def test_parents_that_wait_are_never_displaced_by_others(store: Any) -> None:
    await enlist(store, "w")
    await store.start([start("a")])
    parents = [f"hf_i_parent{n}/1" for n in range(80)]
    for n, parent in enumerate(parents):
        await store.view([InstanceId("a")], waiter=parent)
        await store.view([InstanceId("a")], waiter=f"hf_c_client{n}")
    await claim(store, "w")
    told = {channel for channel, _ in (await store.commit("w", [commit("a", step(1), close=ending())])).waiters}
    assert told >= set(parents)
    assert "hf_c_client79" in told
    assert "hf_c_client0" not in told
