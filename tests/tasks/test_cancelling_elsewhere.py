"""A job that runs is cancelled by another process: its worker hears of it, whatever it is about to do, or sees it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import App, TaskCancelled


async def deaf(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that makes nothing of its heartbeats, by which it would hear of everything sooner or later."""
    worker = app.start_worker()
    await worker.ready.wait()
    assert worker.consumer is not None
    monkeypatch.setattr(worker.consumer, "heard", lambda beat: None)  # type: ignore[arg-type]


async def test_a_running_job_ends_without_waiting_for_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url = f"sqlite:///{tmp_path}/jobs.db"
    app, other = App("test", url=url), App("test", url=url, embedded_worker=False)
    begun = asyncio.Event()

    @app.task
    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    async with app, other:
        await deaf(app, monkeypatch)
        job = await endless.delay()
        await begun.wait()
        assert await other.job(job.id).cancel()
        async with asyncio.timeout(60):
            with pytest.raises(TaskCancelled):
                await job.get()


async def test_word_that_comes_before_the_answer_to_the_claim_is_not_lost(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    app = App("test", url=postgres_url, embedded_worker=False)

    @app.task
    async def endless() -> None:
        await asyncio.Event().wait()

    async with app:
        broker, claim = app.broker, app.broker.claim

        async def claimed(worker: Any, **wanted: Any) -> Any:
            answer = await claim(worker, **wanted)
            for job in answer.jobs:
                with monkeypatch.context() as silent:
                    silent.setattr(broker.home, "notify", unheard)
                    await app.job(job.id).cancel()
                assert app.worker is not None
                assert app.worker.consumer is not None
                # The one word of it, which its worker hears while it does not know yet what it holds.
                app.worker.consumer.ask()
            return answer

        async def unheard(_: Any) -> None: ...

        monkeypatch.setattr(broker, "claim", claimed)
        await deaf(app, monkeypatch)
        job = await endless.delay()
        async with asyncio.timeout(60):
            with pytest.raises(TaskCancelled):
                await job.get()
