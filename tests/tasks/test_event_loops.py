"""One App in one event loop after the other, as scripts and blocking frameworks use it; and handles that find it closed."""

import asyncio
import gc
import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast import App, ConfigurationError
from holdfast.model.job import JobStatus

# Sockets whose event loop has ended can be closed by nobody but the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MADE: list[App] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        asyncio.run(MADE.pop().close())
    gc.collect()


def made(url: str) -> tuple[App, Any]:
    app = App("loops", url=url, embedded_worker=False)
    MADE.append(app)

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    return app, double


async def worked(app: App, *handles: Any) -> list[Any]:
    await app.open()
    await app.start_worker().ready.wait()
    return [await handle.get(timeout=60) for handle in handles]


def test_an_app_goes_on_in_the_next_event_loop(url: str):
    app, double = made(url)

    async def ask(n: int) -> Any:
        return await double.delay(n)

    handles = [asyncio.run(ask(n)) for n in range(3)]
    assert asyncio.run(handles[0].status()) is JobStatus.QUEUED
    assert asyncio.run(worked(app, *handles)) == [0, 2, 4]

    async def all_of_it() -> list[Any]:
        async with app:
            return await worked(app, handles[1], await ask(5))

    assert asyncio.run(all_of_it()) == [2, 10]


async def test_a_worker_starts_where_the_app_is_open(url: str):
    app, _ = made(url)
    with pytest.raises(ConfigurationError, match="start_worker.. works where the App is open"):
        app.start_worker()


def test_a_handle_opens_the_app_that_it_belongs_to(url: str):
    app, double = made(url)

    async def ask() -> str:
        async with app:
            return (await double.delay(4)).id

    id = asyncio.run(ask())
    other, _ = made(url)
    assert asyncio.run(other.job(id).status()) is JobStatus.QUEUED
    assert asyncio.run(app.job(id).cancel())
    assert asyncio.run(other.job(id).status()) is JobStatus.CANCELLED


def test_two_event_loops_at_once_are_refused(url: str):
    app, double = made(url)

    async def ask() -> Any:
        return await double.delay(4)

    async def both() -> None:
        await ask()
        with pytest.raises(ConfigurationError, match="is open in the event loop of another thread.*interface=.sync."):
            await asyncio.to_thread(lambda: asyncio.run(ask()))
        await ask()

    asyncio.run(both())


def test_an_app_that_was_closed_is_free_for_another_event_loop(url: str):
    app, double = made(url)

    async def ask() -> Any:
        async with app:
            return await double.delay(4)

    async def one_after_the_other() -> None:
        await ask()
        await asyncio.to_thread(lambda: asyncio.run(ask()))
        await ask()

    asyncio.run(one_after_the_other())


def test_a_process_that_was_forked_has_an_app_of_its_own(url: str):
    app, double = made(url)

    async def ask() -> Any:
        return await double.delay(4)

    first = asyncio.run(ask())
    forked = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(ask()))
    forked.start()
    forked.join(60)
    assert forked.exitcode == 0
    assert asyncio.run(first.status()) is JobStatus.QUEUED


def test_what_is_in_memory_stays_there():
    app, double = made("sqlite://:memory:")

    async def ask() -> Any:
        return await double.delay(4)

    handle = asyncio.run(ask())
    assert asyncio.run(worked(app, handle)) == [8]
    assert asyncio.run(handle.status()) is JobStatus.DONE


def test_handles_of_instances_and_of_schedules_open_it_too(url: str):
    if not url.startswith(("sqlite", "postgres")):
        url = "sqlite://:memory:"
    app, _ = made(url)
    assert asyncio.run(app.workers()) == []
    with pytest.raises(LookupError, match="there is no instance"):
        asyncio.run(app.handle("nobody").result())
    with pytest.raises(LookupError, match="there is no instance"):
        asyncio.run(app.handle("nobody").cancel())
    with pytest.raises(Exception, match="there is no schedule"):
        asyncio.run(app.schedule_handle("never").pause())
