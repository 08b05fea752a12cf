"""Which App a workflow is started on, where several are entered."""

from __future__ import annotations

import asyncio

import pytest

from holdfast import App, Workflow, action, current_app, workflow
from holdfast.errors import ConfigurationError
from holdfast.model.instance import InstanceFilter
from holdfast.testing import workflow_app


@action
async def nothing_much() -> None: ...


@workflow
class Plain(Workflow):
    async def run(self, n: int) -> int:
        return n + 1


def app_in(folder, name: str) -> App:
    return App(name, url=f"sqlite:///{folder}/{name}.db")


async def names(app: App) -> set[str]:
    return {view.id for view in await app.store.find(InstanceFilter())}


async def test_apps_entered_in_tasks_side_by_side_do_not_cross(tmp_path):
    both_entered = asyncio.Barrier(2)
    both_started = asyncio.Barrier(2)

    async def serve(name: str) -> set[str]:
        async with app_in(tmp_path, name) as app:
            await both_entered.wait()
            assert current_app() is app
            await Plain().start(1, id=f"{name}-1")
            inner = asyncio.create_task(start_in_task(f"{name}-2"))
            await inner
            await both_started.wait()
            return await names(app)

    async def start_in_task(id: str) -> None:
        await Plain().start(1, id=id)

    a, b = await asyncio.gather(serve("a"), serve("b"))
    assert (a, b) == ({"a-1", "a-2"}, {"b-1", "b-2"})


async def test_an_app_entered_in_a_lifespan_task_serves_requests_in_others(tmp_path):
    """As web frameworks do it: one task holds the App, and requests come in tasks that were not made by it."""
    entered, over = asyncio.Event(), asyncio.Event()

    async def lifespan() -> None:
        async with app_in(tmp_path, "web"):
            entered.set()
            await over.wait()

    async def request(n: int) -> int:
        await entered.wait()
        assert current_app().name == "web"
        return await Plain().run(n)

    requests = [asyncio.create_task(request(n)) for n in range(3)]
    serving = asyncio.create_task(lifespan())
    assert await asyncio.gather(*requests) == [1, 2, 3]
    over.set()
    await serving
    assert current_app().name == "holdfast"


async def test_the_innermost_app_counts_and_a_left_one_does_not(tmp_path):
    async with app_in(tmp_path, "outer") as outer:
        async with app_in(tmp_path, "inner") as inner:
            assert current_app() is inner
            left = asyncio.Event()

            async def afterwards() -> App:
                await left.wait()
                return current_app()

            task = asyncio.create_task(afterwards())
        assert current_app() is outer
        left.set()
        assert await task is outer


async def test_an_app_may_be_left_in_another_task_than_it_was_entered_in(tmp_path):
    app = app_in(tmp_path, "moved")
    await asyncio.create_task(app.__aenter__())
    assert current_app() is app
    await asyncio.create_task(app.__aexit__(None, None, None))
    assert current_app() is not app


async def test_a_stub_for_no_action_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match="did you mean .*test_apps:nothing_much"):
        async with workflow_app(stubs={f"{__name__}:nothing_mch": lambda: None}):
            pass
