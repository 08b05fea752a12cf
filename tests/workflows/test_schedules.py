"""Schedules: one instance a tick, in the right timezone, with overlap and catch-up as asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from holdfast import CatchUp, Overlap, Status, Workflow, action, schedule, workflow
from holdfast.errors import ConfigurationError, HoldfastError
from holdfast.model.instance import InstanceFilter
from holdfast.schedules import Spec, Ticker
from holdfast.task import ACTIONS
from holdfast.testing import workflow_app


@workflow
class Report(Workflow):
    async def run(self, region: str = "eu", hours: float = 0.0) -> str:
        await asyncio.sleep(hours * 3600)
        return region


async def instances(app, name="nightly"):
    found = await app.store.find(InstanceFilter(tag=f"schedule={name}", limit=1000))
    return sorted(view.id for view in found)


async def until(app, count, name="nightly"):
    async with asyncio.timeout(20):
        while len(found := await instances(app, name)) < count:
            await asyncio.sleep(0.005)
    return found


async def test_a_cron_schedule_ticks_in_its_timezone():
    async with workflow_app(start=datetime(2030, 3, 30, 12, tzinfo=UTC)) as app:
        await schedule(Report, id="nightly", cron="30 2 * * *", timezone="Europe/Berlin", inputs={"region": "de"})
        found = await until(app, 3)
        # On the 31st the clocks go from 2 to 3 o'clock, so that 02:30 is at 01:30 UTC before and 00:30 UTC after.
        assert found[1:3] == ["nightly@2030-04-01T00:30:00Z", "nightly@2030-04-02T00:30:00Z"]
        assert await app.handle(found[0]).result() == "de"


async def test_many_workers_start_one_instance_a_tick():
    async with workflow_app(move_time=False) as app:
        await schedule(Report, id="nightly", every=10, overlap=Overlap.ALLOW)
        tickers = [Ticker(store=app.store, registry=app.registry, clock=app.clock) for _ in range(8)]
        for n in range(1, 5):
            app.clock.move(10)
            await asyncio.gather(*[ticker.tick() for ticker in tickers])
            assert len(await instances(app)) == n


@pytest.mark.parametrize(("overlap", "started"), [(Overlap.SKIP, 1), (Overlap.ALLOW, 3), (Overlap.CANCEL, 3)])
async def test_overlap(overlap, started):
    async with workflow_app(move_time=False) as app:
        await schedule(Report, id="nightly", every=10, inputs={"hours": 100}, overlap=overlap)
        ticker = Ticker(store=app.store, registry=app.registry, clock=app.clock)
        for _ in range(3):
            app.clock.move(10)
            await ticker.tick()
        assert len(await instances(app)) == started


@pytest.mark.parametrize(("catch_up", "started"), [(CatchUp.LATEST, 1), (CatchUp.ALL, 6), (CatchUp.NONE, 0)])
async def test_catch_up(catch_up, started):
    async with workflow_app(move_time=False) as app:
        await schedule(Report, id="nightly", every=3600, catch_up=catch_up, overlap=Overlap.ALLOW)
        app.clock.move(6 * 3600 + 600)
        await Ticker(store=app.store, registry=app.registry, clock=app.clock).tick()
        assert len(await instances(app)) == started


async def ended(app, id):
    return await app.handle(id).wait(timeout=20)


async def test_missed_ticks_under_skip_run_one_after_the_other():
    async with workflow_app(move_time=False) as app:
        await schedule(Report, id="nightly", every=3600, inputs={"hours": 0.5}, catch_up=CatchUp.ALL)
        ticker = Ticker(store=app.store, registry=app.registry, clock=app.clock)
        app.clock.move(3 * 3600 + 600)
        for n in range(1, 4):
            await ticker.tick()
            await ticker.tick()
            found = await instances(app)
            # The next one waits while this one runs.
            assert len(found) == n
            await asleep(app, found[-1])
            app.clock.move(1801)
            await ended(app, found[-1])
        (row,) = await app.store.schedules()
        assert row.skipped == 0


async def asleep(app, id):
    async with asyncio.timeout(20):
        while len(await app.handle(id).history()) < 2:
            await asyncio.sleep(0.002)


async def test_a_tick_on_time_is_skipped_and_counted_while_an_instance_runs():
    async with workflow_app(move_time=False) as app:
        await schedule(Report, id="nightly", every=3600, inputs={"hours": 100}, catch_up=CatchUp.ALL)
        ticker = Ticker(store=app.store, registry=app.registry, clock=app.clock)
        for _ in range(4):
            app.clock.move(3600)
            await ticker.tick()
        assert len(await instances(app)) == 1
        (row,) = await app.store.schedules()
        assert row.skipped == 3


def test_no_missed_tick_is_cut_off():
    spec = Spec(workflow="x", every=1.0, catch_up=CatchUp.ALL, overlap=Overlap.ALLOW)
    ticks: list[float] = []
    at: float | None = 1.0
    while at is not None and at <= 2500.0:
        firing = spec.firing(at, 2500.0, running=False)
        ticks += firing.ticks
        at = firing.next_at
    assert ticks == [float(n) for n in range(1, 2501)]


@action(name="schedules:lost")
async def lost() -> None:
    await asyncio.sleep(3600)


@workflow
class Stuck(Workflow):
    async def run(self) -> None:
        await lost()


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.CANCEL])
async def test_a_parked_instance_holds_no_tick_up(overlap, monkeypatch):
    async with workflow_app(move_time=False) as app:
        await schedule(Stuck, id="nightly", every=10, overlap=overlap)
        ticker = Ticker(store=app.store, registry=app.registry, clock=app.clock)
        with monkeypatch.context() as patched:
            patched.delitem(ACTIONS, "schedules:lost")
            app.clock.move(10)
            await ticker.tick()
            (first,) = await instances(app)
            assert await ended(app, first) is Status.PARKED
        app.clock.move(10)
        await ticker.tick()
        assert len(await instances(app)) == 2
        if overlap is Overlap.CANCEL:
            # It was asked to, and will hear of it when somebody lets it go on.
            await app.store.resume([first], now=app.clock.now())
            app.worker.owner.look()
            assert await ended(app, first) is Status.CANCELLED


async def test_pause_resume_trigger_delete():
    async with workflow_app(move_time=False) as app:
        handle = await schedule(Report, id="nightly", every=10)
        ticker = Ticker(store=app.store, registry=app.registry, clock=app.clock)
        await handle.pause()
        app.clock.move(100)
        await ticker.tick()
        assert await instances(app) == []
        made = await handle.trigger()
        assert await app.handle(made).result() == "eu"
        await handle.resume()
        await ticker.tick()
        assert len(await instances(app)) == 1
        app.clock.move(10)
        await ticker.tick()
        assert len(await instances(app)) == 2
        await handle.delete()
        with pytest.raises(HoldfastError, match="no schedule"):
            await handle.pause()


async def test_scheduling_again_changes_the_schedule():
    async with workflow_app(move_time=False) as app:
        await schedule(Report, id="nightly", every=10)
        await schedule(Report, id="nightly", every=50)
        (row,) = await app.store.schedules()
        assert Spec.load(row.spec).every == 50


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either cron= or every="),
        ({"cron": "* * * * *", "every": 5}, "not both"),
        ({"cron": "99 * * * *"}, "not a cron expression"),
        ({"every": 0}, "more than 0"),
        ({"every": 5, "timezone": "Mars/Base"}, "no timezone"),
        ({"every": 5, "jitter": -1}, "jitter"),
    ],
)
async def test_a_schedule_that_cannot_tick_is_refused(options, said):
    async with workflow_app() as app:
        with pytest.raises(ConfigurationError, match=said):
            await app.schedule(Report, id="nightly", **options)


def test_jitter_is_bounded_and_the_same_everywhere():
    spec = Spec(workflow="x", every=10.0, jitter=5.0)
    delays = [spec.delay("nightly", float(tick)) for tick in range(100)]
    assert all(0 <= delay < 5 for delay in delays)
    assert len(set(delays)) > 90
    assert spec.delay("nightly", 7.0) == delays[7]


def test_a_long_outage_of_a_frequent_schedule_is_skipped_quickly():
    spec = Spec(workflow="x", every=1.0)
    ticks, after = spec.due(10.0, 10_000_000.0)
    assert len(ticks) == 1
    assert after is not None
    assert after > 10_000_000.0
    assert datetime.fromtimestamp(ticks[0], ZoneInfo("UTC")).year == 1970
