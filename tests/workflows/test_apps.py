"""Which App a workflow is started on, where several are entered."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pytest

from holdfast import App, Workflow, action, current_app, workflow
from holdfast.cli.worker import run_loop
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


async def test_an_app_that_was_only_opened_is_the_one_in_use(tmp_path):
    app = app_in(tmp_path, "opened")
    await app.open()
    try:
        assert current_app() is app
        assert await Plain().run(1) == 2
        assert len(await names(app)) == 1
    finally:
        await app.close()
    assert current_app() is not app


async def test_an_app_that_was_entered_goes_before_one_that_was_opened(tmp_path):
    opened = app_in(tmp_path, "opened")
    await opened.open()
    try:
        async with app_in(tmp_path, "entered") as entered:
            assert current_app() is entered
        assert current_app() is opened
    finally:
        await opened.close()


async def test_of_several_open_apps_none_is_meant(tmp_path):
    one, other = app_in(tmp_path, "one"), app_in(tmp_path, "other")
    await one.open()
    await other.open()
    try:
        with pytest.raises(ConfigurationError, match=r"'one' \(sqlite:.*one.db\) and 'other' .*app.launch"):
            await Plain().start(1)
        handle = await one.launch(Plain().start(1, id="told"))
        assert await handle.result() == 2
    finally:
        await one.close()
        await other.close()


def test_an_app_left_open_by_another_loop_is_not_in_use(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", "sqlite://:memory:")
    app = app_in(tmp_path, "left")
    asyncio.run(_open(app))

    async def used() -> App:
        return current_app()

    assert asyncio.run(used()) is not app
    asyncio.run(app.close())


async def _open(app: App) -> None:
    await app.open()


async def test_the_default_app_gives_way_to_one_that_is_opened_later(tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", "sqlite://:memory:")
    made = current_app()
    assert await Plain().run(1) == 2
    app = app_in(tmp_path, "later")
    await app.open()
    try:
        assert current_app() is app
    finally:
        await app.close()
    assert current_app() is made
    await made.close()


async def test_a_stub_for_no_action_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigurationError, match="did you mean .*test_apps:nothing_much"):
        async with workflow_app(stubs={f"{__name__}:nothing_mch": lambda: None}):
            pass


def test_an_app_serves_one_event_loop_after_the_other(tmp_path):
    """As in a script or a view that calls `asyncio.run` each time, with the App in its module and a worker elsewhere."""
    app = App("again", url=f"sqlite:///{tmp_path}/again.db", embedded_worker=False)
    begun, over = threading.Event(), threading.Event()

    @app.task
    async def same(n: int) -> int:
        return n

    async def work() -> None:
        async with App("worker", url=app.settings.database_url) as other:
            await other.start_worker().ready.wait()
            begun.set()
            await asyncio.to_thread(over.wait)

    async def ask(n: int) -> tuple[int, int]:
        async with app:
            handle, job = await Plain().start(n), await same.delay(n)
            # Two that wait at once, so that each loop has to be woken in its turn.
            return await handle.result(timeout=20), await job.get(timeout=20)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        assert begun.wait(20)
        assert [asyncio.run(ask(n)) for n in range(3)] == [(1, 0), (2, 1), (3, 2)]
    finally:
        over.set()
        thread.join()


async def test_whoever_waits_hears_when_nobody_looks_any_more(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    async with App("test", url=postgres_url) as app:
        [handle] = await app.start_many([Plain().start(1)])

        async def broken(*args: object, **kwargs: object) -> None:
            raise ZeroDivisionError("a bug of ours")

        monkeypatch.setattr(app.client.watch, "_check", broken)
        with pytest.raises(ZeroDivisionError):
            await handle.result()
        monkeypatch.undo()
        await app.start_worker().ready.wait()
        assert await handle.result() == 2


def test_errors_of_a_worker_without_uvloop_are_not_blamed_on_that(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)

    async def fail() -> int:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        run_loop(fail())
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host/db",
        "postgresql://host/db?user=me&password=secret",
        "postgresql://me:p@secret@host/db?sslpassword=secret",
    ],
)
def test_the_place_of_an_app_shows_no_password(url: str):
    assert "secret" not in App("shown", url=url).place
    assert "host/db" in App("shown", url=url).place


def test_the_default_apps_of_loops_that_ended_are_let_go(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """As in views that call `asyncio.run` for each request, and never close anything."""
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", f"sqlite:///{tmp_path}/default.db")
    threads = threading.active_count()

    async def ask(n: int) -> int:
        return await Plain().run(n)

    assert [asyncio.run(ask(n)) for n in range(6)] == [1, 2, 3, 4, 5, 6]
    # The last one is there until the next one comes.
    assert threading.active_count() <= threads + 2
    gc.collect()
    held = [each for each in gc.get_objects() if isinstance(each, App) and str(tmp_path) in each.settings.database_url]
    assert len(held) <= 1
    for app in held:
        app.store.abandon()
