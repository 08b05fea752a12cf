"""What every store does about instances that are ended or deleted from outside, and what it knows of them for that."""

from __future__ import annotations

from typing import Any

from tests.backends.making import (
    NOW,
    asleep,
    call,
    claim,
    commit,
    dismissal,
    ending,
    enlist,
    ids,
    look,
    message,
    owned,
    start,
    step,
)

from holdfast.clock import SystemClock
from holdfast.ids import InstanceId
from holdfast.model.instance import DeliveryKind, Park, Status
from holdfast.runtime import dismissing


def named(*names: str) -> list[InstanceId]:
    return [InstanceId(name) for name in names]


async def test_a_parked_instance_is_dismissed_with_all_that_was_for_it(store: Any) -> None:
    await owned(store, "w", "a", "b")
    await store.commit("w", [commit("a", step(1), spilled=[call("k", "a")])])
    await store.commit("w", [commit("a", step(2), close=Park(reason="no worker knows app:send"))])
    await store.deliver([message("m", "a", kind=DeliveryKind.CANCEL), message("n", "b")])
    await store.view(named("a"), waiter="someone")
    done = await store.dismiss([dismissal("a", 3)])
    assert (list(done.waiters), done.lost) == ([("someone", "a")], frozenset())
    view = await look(store, "a")
    assert (view.status, view.outcome, view.reason) == (Status.CANCELLED, b"gone", "nobody wants it")
    assert (view.ended_at, view.due_at, view.owner) == (NOW + 7, None, None)
    assert [each.payload for each in await store.history(InstanceId("a"))][-1] == b"step 3"
    assert await store.resume(named("a"), now=NOW) == []
    assert await store.deliver([message("o", "a")]) == []
    taken = await claim(store, "w", now=NOW + 99)
    assert [*ids(taken), *taken.calls] == []
    assert [each.id for each in await store.take_inbox("w")] == ["n"]
    assert await store.delete(named("a")) == ["a"]
    assert await store.start([start("a")]) == ["a"]
    assert ids(await claim(store, "w")) == ["a"]
    assert [each.id for each in await store.take_inbox("w")] == ["n"]


async def test_a_sleeper_is_dismissed_too(store: Any) -> None:
    await owned(store, "w", "a")
    await store.commit("w", [commit("a", step(1), close=asleep(NOW + 50))])
    assert (await store.dismiss([dismissal("a", 2)])).lost == frozenset()
    assert (await look(store, "a")).status is Status.CANCELLED
    assert ids(await claim(store, "w", now=NOW + 99)) == []


async def test_only_what_nobody_owns_and_stands_where_it_was_seen_is_dismissed(store: Any) -> None:
    await owned(store, "w", "owned", "ended", "further", "again")
    await store.commit("w", [commit("ended", step(1), close=ending())])
    await store.commit("w", [commit("further", step(1), step(2), close=Park(reason="x"))])
    await store.commit("w", [commit("again", step(1), close=Park(reason="x"))])
    assert (await store.dismiss([dismissal("again", 2)])).lost == frozenset()
    asked = [dismissal("owned", 1), dismissal("ended", 2), dismissal("further", 2), dismissal("ghost", 1)]
    told = [message("m", "owned")]
    done = await store.dismiss([*asked[:-1], dismissal("ghost", 1, deliveries=told), dismissal("again", 2)])
    assert done.lost == {"owned", "ended", "further", "ghost", "again"}
    assert (await look(store, "owned")).status is Status.PENDING
    assert (await look(store, "ended")).outcome == b"42"
    assert (await look(store, "further")).status is Status.PARKED
    assert await store.take_inbox("w") == []
    assert [each.seq for each in await store.history(InstanceId("again"))] == [0, 1, 2]
    assert (await store.dismiss([])).lost == frozenset()


async def test_a_dismissal_tells_others_unless_they_are_dismissed_with_it(store: Any) -> None:
    await owned(store, "w", "parent", "asleep", "kid")
    await store.commit("w", [commit("asleep", step(1), close=asleep())])
    await store.commit("w", [commit("kid", step(1), close=Park(reason="x"))])
    news = [message("p", "parent"), message("s", "asleep"), message("k", "kid")]
    done = await store.dismiss([dismissal("kid", 2, deliveries=news)])
    assert (list(done.owners), done.started) == (["w"], True)
    assert [each.id for each in await store.take_inbox("w")] == ["p"]
    assert ids(await claim(store, "w")) == ["asleep"]
    await store.commit("w", [commit("parent", close=Park(reason="x"), consumed=["p"])])
    await store.commit("w", [commit("asleep", close=Park(reason="x"), consumed=["s"])])
    both = [
        dismissal("asleep", 2, deliveries=[message("1", "parent")]),
        dismissal("parent", 1, deliveries=[message("2", "asleep")]),
    ]
    done = await store.dismiss(both)
    assert (list(done.owners), done.started, done.lost) == ([], False, frozenset())


async def test_a_commit_names_the_parked_ones_to_whom_it_delivers(store: Any) -> None:
    await owned(store, "w", "a", "parked", "owned")
    await store.commit("w", [commit("parked", close=Park(reason="x"))])
    news = [message("m", "parked"), message("n", "owned"), message("o", "ghost")]
    done = await store.commit("w", [commit("a", step(1), deliveries=news)])
    assert (done.parked, list(done.owners)) == ({"parked"}, ["w"])


async def test_where_instances_stand_is_read_from_their_latest_full_rows_on(store: Any) -> None:
    await owned(store, "w", "a", "b")
    await store.commit("w", [commit("a", step(1)), commit("b", step(1), step(2, full=True), step(3))])
    found = await store.latest_steps(named("a", "b", "ghost"))
    assert {id: [each.seq for each in steps] for id, steps in found.items()} == {"a": [0, 1], "b": [2, 3]}
    assert found["b"][0].full
    assert await store.latest_steps([]) == {}


async def test_a_family_is_all_that_descend_from_some(store: Any) -> None:
    await store.start(
        [
            start("a"),
            start("a.1", parent="a", parent_call="1"),
            start("a.1.1", parent="a.1", parent_call="1"),
            start("other"),
            start("b"),
        ]
    )
    found = await store.family(named("a", "b", "ghost"))
    assert sorted(each.id for each in found) == ["a", "a.1", "a.1.1", "b"]
    assert {each.id: each.parent for each in found}["a.1.1"] == "a.1"
    assert [each.id for each in await store.family(named("a.1.1"))] == ["a.1.1"]
    assert await store.family([]) == []


async def test_a_family_stays_whole_where_one_of_it_goes_on_in_the_last_moment(store: Any) -> None:
    await owned(store, "w", "a")
    await store.start([start("kid", parent=InstanceId("a"), parent_call="1")])
    assert ids(await claim(store, "w")) == ["kid"]
    await store.commit("w", [commit("kid", step(1), close=ending()), commit("a", step(1), close=Park(reason="x"))])
    dismiss = store.dismiss

    async def late(dismissals: Any) -> Any:
        assert await store.resume(named("a"), now=NOW)
        assert ids(await claim(store, "v")) == ["a"]
        return await dismiss(dismissals)

    await enlist(store, "v")
    store.dismiss = late
    [done] = await dismissing.delete(store, named("a"), clock=SystemClock(), force=False)
    assert (done.gone, [view.id for view in done.living]) == (0, ["a"])
    assert (await look(store, "kid")).status is Status.DONE
