"""Tasks in Service Bus, and what becomes of them in a database beside it: results, failures, cancellation, progress."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servicebus import ServiceBus, leaks_of_the_client

from holdfast import App, TaskCancelled, TaskFailed
from holdfast.backends.servicebus.address import parse
from holdfast.backends.servicebus.settling import Settling
from holdfast.errors import JobNotFound, StoreUnavailable
from holdfast.model.job import JobFilter, JobStatus
from holdfast.tasks import RESULT, gather, read_dead

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _leaks() -> Iterator[None]:
    with leaks_of_the_client():
        yield


@pytest.fixture
def tasks_url(servicebus: ServiceBus) -> str:
    name = f"results-{os.getpid()}-{next(_numbers)}"
    servicebus.do("queue", name=name, options={"lock": 60})
    return servicebus.url(queues=f"default:{name}")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database."""
    return f"sqlite:///{tmp_path}/results.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
async def app(url: str, tasks_url: str) -> AsyncIterator[App]:
    """An App whose jobs lie in Service Bus, and what becomes of them in a database."""
    async with App("test", url=url, tasks_url=tasks_url, concurrent_per_worker=20) as made:
        yield made


def left(servicebus: ServiceBus, tasks_url: str) -> dict[str, int]:
    return servicebus.counts(parse(tasks_url).queues["default"])


async def until(there: Any, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not there():
            await asyncio.sleep(0.02)


async def test_results_come_to_whoever_waits(app: App, servicebus: ServiceBus, tasks_url: str) -> None:
    @app.task(result_ttl=60)
    async def double(n: int) -> int:
        return 2 * n

    waiting = await double.delay(20)
    assert await waiting.status() is JobStatus.RUNNING
    getting = asyncio.create_task(waiting.get(timeout=20))
    await app.start_worker().ready.wait()
    assert await getting == 40
    assert await gather(await double.delay_many(range(30))) == [2 * n for n in range(30)]
    # Somebody else asks later.
    assert await app.job(waiting.id).get(timeout=20) == 40
    assert await waiting.status() is JobStatus.DONE
    with pytest.raises(JobNotFound):
        await app.job("nobody").get(timeout=20)
    await until(lambda: left(servicebus, tasks_url) == {})


async def test_a_failure_is_told_and_lies_among_the_dead(app: App) -> None:
    @app.task(retries=0)
    async def fails() -> None:
        raise ValueError("boom")

    await app.start_worker().ready.wait()
    handle = await fails.delay()
    with pytest.raises(TaskFailed, match="boom") as raised:
        await handle.get(timeout=20)
    assert (raised.value.original_type, raised.value.reason) == ("ValueError", "failed")
    async with asyncio.timeout(20):
        while not (dead := await read_dead(app)):
            await asyncio.sleep(0.02)
    assert [view.id for view in dead] == [handle.id]
    assert await handle.retry()
    with pytest.raises(TaskFailed, match="boom"):
        await handle.get(timeout=20)


async def test_what_follows_can_be_waited_for(app: App) -> None:
    @app.task(result_ttl=60)
    async def plus(n: int) -> int:
        return n + 1

    await app.start_worker().ready.wait()
    last = await (plus.s(1) >> plus.s(RESULT) >> plus.s(RESULT)).delay()
    async with asyncio.timeout(20):
        # It is sent when the one before it has ended.
        while not await app.broker.look([last.id]):
            await asyncio.sleep(0.02)
    assert await last.get(timeout=20) == 4


async def test_waiting_and_running_jobs_are_cancelled(app: App, servicebus: ServiceBus, tasks_url: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    @app.task(result_ttl=60)
    async def long() -> None:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    unwanted = await long.delay()
    assert await unwanted.cancel()
    await app.start_worker().ready.wait()
    with pytest.raises(TaskCancelled):
        await unwanted.get(timeout=20)
    assert not begun.is_set()
    running = await long.delay()
    await asyncio.wait_for(begun.wait(), 20)
    assert await running.cancel()
    await asyncio.wait_for(ended.wait(), 20)
    with pytest.raises(TaskCancelled):
        await running.get(timeout=20)
    assert not await running.cancel()
    await until(lambda: left(servicebus, tasks_url) == {})


async def test_a_result_is_known_before_its_message_goes(
    app: App, monkeypatch: pytest.MonkeyPatch, servicebus: ServiceBus, tasks_url: str
) -> None:
    settle, refused = Settling._settle, asyncio.Event()

    async def refuse(self: Any, settled: Any) -> int:
        if not refused.is_set():
            refused.set()
            raise StoreUnavailable("not now")
        return await settle(self, settled)

    monkeypatch.setattr(Settling, "_settle", refuse)

    @app.task(result_ttl=60)
    async def one() -> int:
        return 1

    await app.start_worker().ready.wait()
    handle = await one.delay()
    await asyncio.wait_for(refused.wait(), 20)
    assert await handle.get(timeout=20) == 1
    await until(lambda: left(servicebus, tasks_url) == {})


async def test_no_worker_of_the_database_takes_what_lies_elsewhere(app: App) -> None:
    @app.task(result_ttl=60)
    async def one() -> int:
        return 1

    handle = await one.delay()
    broker = app.store.broker()
    beside = App("other", url=app.settings.database_url)
    async with beside:
        await beside.start_worker().ready.wait()
        assert await broker.count(JobFilter(status=JobStatus.QUEUED)) == 0
        assert (await handle.view()).owner == "elsewhere"
    await app.start_worker().ready.wait()
    assert await handle.get(timeout=20) == 1


async def test_what_need_not_be_kept_is_swept(app: App) -> None:
    @app.task(result_ttl=0)
    async def one() -> int:
        return 1

    await app.start_worker().ready.wait()
    await one.delay()
    async with asyncio.timeout(20):
        while not await app.broker.sweep_jobs(now=time.time() + 1, batch=10):
            await asyncio.sleep(0.02)
    assert await app.store.broker().count(JobFilter()) == 0
