"""Workers that take jobs: how many, when they give them back, and what a stop does to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import App, JobStatus
from holdfast.model.job import JobFilter
from holdfast.runtime import consuming
from holdfast.tasks import gather


async def test_jobs_taken_ahead_go_to_others_when_those_before_them_take_long(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    """A worker that was quick claims ahead; what then gets stuck behind a slow job is for whoever has room."""
    monkeypatch.setattr(consuming, "PATIENCE", 0.1)
    monkeypatch.setattr(consuming, "AHEAD", 1000.0)
    slow, quick = (
        App(name, url=postgres_url, concurrent_per_worker=1, lease_seconds=0.6) for name in ("slow", "quick")
    )
    gate, blocked = asyncio.Event(), asyncio.Event()
    ran: list[int] = []

    @slow.task
    async def maybe_long(n: int) -> int:
        if n == 200:
            blocked.set()
            await gate.wait()
        ran.append(n)
        return n

    async with slow, quick:
        await slow.start_worker().ready.wait()
        # By the first of them it comes to expect that jobs are short.
        jobs = await maybe_long.delay_many(range(400))
        await blocked.wait()
        assert await slow.tasks.broker.count(JobFilter(status=JobStatus.RUNNING)) > 1
        await quick.start_worker().ready.wait()
        assert sorted(await gather(jobs[:200] + jobs[201:])) == [*range(200), *range(201, 400)]
        assert await jobs[200].status() is JobStatus.RUNNING
        gate.set()
        assert await jobs[200].get() == 200
        assert sorted(ran) == list(range(400))


@pytest.mark.parametrize(("prefetch", "most"), [(0, 2), (3, 5)])
async def test_prefetch_limits_what_a_worker_holds_beyond_its_room(
    url: str, prefetch: int, most: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(consuming, "AHEAD", 1000.0)
    monkeypatch.setattr(consuming, "MEASURED", 0.0)
    app = App("test", url=url, concurrent_per_worker=2, prefetch=prefetch, embedded_worker=False)
    held: set[int] = set()

    @app.task
    async def look() -> None:
        await asyncio.sleep(0)
        assert app.worker is not None
        assert app.worker.consumer is not None
        held.add(app.worker.consumer.held)

    async with app:
        jobs = await look.delay_many([()] * 200)
        app.start_worker()
        await gather(jobs)
    assert max(held) == most


async def test_a_worker_that_stops_ends_what_runs_and_hands_back_the_rest(url: str):
    first = App("first", url=url, concurrent_per_worker=2, embedded_worker=False)
    gate, began = asyncio.Event(), asyncio.Semaphore(0)
    ran: list[int] = []

    @first.task
    async def gated(n: int) -> int:
        ran.append(n)
        began.release()
        await gate.wait()
        return n

    async with first:
        jobs = await gated.delay_many(range(5))
        worker = first.start_worker()
        for _ in range(2):
            await began.acquire()
        worker.stop()
        held = worker.consumer
        while held is not None and worker.consumer is held and len(held._held) > 2:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.005)
        gate.set()
        while worker.consumer is not None:
            await asyncio.sleep(0.005)
        statuses = [await job.status() for job in jobs]
        assert sorted(statuses) == ["done"] * 2 + ["queued"] * 3
        views = [view for view in await first.tasks.broker.find(JobFilter(status=JobStatus.QUEUED))]
        assert [view.attempt for view in views] == [1, 1, 1]
        await first.start_worker().ready.wait()
        assert sorted(await gather(jobs)) == list(range(5))
        assert sorted(ran) == list(range(5))


async def test_one_worker_runs_no_more_at_once_than_it_has_room_for(working: App):
    running = most = 0

    @working.task
    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1

    await gather(await count.delay_many([()] * 200))
    assert most <= 20


async def test_an_idle_worker_is_quiet(postgres_url: str):
    app = App("test", url=postgres_url)

    @app.task
    async def nothing() -> None:
        return None

    async with app:
        await app.start_worker().ready.wait()
        await (await nothing.delay()).get()
        await asyncio.sleep(2)
        begin, before = time.monotonic(), app.store.statements  # type: ignore[attr-defined]
        await asyncio.sleep(4)
        spent = app.store.statements - before  # type: ignore[attr-defined]
        assert spent / (time.monotonic() - begin) <= 2


async def test_an_embedded_worker_gives_way_to_one_that_comes_and_steps_in_again(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    client, server = App("client", url=url, lease_seconds=0.9), App("server", url=url, embedded_worker=False)

    @client.task
    async def double(n: int) -> int:
        return 2 * n

    async def until(holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.01)

    async with asyncio.timeout(60), client:
        assert await (await double.delay(1)).get() == 2
        assert client.worker is not None
        async with server:
            await server.start_worker().ready.wait()
            await until(lambda: client.worker is None)
            assert [view.id for view in await server.workers()] == [server.worker.heart.worker]  # type: ignore[union-attr]
            assert await (await double.delay(2)).get() == 4
            assert client.worker is None
        await until(lambda: client.worker is not None)
        assert await (await double.delay(3)).get() == 6
