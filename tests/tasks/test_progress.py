"""Progress and pauses: what a task says of itself is heard outside, and paused queues stand still."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.tasks import counting

from holdfast import App, Progress, current_job, report_progress
from holdfast.errors import ConfigurationError, DecodeError
from holdfast.runtime import reporting
from holdfast.task import ACTIONS
from holdfast.tasks import JobHandle, pause_queues, paused_queues, resume_queues


async def told(handle: JobHandle[Any]) -> Progress:
    """The first progress that is heard of."""
    async with asyncio.timeout(20):
        while (progress := await handle.progress()) is None:
            await asyncio.sleep(0.01)
        return progress


@pytest.fixture
async def app(tmp_path: Path) -> Any:
    before = dict(ACTIONS)
    app = App("test", url=f"sqlite:///{tmp_path}/progress.db")
    async with app:
        yield app
    ACTIONS.clear()
    ACTIONS.update(before)


async def test_what_a_task_says_is_heard_while_it_runs(app: App) -> None:
    go_on = asyncio.Event()

    @app.task
    async def convert(pages: int) -> str:
        for page in range(1, pages + 1):
            report_progress(page, of=10, note=f"page {page}")
        await go_on.wait()
        return current_job().id

    handle = await convert.delay(4)
    assert await told(handle) in [Progress(1.0, 10.0, "page 1"), Progress(4.0, 10.0, "page 4")]
    assert Progress(4.0, 10.0).fraction == 0.4
    go_on.set()
    assert await handle.get() == handle.id


async def test_threads_say_it_too(app: App) -> None:
    go_on = threading.Event()

    @app.task
    def convert() -> None:
        report_progress(7)
        go_on.wait(20)

    handle = await convert.delay()
    assert await told(handle) == Progress(7.0, None, "")
    assert Progress(7.0).fraction is None
    go_on.set()
    await handle.get()


async def test_processes_say_it_too(tmp_path: Path) -> None:
    async with counting.app:
        handle = await counting.until_there.delay(str(tmp_path / "go-on"))
        assert await told(handle) == Progress(1.0, 2.0, "half")
        (tmp_path / "go-on").touch()
        assert await handle.get() == "there"


async def test_words_in_quick_succession_are_written_once(app: App) -> None:
    written: list[Any] = []
    report = app.broker.report

    async def counted(worker: Any, progress: Any) -> None:
        written.append(progress)
        await report(worker, progress)

    app.broker.report = counted  # type: ignore[method-assign]

    @app.task
    async def convert() -> None:
        for page in range(1000):
            report_progress(page)
            if page % 100 == 0:
                await asyncio.sleep(0)

    handles = await convert.delay_many([(), ()])
    for handle in handles:
        await handle.get()
    assert 1 <= len(written) <= 4


async def test_outside_of_a_job_nobody_hears_it_and_nonsense_is_refused(app: App) -> None:
    report_progress(1, of=2)
    for wrong in ({"done": -1}, {"done": float("nan")}, {"done": 2, "of": 1}, {"done": 0, "of": 0}):
        with pytest.raises(ValueError, match="progress"):
            report_progress(**wrong)
    with pytest.raises(ValueError, match="1001 characters"):
        report_progress(1, note="x" * 1001)
    assert reporting.read(reporting.written(Progress(1.0, 2.0, "half"))) == Progress(1.0, 2.0, "half")
    for damaged in (b"", b"7", b"[1]", b'["x", null, ""]'):
        with pytest.raises(DecodeError):
            reporting.read(damaged)


async def test_a_paused_queue_stands_still_until_it_is_resumed(app: App) -> None:
    @app.task(queue="mail")
    async def send(n: int) -> int:
        return n

    @app.task
    async def other() -> str:
        return "went on"

    await pause_queues(app, "mail")
    assert list(await paused_queues(app)) == ["mail"]
    handle = await send.delay(1)
    assert await (await other.delay()).get() == "went on"
    assert await handle.status() == "queued"
    await resume_queues(app, "mail")
    assert await handle.get() == 1
    assert await paused_queues(app) == {}


async def test_a_pause_names_queues(app: App) -> None:
    with pytest.raises(ConfigurationError, match="name the queues"):
        await pause_queues(app)
    with pytest.raises(ConfigurationError, match="names no queue"):
        await resume_queues(app, "mail", "*")
