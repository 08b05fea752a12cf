"""What every store does besides: schedules, garbage collection, heartbeats of another thread, wake-ups."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tests.backends.making import (
    DAY,
    NOW,
    asleep,
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

from holdfast.ids import InstanceId
from holdfast.model.instance import ScheduleRow, Status
from holdfast.ports import NEWS_LIMIT


def schedule(id: str = "nightly", **fields: Any) -> ScheduleRow:
    return ScheduleRow(**({"id": id, "spec": b'{"cron": "0 0 * * *"}', "next_at": NOW} | fields))


# --- schedules


async def test_a_schedule_is_created_once_and_replaced_on_demand(store: Any) -> None:
    assert await store.save_schedule(schedule(), replace=False)
    assert not await store.save_schedule(schedule(paused=True), replace=False)
    assert await store.schedules() == [schedule()]
    assert await store.save_schedule(schedule(paused=True, next_at=None), replace=True)
    [row] = await store.schedules()
    assert (row.paused, row.next_at, row.version) == (True, None, 1)
    assert await store.delete_schedule("nightly")
    assert not await store.delete_schedule("nightly")
    assert await store.schedules() == []


async def test_a_tick_fires_once(bench: Any) -> None:
    stores = [await bench.store() for _ in range(3)]
    await stores[0].save_schedule(schedule(), replace=False)
    advanced = schedule(next_at=NOW + DAY, last_at=NOW, skipped=2)
    fired = await asyncio.gather(*(each.fire(advanced, starts=[start("tick")], expect_version=0) for each in stores))
    assert sorted(fired) == [False, False, True]
    [row] = await stores[0].schedules()
    assert (row.next_at, row.last_at, row.skipped, row.version) == (NOW + DAY, NOW, 2, 1)
    assert (await look(stores[0], "tick")).status == Status.PENDING
    assert [each.payload for each in await stores[0].history(InstanceId("tick"))] == [b"input of tick"]


async def test_a_tick_of_a_replaced_or_deleted_schedule_does_not_fire(store: Any) -> None:
    await store.save_schedule(schedule(), replace=False)
    await store.save_schedule(schedule(spec=b"new"), replace=True)
    assert not await store.fire(schedule(), starts=[start("tick")], expect_version=0)
    assert not await store.fire(schedule("ghost"), starts=[start("tick")], expect_version=0)
    assert await store.view([InstanceId("tick")]) == []
    assert await store.fire(schedule(), starts=[], expect_version=1)


# --- garbage


async def test_a_sweep_removes_ended_instances_and_their_journals(store: Any) -> None:
    names = [f"i{number}" for number in range(7)]
    await owned(store, "w", *names, "recent", "alive", created_at=NOW - 9 * DAY)
    old = [commit(name, step(1, at=NOW - 8 * DAY), close=ending()) for name in names]
    await store.commit("w", [*old, commit("recent", step(1, at=NOW - DAY), close=ending())])
    swept = await store.sweep(ended_before=NOW - 7 * DAY, history_before=NOW - 99 * DAY, now=NOW, batch=3)
    assert (swept.instances, swept.steps) == (7, 14)
    assert [each.id for each in await store.view([InstanceId(each) for each in [*names, "recent"]])] == ["recent"]
    assert (await look(store, "alive")).owner == "w"
    assert await store.history(InstanceId("i3")) == []
    assert [each.seq for each in await store.history(InstanceId("recent"))] == [0, 1]


async def test_a_sweep_keeps_what_recovery_needs_of_old_history(store: Any) -> None:
    """Also when a sweep comes every day, and the rows an instance needs get older and older."""
    begin = NOW - 40 * DAY
    # The days' partitions are there before their rows, as they are where sweeps come daily.
    await store.sweep(ended_before=begin, history_before=begin, now=begin, batch=10)
    await store.start(
        [
            start("living", created_at=begin),
            start("ended", created_at=begin),
            start("fresh", created_at=begin),
        ]
    )
    await enlist(store, "w", now=begin, lease=99 * DAY)
    assert len(ids(await claim(store, "w", now=begin))) == 0
    assert len(ids(await claim(store, "w", now=NOW, room=3))) == 3
    await store.commit("w", [commit("fresh", close=asleep(NOW))])
    await store.commit("w", [commit("living", step(1, begin), step(2, begin + 60, full=True), step(3, begin + 60))])
    await store.commit("w", [commit("ended", step(1, begin), close=ending())])
    for day in range(1, 41):
        now = begin + day * DAY
        await store.sweep(ended_before=begin, history_before=now - 5 * DAY, now=now, batch=2)
        await store.commit("w", [commit("living", step(3 + day, at=now))])
    assert [each.seq for each in await store.history(InstanceId("ended"))] == []
    history = await store.history(InstanceId("living"))
    assert [each.seq for each in history] == list(range(2, 44))
    assert history[0].full
    await store.retire("w", now=NOW)
    await enlist(store, "v")
    claimed = {each.id: each for each in (await claim(store, "v")).instances}
    assert [each.seq for each in claimed["living"].steps] == list(range(2, 44))
    assert [each.seq for each in claimed["fresh"].steps] == [0]


async def test_history_below_a_new_base_ages_away(store: Any) -> None:
    begin = NOW - 20 * DAY
    await store.sweep(ended_before=begin, history_before=begin, now=begin, batch=10)
    await owned(store, "w", "a", created_at=begin)
    await store.commit("w", [commit("a", step(1, begin), step(2, begin))])
    await store.commit("w", [commit("a", step(3, NOW, full=True), step(4, NOW))])
    await store.sweep(ended_before=begin, history_before=NOW - 10 * DAY, now=NOW, batch=10)
    assert [each.seq for each in await store.history(InstanceId("a"))] == [3, 4]


async def test_a_sweep_of_nothing_does_nothing(store: Any) -> None:
    swept = await store.sweep(ended_before=NOW, history_before=NOW, now=NOW, batch=10)
    assert (swept.instances, swept.steps) == (0, 0)


# --- heartbeats of another thread


async def test_heartbeats_come_from_another_threads_event_loop(store: Any) -> None:
    await owned(store, "w", "a")

    async def beat() -> list[bool]:
        beats = [await store.heartbeat("w", lease=10, now=NOW + number) for number in range(3)]
        await store.close_thread()
        await store.close_thread()
        return [each.alive for each in beats]

    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.extend(asyncio.run(beat())))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert answers == [True, True, True]
    [worker] = await store.workers(now=NOW)
    assert worker.expires_at == NOW + 12


# --- wake-ups


async def test_writers_wake_whom_it_concerns(store: Any) -> None:
    """A start wakes the idle, a delivery the owner; whoever stops listening hears no more."""
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def hear(channel: str, text: str) -> None:
        heard.put_nowait((channel, text))

    await owned(store, "w", "a")
    await store.idle("w", True)
    stop_work = await store.listen("hf_work", hear)
    await store.listen("hf_w_w", hear)
    await store.listen("mine", hear)
    async with asyncio.timeout(10):
        await store.start([start("b")])
        assert await heard.get() == ("hf_work", "")
        await store.deliver([message("m", "a")])
        assert await heard.get() == ("hf_w_w", "")
        await stop_work()
        await stop_work()
        await store.start([start("c")])
        await store.notify({"mine": "é" * (NEWS_LIMIT // 2), "nobody's": ""})
        assert await heard.get() == ("mine", "é" * (NEWS_LIMIT // 2))
    assert heard.empty()


async def test_a_change_by_another_is_noticed(bench: Any) -> None:
    one, two = await bench.store(), await bench.store()
    await one.changed()
    if one is not two:
        await two.start([start("a")])
        assert await one.changed()
    if bench.kind == "file":
        assert not await one.changed()
        await one.start([start("b")])
        assert not await one.changed()
