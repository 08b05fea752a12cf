"""Time limits of tasks: what runs in a process is stopped; of what runs in a thread it is said that it cannot be."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.tasks.limited import app, endless, endless_once, long, release, stuck

from holdfast import App, JobStatus, TaskFailed
from holdfast.tasks import read_dead


@pytest.fixture
async def limited(url: str):
    app.reconfigure(database_url=url)
    async with app:
        await app.start_worker().ready.wait()
        yield app


async def written(path: Path) -> int:
    async with asyncio.timeout(30):
        while not (path.exists() and path.read_text()):
            await asyncio.sleep(0.02)
    return int(path.read_text())


async def is_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await asyncio.sleep(0.02)


async def test_a_process_whose_time_is_over_is_stopped(limited: App, tmp_path: Path):
    job = await endless.delay(str(tmp_path / "pid"))
    with pytest.raises(TaskFailed, match="ran longer than its 0.5 seconds") as failed:
        await job.get(timeout=30)
    assert failed.value.original_type == "ActionTimeout"
    await is_gone(await written(tmp_path / "pid"))
    assert [dead.id for dead in await read_dead(limited)] == [job.id]


async def test_what_was_stopped_is_tried_again_in_another_process(limited: App, tmp_path: Path):
    job = await endless_once.delay(str(tmp_path / "pid"))
    assert await job.get(timeout=30) != await written(tmp_path / "pid")


async def test_a_job_that_is_cancelled_ends_its_process(limited: App, tmp_path: Path):
    job = await long.delay(str(tmp_path / "pid"))
    pid = await written(tmp_path / "pid")
    await job.cancel()
    await is_gone(pid)
    async with asyncio.timeout(10):
        while await job.status() is not JobStatus.CANCELLED:
            await asyncio.sleep(0.02)


async def test_of_a_thread_it_is_said_that_it_goes_on(limited: App):
    release.clear()
    try:
        with pytest.raises(TaskFailed, match="its thread goes on, for a thread cannot be stopped"):
            await (await stuck.delay()).get(timeout=30)
        assert limited.worker is not None
        assert limited.worker.executor is not None
        assert limited.worker.executor.stuck == 1
    finally:
        release.set()
