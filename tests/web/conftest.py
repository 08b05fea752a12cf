"""An App with jobs and instances of all kinds, and a browser on its dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.web.visiting import Browser, visiting

from holdfast import App, TaskFailed, Workflow, action, report_progress, workflow
from holdfast.task import ACTIONS
from holdfast.testing import workflow_app
from holdfast.web import dashboard


@action
async def reserve(item: str) -> int:
    if item == "boots":
        raise LookupError(f"no {item} <in stock>")
    return len(item)


@workflow
class Order(Workflow):
    async def run(self, item: str) -> str:
        count = await reserve(item)
        answer = await self.receive("paid")
        return f"{count} {answer}"


@pytest.fixture(autouse=True)
def _what_a_test_defines_is_forgotten() -> Iterator[None]:
    before = dict(ACTIONS)
    yield
    ACTIONS.clear()
    ACTIONS.update(before)


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """Jobs: `good` is done, `bad1` and `bad2` are dead, `late` has expired, `later` waits, `long` runs. Instances: `open`
    waits for a message, `broken` has failed. Time stands still.
    """
    async with workflow_app(move_time=False) as app:
        await fill(app)
        yield app


async def fill(app: App) -> None:
    begun = asyncio.Event()

    @app.task(name="shop:double", retries=0)
    async def double(n: int, why: str = "") -> int:
        if n < 0:
            raise ValueError(f"cannot {n} <b>{why}</b>")
        return 2 * n

    @app.task(name="shop:long")
    async def long() -> None:
        report_progress(3, of=12, note="third page")
        begun.set()
        await asyncio.sleep(3600)

    now = app.clock.now()
    assert await (await double.options(id="good").delay(2)).get() == 4
    for n in (1, 2):
        with pytest.raises(TaskFailed):
            await (await double.options(id=f"bad{n}").delay(-n, why="&c")).get()
    with pytest.raises(TaskFailed):
        await (await double.options(id="late", eta=now - 60, expires=1, queue="slow").delay(1)).get()
    await double.options(id="later", delay=3600, queue="slow").delay(3)
    await long.options(id="long").delay()
    await begun.wait()
    if app.has_workflows:
        await Order().start("hat", id="open")
        with pytest.raises(LookupError):
            await (await Order().start("boots", id="broken")).result()


@pytest.fixture
async def idle() -> AsyncIterator[App]:
    """One job waits in it, and nobody works."""
    async with App("test", url="sqlite://:memory:", embedded_worker=False) as app:

        @app.task(name="shop:sent")
        async def sent() -> None: ...

        await sent.options(id="sent").delay()
        yield app


@pytest.fixture
async def browser(app: App) -> AsyncIterator[Browser]:
    """On a dashboard that lets anybody in."""
    async with visiting(dashboard(app, unprotected=True)) as browser:
        yield browser
