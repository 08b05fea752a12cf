"""The worker that a process begins by itself on SQLite: one however many ask at once, and gone once another serves all queues."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import App
from holdfast.settings import Settings


def opened(folder: Path, **settings: Any) -> App:
    return App("here", settings=Settings(database_url=f"sqlite:///{folder / 'a.db'}", lease_seconds=1.0, **settings))


async def workers(app: App, number: int) -> None:
    async with asyncio.timeout(20):
        while len(await app.store.workers(now=app.now())) != number:
            await asyncio.sleep(0.05)


async def test_many_that_ask_at_once_begin_one_worker(tmp_path: Path) -> None:
    app = opened(tmp_path)

    @app.task(name="embedded-tests:same")
    async def same(n: int) -> int:
        return n

    async with app:
        handles = await asyncio.gather(*[same.delay(n) for n in range(5)])
        assert [await handle.get(timeout=20) for handle in handles] == [*range(5)]
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert (names.count("holdfast-worker"), names.count("holdfast-watch")) == (1, 1)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("holdfast-")]


@pytest.mark.parametrize("queues", ["*", "mail"])
async def test_it_makes_way_for_a_worker_of_all_queues_alone(tmp_path: Path, queues: str) -> None:
    app = opened(tmp_path)

    @app.task(name="embedded-tests:other")
    async def other(n: int) -> int:
        return n

    async with app:
        assert await (await other.delay(1)).get(timeout=20) == 1
        rival = opened(tmp_path, queues=queues)
        async with rival:
            await rival.start_worker().ready.wait()
            await workers(app, 2)
            await app._give_way(app.store)  # pyright: ignore[reportPrivateUsage]
            await workers(app, 1 if queues == "*" else 2)
            assert await (await other.delay(2)).get(timeout=20) == 2


async def test_a_worker_that_was_asked_for_stays(tmp_path: Path) -> None:
    app = opened(tmp_path)
    async with app:
        await app.start_worker().ready.wait()
        rival = opened(tmp_path)
        async with rival:
            await rival.start_worker().ready.wait()
            await workers(app, 2)
            await app._give_way(app.store)  # pyright: ignore[reportPrivateUsage]
            await workers(app, 2)
