"""A parent that gives up a child goes on when the child has ended, as it would with a coroutine that it awaits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from holdfast import App, Status, Workflow, WorkflowCancelled, action, workflow
from holdfast.model.instance import InstanceFilter
from holdfast.task import ACTIONS

seen: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_was_seen() -> None:
    seen.clear()


@action
async def note(what: str) -> None:
    seen.append(what)


@action
async def fail() -> None:
    raise OSError("no")


@workflow
class Kid(Workflow):
    async def run(self, name: str, how: str = "raises") -> str:
        try:
            # No moment ends this: time moves by itself, and might come to it before a cancel is heard.
            await self.receive("go on")
        except asyncio.CancelledError:
            await asyncio.sleep(5)
            await note(f"{name} cleaned up")
            if how == "fails":
                raise ValueError("cannot clean up") from None
            if how == "refuses":
                return f"{name} goes on"
            raise
        return name


@workflow
class Group(Workflow):
    async def run(self, how: str = "raises") -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(Kid().run("one", how))
                group.create_task(Kid().run("other"))
                group.create_task(self.soon())
        except* OSError:
            await note("caught")
        except* ValueError as errors:
            await note(f"also {errors.exceptions[0]}")
        finally:
            await note("finally")
        return "done"

    async def soon(self) -> None:
        await asyncio.sleep(1)
        await fail()


async def test_a_group_is_left_when_its_children_have_cleaned_up(app: App):
    assert await Group().run() == "done"
    assert sorted(seen[:2]) == ["one cleaned up", "other cleaned up"]
    assert seen[2:] == ["caught", "finally"]
    kids = await app.store.find(InstanceFilter(name=Kid.__holdfast_workflow__))
    assert [kid.status for kid in kids] == [Status.CANCELLED] * 2


async def test_what_a_child_raises_while_it_cleans_up_reaches_the_group(app: App):
    assert await Group().run("fails") == "done"
    assert seen[2:] == ["caught", "also cannot clean up", "finally"]


@workflow
class Limited(Workflow):
    async def run(self, how: str, style: str) -> str:
        try:
            if style == "wait_for":
                return await asyncio.wait_for(Kid().run("kid", how), 10)
            async with asyncio.timeout(10):
                return await Kid().run("kid", how)
        except TimeoutError:
            return "late"
        finally:
            await note("finally")


@pytest.mark.parametrize("style", ["wait_for", "timeout"])
async def test_a_timeout_strikes_when_the_child_has_cleaned_up(app: App, style: str):
    begin = app.clock.now()
    assert await Limited().run("raises", style) == "late"
    assert app.clock.now() - begin >= 15
    assert seen == ["kid cleaned up", "finally"]


async def test_a_child_may_refuse_and_its_result_counts(app: App):
    assert await Limited().run("refuses", "timeout") == "kid goes on"


@workflow
class Parent(Workflow):
    async def run(self) -> str:
        try:
            return await Kid().run("kid")
        finally:
            await note("finally")


async def test_a_cancelled_parent_ends_after_its_child(app: App):
    handle = await Parent().start(id="parent")
    await until(app, lambda kids: len(kids) == 1)
    await handle.cancel()
    with pytest.raises(WorkflowCancelled):
        await handle.result()
    assert seen == ["kid cleaned up", "finally"]
    notes = [what for step in await handle.history() for what, _ in json.loads(step.payload).get("notes", [])]
    assert notes.count("given up") == 1


@workflow
class Leaves(Workflow):
    async def run(self) -> str:
        asyncio.create_task(Kid().run("kid"))
        await asyncio.sleep(1)
        return "left"


async def test_a_parent_that_returns_ends_when_what_it_left_behind_has(app: App):
    assert await Leaves().run() == "left"
    assert seen == ["kid cleaned up"]


@workflow
class Hasty(Workflow):
    async def run(self) -> str:
        task = asyncio.create_task(Kid().run("kid"))
        await asyncio.sleep(0)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return "cancelled"


async def test_a_child_that_was_not_asked_for_yet_is_never_started(app: App):
    assert await Hasty().run() == "cancelled"
    assert not await app.store.find(InstanceFilter(name=Kid.__holdfast_workflow__))


async def test_a_fork_of_a_parent_that_waits_for_a_given_up_child_cancels_one_of_its_own(app: App):
    handle = await Limited().start("raises", "timeout", id="first")
    assert await handle.result() == "late"
    notes = {step.seq: json.loads(step.payload).get("notes", []) for step in await handle.history()}
    given_up = next(seq for seq, row in notes.items() if any(what == "given up" for what, _ in row))
    fork = app.handle(await app.fork("first", at=given_up, new_id="second"))
    assert await fork.result() == "late"
    kids = await app.store.find(InstanceFilter(name=Kid.__holdfast_workflow__))
    assert {kid.parent: kid.status for kid in kids} == {"first": Status.CANCELLED, "second": Status.CANCELLED}


@action(name="cancelled-children:missing")
async def missing() -> None: ...


@workflow
class Stuck(Workflow):
    async def run(self) -> None:
        await missing()


@workflow
class Unstuck(Workflow):
    async def run(self) -> str:
        try:
            async with asyncio.timeout(10):
                await Stuck().run()
        except TimeoutError:
            return "late"
        return "in time"


async def test_a_parked_child_that_is_given_up_ends_at_once(app: App, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(ACTIONS, "cancelled-children:missing")
    handle = await Unstuck().start()
    assert await handle.result(timeout=20) == "late"
    (child,) = await app.store.find(InstanceFilter(name=Stuck.__holdfast_workflow__))
    assert child.status is Status.CANCELLED


async def until(app: App, true: Any) -> None:
    async with asyncio.timeout(20):
        while not true(await app.store.find(InstanceFilter(name=Kid.__holdfast_workflow__))):
            await asyncio.sleep(0.002)
