"""A failed action's own traceback reaches whoever hears of its failure: the workflow, its caller, the log."""

from __future__ import annotations

import asyncio
import logging
import traceback

import pytest

from holdfast import App, Workflow, action, traceback_of, workflow


class OrderFailed(Exception):
    pass


def look_up(key: str) -> str:
    raise ConnectionError(f"{key} is out of reach")


@action
async def fetch(key: str) -> str:
    return look_up(key)


@action
def fetch_in_a_thread(key: str) -> str:
    return look_up(key)


@workflow
class Raises(Workflow):
    async def run(self, threaded: bool = False) -> str:
        return await (fetch_in_a_thread("a") if threaded else fetch("a"))


@workflow
class Wraps(Workflow):
    async def run(self) -> str:
        try:
            return await fetch("a")
        except ConnectionError as error:
            raise OrderFailed("no order") from error


@workflow
class Asks(Workflow):
    async def run(self) -> list[str]:
        try:
            await fetch("a")
        except ConnectionError as error:
            first = traceback_of(error)
            await asyncio.sleep(5)
            return [first, traceback_of(error)]
        return []


@workflow
class Keeps(Workflow):
    async def run(self) -> str:
        try:
            return await fetch("a")
        except ConnectionError as error:
            await asyncio.sleep(5)
            return str(error)


@workflow
class Parent(Workflow):
    async def run(self) -> str:
        try:
            return await Raises().run()
        except ConnectionError as error:
            return traceback_of(error)


@action
async def ask_elsewhere(app: str) -> str:
    return await Raises().run()


@workflow
class Nested(Workflow):
    async def run(self) -> str:
        return await ask_elsewhere("x")


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("threaded", [False, True])
async def test_the_caller_of_a_workflow_sees_where_its_action_failed(app: App, threaded: bool):
    handle = await Raises().start(threaded)
    with pytest.raises(ConnectionError) as caught:
        await handle.result()
    text = shown(caught.value)
    assert text.count("in look_up") == 1
    assert f"On its worker, in instance {handle.id}:" in text
    assert traceback_of(caught.value).count("in look_up") == 1
    assert caught.value.__cause__ is None


async def test_a_cause_has_its_own_traceback(app: App):
    with pytest.raises(OrderFailed) as caught:
        await Wraps().run()
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert 'raise OrderFailed("no order") from error' in traceback_of(caught.value)
    assert "in look_up" not in traceback_of(caught.value)
    assert shown(caught.value).count("in look_up") == 1


async def test_the_workflow_that_catches_it_has_the_same_text_before_and_after_a_step(app: App):
    first, later = await Asks().run()
    assert first == later
    assert "in look_up" in first


async def test_the_parent_of_a_child_has_it_too(app: App):
    assert "in look_up" in await Parent().run()


async def test_through_several_workflows_it_is_told_once(app: App):
    with pytest.raises(ConnectionError) as caught:
        await Nested().run()
    assert shown(caught.value).count("in look_up") == 1


async def test_it_stands_once_in_a_row_and_in_an_outcome(app: App):
    handle = await Keeps().start()
    await handle.result()
    rows = [step.payload.count(b"in look_up") for step in await handle.history()]
    assert max(rows) == 1
    handle = await Nested().start()
    await handle.wait()
    assert ((await handle.view()).outcome or b"").count(b"in look_up") == 1


async def test_the_log_of_a_failed_instance_has_it(app: App, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "holdfast"), pytest.raises(OrderFailed):
        await Wraps().run()
    async with asyncio.timeout(10):
        # Whoever waits may hear of the end before it is logged.
        while not (said := [each for each in caplog.records if each.getMessage().startswith("instance failed")]):
            await asyncio.sleep(0)
    (record,) = said
    first, *below = record.getMessage().splitlines()
    assert "OrderFailed('no order')" in first
    assert "\n".join(below).index("in look_up") < "\n".join(below).index("raise OrderFailed")


async def test_one_object_that_is_raised_twice_tells_of_each_raise(app: App):
    with pytest.raises(ConnectionError) as first:
        await Reuses().run("one")
    with pytest.raises(ConnectionError) as second:
        await Reuses().run("other")
    assert "in one" in traceback_of(first.value)
    assert "in other" in traceback_of(second.value)
    assert "in one" not in traceback_of(second.value)


AWAY = ConnectionError("away")


def one() -> None:
    raise AWAY


def other() -> None:
    raise AWAY


@action
async def reuse(which: str) -> None:
    one() if which == "one" else other()


@workflow
class Reuses(Workflow):
    async def run(self, which: str) -> None:
        await reuse(which)
