"""Batch tasks: jobs of one item each, run together, and each answered for by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import pytest

from holdfast import App, Depend, TaskCancelled, TaskFailed
from holdfast.errors import ConfigurationError
from holdfast.task import ACTIONS

made: list[int] = []


async def connection() -> str:
    made.append(1)
    return "connection"


@pytest.fixture
async def app(tmp_path: Path) -> Any:
    before = dict(ACTIONS)
    app = App("test", url=f"sqlite:///{tmp_path}/batches.db")
    async with app:
        yield app
    ACTIONS.clear()
    ACTIONS.update(before)


async def results(handles: Any) -> list[Any]:
    return await asyncio.gather(*(handle.get() for handle in handles), return_exceptions=True)


async def test_jobs_are_run_together_and_each_has_its_result(app: App) -> None:
    sizes: list[int] = []

    @app.batch_task(size=50, within=5)
    async def double(numbers: list[int]) -> list[int]:
        sizes.append(len(numbers))
        return [2 * number for number in numbers]

    # More than run at once here: those that wait for others take no room.
    handles = await double.map(range(200))
    assert await results(handles) == [2 * number for number in range(200)]
    assert sizes == [50] * 4


async def test_what_is_not_full_runs_after_a_while(app: App) -> None:
    sizes: list[int] = []

    @app.batch_task(size=50, within=0.05)
    def count(items: list[str]) -> None:
        sizes.append(len(items))

    assert await results(await count.map("abc")) == [None] * 3
    assert sum(sizes) == 3


async def test_an_item_fails_alone_and_what_is_raised_fails_all(app: App) -> None:
    tries: list[list[int]] = []

    @app.batch_task(size=4, within=0.05, retries=0)
    async def check(numbers: list[int]) -> list[Any]:
        tries.append(numbers)
        if 99 in numbers:
            raise RuntimeError("all of it")
        return [ValueError(f"not {number}") if number == 2 else number for number in numbers]

    one, two, three = await results(await check.map([1, 2, 3]))
    assert (one, three) == (1, 3)
    assert isinstance(two, TaskFailed)
    assert "not 2" in str(two)
    failed = await results(await check.map([98, 99]))
    assert all(isinstance(each, TaskFailed) and "all of it" in str(each) for each in failed)


async def test_each_is_tried_again_by_itself(app: App) -> None:
    tries: list[list[int]] = []

    @app.batch_task(size=3, within=0.02, retries=2, backoff=None)
    async def check(numbers: list[int]) -> list[Any]:
        tries.append(sorted(numbers))
        first = len([each for each in tries if 2 in each]) == 1
        return [ValueError("once") if number == 2 and first else number for number in numbers]

    handles = [await check.options(delay=0).delay(number) for number in (1, 2, 3)]
    assert sorted(await results(handles)) == [1, 2, 3]
    assert tries[-1] == [2]
    assert sum(map(len, tries)) == 4


async def test_wrong_answers_are_failures_that_say_so(app: App) -> None:
    @app.batch_task(size=2, within=5, retries=0)
    async def few(numbers: list[int]) -> Any:
        return {1: "text", 2: [1], 3: [lambda: None, 7]}[numbers[0]]

    for first, words in ((1, "returned str instead of a list"), (2, "returned 1 results for 2 items")):
        for failure in await results(await few.map([first, 0])):
            assert words in str(failure)
    unsaved, saved = await results(await few.map([3, 0]))
    assert "cannot be saved" in str(unsaved)
    assert saved == 7


async def test_one_that_is_cancelled_leaves_the_others(app: App) -> None:
    go_on, begun = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    @app.batch_task(size=3, within=5)
    async def wait(numbers: list[int]) -> list[int]:
        seen.extend(numbers)
        begun.set()
        await go_on.wait()
        return numbers

    handles = await wait.map([1, 2, 3])
    async with asyncio.timeout(20):
        await begun.wait()
    assert await handles[1].cancel()
    with pytest.raises(TaskCancelled):
        await handles[1].get()
    go_on.set()
    assert [await handles[0].get(), await handles[2].get()] == [1, 3]
    # While it waits for others it just leaves.
    alone = await wait.delay(9)
    async with asyncio.timeout(20):
        while await alone.status() != "running":
            await asyncio.sleep(0)
    assert await alone.cancel()
    with pytest.raises(TaskCancelled):
        await alone.get()
    assert 9 not in seen


async def test_a_worker_that_leaves_hands_back_what_waits(tmp_path: Path) -> None:
    before = dict(ACTIONS)
    url = f"sqlite:///{tmp_path}/left.db"
    app = App("test", url=url)

    @app.batch_task(size=100, within=3600, name="batches:left")
    async def never(numbers: list[int]) -> None: ...

    async with app:
        handle = await never.delay(1)
        async with asyncio.timeout(20):
            while await handle.status() != "running":
                await asyncio.sleep(0)
    async with App("other", url=url) as other:
        view = await other.job(handle.id).view()
        assert (view.status, view.attempt) in (("queued", 1), ("running", 1))
    ACTIONS.clear()
    ACTIONS.update(before)


async def test_things_are_injected_once_for_a_batch(app: App) -> None:
    made.clear()

    @app.batch_task(size=3, within=5)
    async def store(items: list[str], via: Annotated[str, Depend(connection)]) -> list[str]:
        return [f"{item} by {via}" for item in items]

    assert await results(await store.map("abc")) == [f"{item} by connection" for item in "abc"]
    assert made == [1]


async def test_called_here_and_now_it_takes_one_item(app: App) -> None:
    @app.batch_task(size=3, within=5)
    async def double(numbers: list[int]) -> list[Any]:
        return [2 * number if number else ValueError("nothing") for number in numbers]

    assert await double(4) == 8
    with pytest.raises(ValueError, match="nothing"):
        await double(0)


async def test_what_cannot_be_is_refused(app: App) -> None:
    async def right(items: list[int]) -> None: ...

    async def none() -> None: ...

    async def two(items: list[int], more: int) -> None: ...

    for arguments, function, words in (
        ({"size": 0}, right, "size= is a whole number from 1 to 1000"),
        ({"size": 1001}, right, "size= is a whole number from 1 to 1000"),
        ({"size": 2, "within": -1}, right, "within= cannot be negative"),
        ({"size": 2, "acks": "early"}, right, "settles jobs one by one"),
        ({"size": 2}, none, "takes one parameter, the list of items"),
        ({"size": 2}, two, "takes one parameter, the list of items"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            app.batch_task(**arguments)(function)  # type: ignore[arg-type]
