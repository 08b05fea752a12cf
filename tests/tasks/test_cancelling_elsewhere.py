"""A job that runs is cancelled by another process, on a store that cannot push: its worker sees that something was written."""

import asyncio
from pathlib import Path

import pytest

from holdfast import App, TaskCancelled


async def test_a_running_job_ends_without_waiting_for_a_heartbeat(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    # Heartbeats are minutes apart.
    app, other = App("test", url=url, lease_seconds=3600), App("test", url=url, embedded_worker=False)
    begun = asyncio.Event()

    @app.task
    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with app, other:
        await app.start_worker().ready.wait()
        job = await endless.delay()
        await begun.wait()
        assert await other.job(job.id).cancel()
        async with asyncio.timeout(60):
            with pytest.raises(TaskCancelled):
                await job.get()
