"""The examples of fennel's guide, with our imports, and with pauses that take no time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from holdfast import TaskFailed
from holdfast.app import App as AsyncApp
from holdfast.cli import main
from holdfast.clock import ManualClock
from holdfast.compat.fennel import App
from holdfast.sync import App as SyncApp
from holdfast.testing import at_work


@pytest.fixture
def app(redis_url: str) -> Iterator[SyncApp]:
    made = App(name="myapp", redis_url=redis_url, concurrent_per_worker=20)
    with made:

        async def work() -> None:
            await made.start_worker().ready.wait()

        made.run(work())
        yield made


@pytest.fixture
async def aio(redis_url: str) -> AsyncIterator[AsyncApp]:
    made = App(name="myapp", redis_url=redis_url, interface="async", clock=ManualClock(), default_retries=2)
    async with at_work(made):
        yield made


def test_sync(app: SyncApp):
    @app.task
    def foo(n):
        time.sleep(n / 1000)
        return n

    x = foo.delay(4)  # Enqueue a task to be executed in the background.
    assert x.get() == 4  # Waits for completion and returns 4.


async def test_async(aio: AsyncApp):
    app = aio

    @app.task
    async def foo(n):
        await asyncio.sleep(n / 1000)
        return n

    x = await foo.delay(4)  # Enqueue a task to be executed in the background.
    assert await x.get() == 4  # Waits for completion and returns 4.


async def test_retries(aio: AsyncApp):
    app = aio
    calls: list[Any] = []

    @app.task(retries=3)
    def foo(n):
        calls.append(n)
        raise ConnectionError(n)

    @app.task
    def bar(n):
        calls.append(n)
        raise ConnectionError(n)

    for task in (foo, bar):
        x = await task.delay(task.name)
        with pytest.raises(TaskFailed):
            await x.get()
    assert (calls.count(foo.name), calls.count(bar.name)) == (4, 3)


def test_parallel_pipelines_sync(app: SyncApp):
    from holdfast.sync import gather, wait

    @app.task(retries=0)
    def foo(n):
        time.sleep(n / 1000)
        return n

    results = [foo.delay(i) for i in range(6)]

    # Waits for completion and returns [0, 1, 2, 3, 4, 5].
    assert gather(results) == [0, 1, 2, 3, 4, 5]

    # Instead, waits for 10 seconds, returns two sets of Futures.
    done, pending = wait(results, timeout=10)
    assert (done, pending) == (set(results), set())


async def test_parallel_pipelines_async(redis_url: str):
    from holdfast.tasks import gather, wait

    app = App(name="myapp", redis_url=redis_url, interface="async")
    gate = asyncio.Event()
    async with at_work(app, move_time=False):

        @app.task(retries=0)
        async def foo(n):
            if n == 5:
                await gate.wait()
            return n

        results = [await foo.delay(i) for i in range(6)]

        # Instead, waits for 10 seconds, returns two sets of Futures.
        done, pending = await wait(results, timeout=0.5)
        assert (len(done), pending) == (5, {results[5]})
        gate.set()

        # Waits for completion and returns [0, 1, 2, 3, 4, 5]
        assert await gather(results) == [0, 1, 2, 3, 4, 5]


async def test_error_handling(aio: AsyncApp):
    app = aio

    @app.task(retries=0)
    async def foo(n):
        raise Exception("baz")

    x = await foo.delay(3)

    try:
        await x.get()
    except TaskFailed as e:
        assert e.original_type == "Exception"  # noqa: PT017 - as in the guide
        assert e.original_args == ["baz"]  # noqa: PT017
    else:
        raise AssertionError("it did not fail")


def test_the_dead_letter_queue(redis_url: str, app: SyncApp):
    @app.task(retries=0)
    def mytask(n):
        if n is None:
            raise ValueError("nothing")
        return n

    with pytest.raises(TaskFailed):
        mytask.delay(None).get()

    def command(*words: str) -> str:
        done = CliRunner().invoke(main, [*words, "--url", redis_url])
        assert done.exit_code == 0, done.output
        return done.output

    assert "nothing" in command("dlq", "read")
    assert command("dlq", "replay", "--all") == "1 replayed\n"
    while not (dead := app.run(app.tasks.dead())):
        time.sleep(0.001)

    from holdfast.sync import replay_dead

    [job] = replay_dead(app, filter=lambda job: job.task == mytask.name)
    assert job.id == dead[0].id
    with pytest.raises(TaskFailed):
        job.get()
    assert command("dlq", "purge", "--all", "--yes") == "1 purged\n"


def test_a_worker_is_given_its_application_as_other_commands_are(redis_url: str):
    done = CliRunner().invoke(main, ["worker", "--app", "mymodule:myapp", "--tasks-url", redis_url])
    assert done.exit_code == 1
    assert "the module 'mymodule' is not found" in done.output


def test_it_takes_what_an_app_takes():
    made = App("myapp", interface="async", url="sqlite://:memory:", results_ttl=0)
    assert type(made) is AsyncApp
    assert isinstance(App("myapp", url="sqlite://:memory:"), SyncApp)
