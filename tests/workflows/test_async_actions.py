"""Attempts of async actions: those that have nothing to wait for share a task, and yet know nothing of each other."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from holdfast import ActionTimeout, action
from holdfast.codec import encode
from holdfast.runtime.executor import BREATH, Attempt, Executor, Gave, Raised

mark: ContextVar[str] = ContextVar("mark", default="none")
gate = asyncio.Event()
begun: list[str] = []
undone: list[str] = []
tasks: list[asyncio.Task[object] | None] = []


@pytest.fixture(autouse=True)
def fresh():
    global gate
    gate = asyncio.Event()
    for each in (begun, undone, tasks):
        each.clear()


@action
async def marks(name: str) -> str:
    found = mark.get()
    mark.set(name)
    return found


@action
async def marks_and_waits(name: str) -> tuple[str, str]:
    found = mark.get()
    mark.set(name)
    tasks.append(asyncio.current_task())
    await gate.wait()
    return found, mark.get()


@action
async def cancels_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "and returns"


@action
async def raises_cancelled() -> None:
    raise asyncio.CancelledError("of its own accord")


@action
async def at_once(name: str) -> str:
    begun.append(name)
    return name


@action
async def waits(name: str) -> str:
    begun.append(name)
    try:
        await gate.wait()
    except asyncio.CancelledError:
        undone.append(name)
        raise
    return name


@action
async def limits_itself() -> str:
    try:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()
    except TimeoutError:
        return "out of time"
    return "never"


class Runs:
    """An executor, and what became of what it was given, by order of its ends."""

    def __init__(self, concurrency: int = 100) -> None:
        self.executor = Executor(concurrency=concurrency)
        self.outcomes: list[Gave | Raised] = []

    def submit(self, name: str, *args: object, timeout: float | None = None) -> Attempt:
        attempt = Attempt(name, encode([list(args), {}]), (args, {}), timeout, self.outcomes.append)
        self.executor.submit(attempt)
        return attempt

    async def values(self) -> list[object]:
        await self.executor.drained()
        return [outcome.value if isinstance(outcome, Gave) else type(outcome.error) for outcome in self.outcomes]


async def test_what_one_sets_in_its_context_no_other_sees():
    runs = Runs()
    for name in "ab":
        runs.submit(marks.name, name)
    for name in "cd":
        runs.submit(marks_and_waits.name, name)
    runs.submit(marks.name, "e")
    await asyncio.sleep(0.01)
    gate.set()
    assert await runs.values() == ["none", "none", "none", ("none", "c"), ("none", "d")]


async def test_one_that_waits_has_a_task_of_its_own_and_holds_up_nobody():
    runs = Runs()
    for n in range(5):
        runs.submit(marks_and_waits.name, str(n))
        runs.submit(at_once.name, str(n))
    while len(tasks) < 5 or len(begun) < 5:
        await asyncio.sleep(0)
    assert begun == list("01234")
    assert len(set(tasks)) == 5
    gate.set()
    await runs.executor.drained()
    assert len(runs.outcomes) == 10


async def test_one_that_cancels_its_task_harms_no_other():
    runs = Runs()
    runs.submit(cancels_itself.name)
    runs.submit(waits.name, "next")
    runs.submit(raises_cancelled.name)
    runs.submit(at_once.name, "last")
    while len(begun) < 2:
        await asyncio.sleep(0)
    gate.set()
    assert await runs.values() == ["and returns", asyncio.CancelledError, "last", "next"]
    assert undone == []


async def test_one_dropped_before_its_first_step_never_begins():
    runs = Runs()
    first = runs.submit(at_once.name, "unwanted")
    runs.submit(at_once.name, "wanted")
    runs.executor.drop(first)
    assert await runs.values() == ["wanted"]
    assert begun == ["wanted"]


async def test_one_dropped_while_it_waits_cleans_up_and_is_not_reported():
    runs = Runs(concurrency=1)
    first = runs.submit(waits.name, "unwanted")
    runs.submit(at_once.name, "after it")
    while not begun:
        await asyncio.sleep(0)
    runs.executor.drop(first)
    while not runs.outcomes:
        await asyncio.sleep(0)
    assert await runs.values() == ["after it"]
    assert undone == ["unwanted"]


async def test_timeouts_of_the_action_and_in_it():
    runs = Runs()
    runs.submit(waits.name, "too long", timeout=0.01)
    runs.submit(limits_itself.name)
    assert sorted(map(str, await runs.values())) == sorted(["out of time", str(ActionTimeout)])
    assert undone == ["too long"]


async def test_no_more_at_once_than_there_is_room_for():
    runs = Runs(concurrency=3)
    for n in range(10):
        runs.submit(waits.name, str(n))
    while len(begun) < 3:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert begun == list("012")
    assert runs.executor.load == 10
    gate.set()
    await runs.executor.drained()
    assert begun == list("0123456789")


async def test_a_burst_of_prompt_ones_leaves_the_rest_of_the_loop_its_turns():
    runs = Runs(concurrency=10)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while len(begun) < 20 * BREATH:
            turns += 1
            await asyncio.sleep(0)

    rest = asyncio.create_task(others())
    for n in range(20 * BREATH):
        runs.submit(at_once.name, str(n))
    await runs.executor.drained()
    await rest
    assert len(runs.outcomes) == 20 * BREATH
    assert turns >= 20


async def test_nothing_begins_after_it_was_closed():
    runs = Runs()
    runs.submit(at_once.name, "too late")
    await runs.executor.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert begun == []
    assert runs.outcomes == []
