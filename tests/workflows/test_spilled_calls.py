"""Calls handed to other workers: taken as soon as there is room, dropped once nobody wants them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from holdfast import App, Workflow, action, workflow
from holdfast.clock import SystemClock
from holdfast.errors import WorkflowCancelled

begun = asyncio.Event()
stopped = asyncio.Event()
gate = asyncio.Event()


@pytest.fixture(autouse=True)
def fresh_events():
    for event in (begun, stopped, gate):
        event.clear()
        # Each test has a loop of its own.
        event._loop = None


@action(queue="far")
async def endless() -> None:
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        stopped.set()


@action(queue="far")
async def far(n: int) -> int:
    return n + 1


@action
async def pass_gate() -> None:
    begun.set()
    await gate.wait()


@workflow
class CallsFarAway(Workflow):
    async def run(self) -> None:
        await endless()


@workflow
class GivesUp(Workflow):
    async def run(self) -> str:
        task = asyncio.create_task(endless())
        await self.receive("enough")
        task.cancel()
        await self.receive("leave")
        return "gave up"


@workflow
class CallsFarAwayTwice(Workflow):
    async def run(self) -> None:
        await far(1)
        await endless()


@workflow
class Adds(Workflow):
    async def run(self, n: int) -> int:
        return await far(n)


@workflow
class Stays(Workflow):
    """Holds its place in memory: it never waits long enough to be let go."""

    async def run(self) -> str:
        await pass_gate()
        for _ in range(1000):
            await asyncio.sleep(0.5)
        return "left"


@asynccontextmanager
async def working(url: str, **settings: object):
    app = App("test", url=url, lease_seconds=1.0, **settings)
    async with app:
        await app.start_worker().ready.wait()
        yield app


async def test_a_spilled_action_sees_that_its_instance_was_cancelled(url: str):
    async with working(url, queues="near") as near, working(url, queues="far") as taker:
        handle = await near.client.start([CallsFarAway().start(queue="near")], waiting=False)
        async with asyncio.timeout(10):
            await begun.wait()
            await handle[0].cancel()
            with pytest.raises(WorkflowCancelled):
                await handle[0].result()
            await stopped.wait()
            await taker.worker.owner.executor.drained()


async def test_a_spilled_action_sees_that_its_caller_gave_up(url: str):
    async with working(url, queues="near") as near, working(url, queues="far"):
        (handle,) = await near.client.start([GivesUp().start(queue="near")], waiting=False)
        async with asyncio.timeout(10):
            await begun.wait()
            await handle.send("enough", True)
            await stopped.wait()
            await handle.send("leave", True)
            assert await handle.result() == "gave up"


async def test_a_worker_that_was_full_takes_calls_as_soon_as_an_action_ends(url: str):
    async with (
        working(url, queues="near") as near,
        working(url, queues="here,far", max_instances=1, concurrent_per_worker=1) as full,
    ):
        (staying,) = await full.client.start([Stays().start(queue="here")], waiting=False)
        async with asyncio.timeout(10):
            await begun.wait()
            (adding,) = await near.client.start([Adds().start(1, queue="near")], waiting=False)
            while not await waits_for_somebody(near, adding.id):
                await asyncio.sleep(0.01)
            gate.set()
            assert await adding.result() == 2
            await staying.cancel()
            await staying.wait()


async def test_a_full_worker_asks_for_little(postgres_url: str):
    async with working(postgres_url, max_instances=1, concurrent_per_worker=1) as full:
        (passing,) = await full.client.start([Stays().start()], waiting=False)
        await begun.wait()
        # Over some seconds, for it is a rate: the lease is renewed three times a second, the inbox looked into once.
        clock = SystemClock()
        begin, before = clock.now(), full.store.statements
        await asyncio.sleep(3)
        assert (full.store.statements - before) / (clock.now() - begin) <= 4.7
        gate.set()
        await passing.cancel()
        await passing.wait()


async def test_a_full_worker_hears_what_another_process_sends(url: str):
    async with (
        App("elsewhere", url=url, embedded_worker=False) as elsewhere,
        working(url, max_instances=1, concurrent_per_worker=1) as full,
    ):
        (waiting,) = await full.client.start([Stays().start()], waiting=False)
        async with asyncio.timeout(10):
            await begun.wait()
            before = len(await waiting.history())
            await elsewhere.handle(waiting.id).send("hello", 1)
            while len(await waiting.history()) == before:
                await asyncio.sleep(0.01)
            # What woke it did not make room: it went back to waiting.
            await elsewhere.handle(waiting.id).cancel()
            with pytest.raises(WorkflowCancelled):
                await waiting.result()


async def waits_for_somebody(app: App, id: str) -> bool:
    """Whether the call that the instance spilled is in its history."""
    return len(await app.handle(id).history()) > 1


async def test_a_call_whose_owner_is_gone_stays_with_the_workers_of_its_queue(url: str):
    async with working(url, queues="near,far", drain_seconds=0.0) as first:
        (handle,) = await first.client.start([CallsFarAwayTwice().start(queue="near")], waiting=False)
        async with asyncio.timeout(10):
            await begun.wait()
    begun.clear()
    async with working(url, queues="near", embedded_worker=False) as near:
        async with asyncio.timeout(10):
            while not any(b'"spilled":true' in step.payload for step in await near.handle(handle.id).history()):
                await asyncio.sleep(0.01)
        assert not begun.is_set()
        async with working(url, queues="far"), asyncio.timeout(10):
            await begun.wait()
            await near.handle(handle.id).cancel()
            await stopped.wait()
