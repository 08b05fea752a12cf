"""What tasks and actions of an App share: its state, and the lifespan that makes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from holdfast import App, Depend, State, Workflow, action, app_state, workflow
from holdfast.errors import ConfigurationError, TaskFailed
from holdfast.testing import workflow_app


@dataclass
class Shop:
    """The state of these tests."""

    name: str = "shop"
    heard: list[object] = field(default_factory=list)


async def test_state_is_given_to_whoever_asks_for_it():
    shop = Shop()
    async with workflow_app(state=shop) as app:

        @app.task
        async def note(n: int, *, into: State[Shop]) -> None:
            into.heard.append(n)

        @app.task
        def note_in_a_thread(n: int, into: State[Shop]) -> str:
            into.heard.append((n, app_state() is into))
            return into.name

        await (await note.delay(1)).get()
        assert await (await note_in_a_thread.delay(2)).get() == "shop"
        # Called as they are, they run here with the same.
        await note(3)
        assert shop.heard == [1, (2, True), 3]


def name_of(shop: State[Shop]) -> str:
    return f"name of {shop.name}"


@action
async def greet(whom: str, shop: State[Shop], name: Annotated[str, Depend(name_of)]) -> str:
    shop.heard.append(whom)
    return f"{name} greets {whom}"


@workflow
class Greeting(Workflow):
    async def run(self, whom: str) -> str:
        return await greet(whom)


async def test_actions_of_workflows_and_providers_get_it_too():
    shop = Shop()
    async with workflow_app(state=shop, crash=True):
        assert await Greeting().run("ada") == "name of shop greets ada"
    assert shop.heard == ["ada"]


async def test_a_lifespan_is_entered_before_work_and_left_after_it(url: str):
    events: list[str] = []
    began, gate = asyncio.Event(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncGenerator[Shop]:
        events.append(f"enter {app.name}")
        yield Shop("of the lifespan")
        events.append("leave")

    app = App("test", url=url, lifespan=lifespan, state=Shop("of the client"), embedded_worker=False)

    @app.on_start
    def start() -> None:
        events.append("start")

    @app.on_stop
    def stop() -> None:
        events.append("stop")

    @app.task
    async def slow(shop: State[Shop]) -> str:
        began.set()
        await gate.wait()
        events.append("ran")
        return shop.name

    async with app:
        assert app.state.name == "of the client"
        job = await slow.delay()
        worker = app.start_worker()
        await began.wait()
        assert app.state.name == "of the lifespan"
        worker.stop()
        gate.set()
        assert await job.get() == "of the lifespan"
        while "leave" not in events:
            await asyncio.sleep(0.001)
        assert app.state.name == "of the client"
    assert events == ["enter test", "start", "ran", "stop", "leave"]


async def test_a_lifespan_without_a_value_leaves_the_state_as_it_is():
    @contextlib.asynccontextmanager
    async def lifespan(_: App) -> AsyncGenerator[None]:
        yield

    async with workflow_app(state=Shop("given"), lifespan=lifespan) as app:

        @app.task
        async def name(shop: State[Shop]) -> str:
            return shop.name

        assert await (await name.delay()).get() == "given"


async def test_a_lifespan_that_fails_keeps_the_worker_from_work():
    @contextlib.asynccontextmanager
    async def lifespan(_: App) -> AsyncGenerator[None]:
        raise ConnectionError("no database")
        yield

    app = App("test", url="sqlite://:memory:", lifespan=lifespan)
    async with app:
        with pytest.raises(ConnectionError, match="no database"):
            await app.make_worker().run()
        assert await app.workers() == []


async def test_without_state_that_is_said():
    async with workflow_app() as app:

        @app.task(retries=0)
        async def ask(shop: State[Shop]) -> str:
            return shop.name

        with pytest.raises(TaskFailed, match=r"there is no state here: give it by App\(state="):
            await (await ask.delay()).get()
    with pytest.raises(ConfigurationError, match="lifespan= is a function of the App"):
        App("wrong", lifespan=3)  # type: ignore[arg-type]


def test_a_blocking_app_has_state_as_well():
    app: Any = App("test", interface="sync", url="sqlite://:memory:", state=Shop("blocking"))

    @app.task
    def name(shop: State[Shop]) -> str:
        return shop.name

    with app:
        assert name.delay().get(timeout=30) == "blocking"
