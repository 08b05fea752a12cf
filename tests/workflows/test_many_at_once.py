"""Hundreds of instances with the same thing on their minds: nobody is overlooked, and waiting costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from holdfast import App, Workflow, action, workflow
from holdfast.errors import StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.model.instance import Commit, Committed, Delivery, InstanceView
from holdfast.runtime import joining
from holdfast.testing import workflow_app

PARENT = "a-parent-with-an-ordinary-id-{:03d}"

begun: Counter[str] = Counter()
gates = {"first": asyncio.Event(), "others": asyncio.Event()}


@pytest.fixture(autouse=True)
def fresh_gates():
    begun.clear()
    for gate in gates.values():
        gate.clear()
        # Each test has a loop of its own.
        gate._loop = None


@pytest.fixture(params=["sqlite", "postgres"])
def still_url(request: pytest.FixtureRequest) -> str:
    """A store for an App whose time stands still."""
    return "sqlite://:memory:" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@action
async def at_once(name: str) -> None:
    begun[name] += 1


@action
async def endless(name: str) -> None:
    begun[name] += 1
    await asyncio.Event().wait()


@action
async def pass_gate(name: str) -> None:
    begun["gate"] += 1
    await gates[name].wait()


@action
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


@workflow
class Kid(Workflow):
    async def run(self, n: int) -> int:
        await nap(0.05)
        return n


@workflow
class Fan(Workflow):
    """Its branches start their children at the same moment."""

    async def run(self, width: int, name: str, delay: float) -> list[int]:
        return await asyncio.gather(*[self.branch(n, f"{name}-{n}", 0.05 + n * delay) for n in range(width)])

    async def branch(self, n: int, id: str, delay: float) -> int:
        await nap(delay)
        child = await Kid().start(n, id=id)
        return await child.result()


@workflow
class InTime(Workflow):
    """The alarm it has set rings long after it stopped waiting for it."""

    async def run(self) -> None:
        await asyncio.wait_for(at_once("in time"), 4)
        await at_once("after it")
        await endless("in time, endless")


@workflow
class TooLate(Workflow):
    async def run(self) -> str:
        try:
            await asyncio.wait_for(endless("too late, endless"), 4)
        except TimeoutError:
            return "timed out"
        return "?"


@workflow
class Waits(Workflow):
    async def run(self) -> str:
        return await self.receive("go")


@workflow
class Joins(Workflow):
    async def run(self, id: str) -> str:
        child = await Waits().start(id=id)
        return await child.result()


@workflow
class JoinsAndTicks(Workflow):
    """It never waits long enough to be let go."""

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.4)

    async def run(self, id: str) -> str:
        ticking = asyncio.create_task(self.tick())
        child = await Waits().start(id=id, queue="far")
        answer = await child.result()
        ticking.cancel()
        return answer


@workflow
class PassesGate(Workflow):
    async def run(self, n: int) -> int:
        await pass_gate("others" if n else "first")
        await at_once("after the gate")
        return n


@pytest.mark.parametrize(("width", "delay"), [(30, 0.0), (60, 0.002)])
async def test_no_parent_misses_a_child_it_is_just_starting(url: str, width: int, delay: float):
    app = App("test", url=url, embedded_worker=False, concurrent_per_worker=100)
    async with app, asyncio.timeout(30):
        await app.start_worker().ready.wait()
        handles = await app.start_many(Fan().start(width, f"fan-{n}", delay) for n in range(3))
        assert [await handle.result() for handle in handles] == [list(range(width))] * 3


async def test_alarms_that_ring_for_nothing_hide_no_others(still_url: str):
    settings = {"max_instances": 5000, "concurrent_per_worker": 5000}
    async with workflow_app(still_url, move_time=False, **settings) as app, asyncio.timeout(30):
        await app.start_many(InTime().start() for _ in range(600))
        await until(lambda: begun["in time, endless"] == 600)
        late = await app.start_many(TooLate().start() for _ in range(5))
        await until(lambda: begun["too late, endless"] == 5)
        app.clock.move(5)
        assert [await each.result() for each in late] == ["timed out"] * 5


async def test_everybody_who_waits_for_a_child_hears_of_its_end_at_once(still_url: str):
    # Time stands still: nobody comes to look by himself.
    async with workflow_app(still_url, move_time=False) as app, asyncio.timeout(30):
        await app.client.start([Waits().start(id="shared")], waiting=False)
        parents = await app.start_many(Joins().start("shared", id=PARENT.format(n)) for n in range(60))
        ids = [each.id for each in parents]
        while not all(released(view, app) for view in await app.store.view(ids)):
            await asyncio.sleep(0.01)
        await app.handle("shared").send("go", "heard")
        assert [await each.result() for each in parents] == ["heard"] * 60


def released(view: InstanceView, app: App) -> bool:
    """Whether its worker sleeps on it until it is to look after its child."""
    return view.owner is None and view.due_at is not None and view.due_at > app.clock.now()


async def test_a_parent_in_memory_finds_the_end_of_a_child_nobody_could_tell_it_of(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(joining, "LOOK_AFTER", 0.5)
    near = App("near", url=url, embedded_worker=False, queues="near")
    far = App("far", url=url, embedded_worker=False, queues="far")
    async with near, far, asyncio.timeout(30):
        joined, telling = asyncio.Event(), asyncio.Event()
        view = near.store.view

        async def note_who_joins(ids: Sequence[Any], *, waiter: str | None = None) -> Any:
            answer = await view(ids, waiter=waiter)
            if waiter is not None and joining.is_word(waiter):
                joined.set()
            return answer

        async def tell_nobody(deliveries: Sequence[Delivery]) -> Any:
            telling.set()
            await asyncio.Event().wait()

        near.store.view, far.store.deliver = note_who_joins, tell_nobody
        await near.start_worker().ready.wait()
        await far.start_worker().ready.wait()
        await near.client.start([Waits().start(id="shared", queue="far")], waiting=False)
        (parent,) = await near.client.start([JoinsAndTicks().start("shared", queue="near")], waiting=False)
        await joined.wait()
        await near.handle("shared").send("go", "found")
        await telling.wait()
        far.worker.stop(at_once=True)
        assert await parent.result() == "found"


async def test_a_worker_whose_store_is_away_rests(url: str):
    settings = {"max_instances": 5000, "concurrent_per_worker": 5000}
    app = App("test", url=url, embedded_worker=False, **settings)
    async with app, asyncio.timeout(60):
        worker = app.start_worker()
        await worker.ready.wait()
        handles = await app.start_many(PassesGate().start(n) for n in range(1600))
        await until(lambda: begun["gate"] == 1600)
        commit, away, tried = app.store.commit, True, asyncio.Event()

        async def commit_or_not(id: WorkerId, commits: Sequence[Commit]) -> Committed:
            tried.set()
            if away:
                raise StoreUnavailable("away")
            return await commit(id, commits)

        app.store.commit = commit_or_not
        gates["first"].set()
        await tried.wait()
        # While that is tried again and again, more come than are written together.
        gates["others"].set()
        await until(lambda: worker.owner.executor.load == 0)
        # Over a second, for it is a rate; what had to be done has been done before it.
        await asyncio.sleep(0.5)
        spent, begin = time.process_time(), time.monotonic()
        await asyncio.sleep(1)
        share = (time.process_time() - spent) / (time.monotonic() - begin)
        away = False
        assert [await each.result() for each in handles] == list(range(1600))
        assert share < 0.3


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.005)
