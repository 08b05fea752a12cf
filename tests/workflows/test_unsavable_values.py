"""A value that cannot be saved is told with whose it is, where it lies, and what to do instead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import App, Workflow, action, workflow
from holdfast.errors import EncodeError


@action(name="unsavable:same")
async def same(value: Any, *, by_name: Any = None) -> Any:
    return value


@action(name="unsavable:give")
async def give() -> Any:
    return {"rule": max}


@workflow(name="Inner")
class Inner(Workflow):
    def __init__(self, held: Any = None) -> None:
        self.held = held

    async def run(self, value: Any = None) -> None: ...


@workflow(name="Outer")
class Outer(Workflow):
    async def run(self, what: str) -> Any:
        match what:
            case "by place":
                await same({"rules": [1, max]})
            case "by name":
                await same(1, by_name=max)
            case "given":
                await give()
            case "child":
                await Inner().run({"rule": max})
            case "attribute":
                await Inner(max).run()
            case _:
                return {"rule": max}


WAY_OUT = (
    "a bound method or built-in function (builtins.builtin_function_or_method) cannot be saved; save its arguments"
)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("by place", f"argument 1 of action unsavable:same cannot be saved: at ['rules'][1]: {WAY_OUT}"),
        ("by name", f"argument 'by_name' of action unsavable:same cannot be saved: {WAY_OUT}"),
        ("given", f"the result of action unsavable:give cannot be saved: at ['rule']: {WAY_OUT}"),
        ("child", f"argument 'value' of workflow Inner cannot be saved: at ['rule']: {WAY_OUT}"),
        ("attribute", f"attribute 'held' of the object of workflow Inner cannot be saved: {WAY_OUT}"),
        ("result", f"the result of workflow Outer cannot be saved: at ['rule']: {WAY_OUT}"),
    ],
)
async def test_what_cannot_be_saved_in_a_workflow_is_named(app: App, what: str, told: str):
    with pytest.raises(EncodeError) as caught:
        await Outer().run(what)
    assert str(caught.value).startswith(told)


@workflow(name="Leaking")
class Leaking(Workflow):
    async def run(self, what: str) -> Any:
        task = asyncio.create_task(same(1))
        match what:
            case "task as a result":
                return [task]
            case "task as an argument":
                return await same([task])
            case "child as a result":
                return {"child": await Inner().start(id=f"{what}-inner")}
            case "itself to a child":
                return await Inner().run(self)
            case "timeout":
                async with asyncio.timeout(5) as limit:
                    return await same(limit)
            case _:
                return self


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (
            "task as a result",
            "the result of workflow Leaking cannot be saved: at [0]: a task has a meaning only inside its own workflow; "
            "await it, and pass on its result",
        ),
        (
            "task as an argument",
            "argument 1 of action unsavable:same cannot be saved: at [0]: a task has a meaning only inside its own workflow",
        ),
        (
            "child as a result",
            "the result of workflow Leaking cannot be saved: at ['child']: the handle of a child has a meaning only inside "
            "its own workflow; pass on its id",
        ),
        (
            "itself to a child",
            "argument 'value' of workflow Inner cannot be saved: the workflow object has a meaning only inside its own "
            "workflow; pass on those of its attributes that are needed",
        ),
        ("timeout", "argument 1 of action unsavable:same cannot be saved: a Timeout has a meaning only inside"),
        ("itself", "the result of workflow Leaking cannot be saved: the workflow object has a meaning only inside"),
    ],
)
async def test_what_means_something_only_inside_does_not_leave(app: App, what: str, told: str):
    with pytest.raises(EncodeError) as caught:
        await Leaking().run(what)
    assert str(caught.value).startswith(told)


async def test_what_cannot_be_saved_outside_is_named(app: App):
    with pytest.raises(EncodeError, match="^argument 'value' of workflow Inner cannot be saved: "):
        await Inner().run(max)

    @app.task(name="unsavable:job")
    async def job(value: Any) -> None: ...

    with pytest.raises(EncodeError, match="^argument 1 of task unsavable:job cannot be saved: "):
        await job.delay(max)


class Refused(Exception):
    """As those of HTTP clients: it holds the connection."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.connection = object()


undone: list[str] = []


@action(name="unsavable:refuse")
async def refuse() -> None:
    raise Refused(409)


@action(name="unsavable:undo")
async def undo(what: str) -> None:
    undone.append(what)


@workflow(name="Compensates")
class Compensates(Workflow):
    async def run(self, how: str) -> str:
        try:
            if how == "in a block":
                raise Refused(500)
            if how == "gathered":
                _, error = await asyncio.gather(undo("gathered"), refuse(), return_exceptions=True)
                await undo("after")
                assert isinstance(error, Refused)
                return f"{error.status} {type(error.connection).__name__}"
            await refuse()
        except Refused as error:
            await undo("handler")
            if how == "handled":
                return f"{error.status} {type(error.connection).__name__}"
            raise
        finally:
            await undo("finally")
        return "not raised"


@pytest.mark.parametrize("how", ["handled", "raised again", "in a block", "gathered"])
async def test_an_exception_that_holds_what_cannot_be_saved_is_handled_all_the_same(app: App, how: str):
    undone.clear()
    if how in ("handled", "gathered"):
        # What it held is text, wherever the action has run.
        assert await Compensates().run(how) == "409 str"
    else:
        with pytest.raises(Refused, match=r"status \d00|status 409"):
            await Compensates().run(how)
    assert undone == (["gathered", "after", "finally"] if how == "gathered" else ["handler", "finally"])


@workflow(name="HoldsALock")
class HoldsALock(Workflow):
    async def run(self, how: str) -> str:
        await undo("begun")
        try:
            shared: list[Any] = []
            other = asyncio.create_task(self.add_later(shared)) if how == "by another" else None
            held = object() if how != "by another" else None
            if how == "asleep":
                await asyncio.sleep(100)
            elif how == "for a message":
                await self.receive("never")
            elif how == "by another":
                assert other is not None
                await asyncio.sleep(1000)
            else:
                await undo("never done")
            return repr((held, shared))
        except EncodeError as error:
            await undo("handler")
            if how == "again":
                twice = object()
                await undo("never done either")
                return repr(twice)
            if how != "handled":
                raise
            return str(error)
        finally:
            await undo("finally")

    async def add_later(self, shared: list[Any]) -> None:
        await asyncio.sleep(1)
        shared.append(object())
        await asyncio.sleep(1)


@pytest.mark.parametrize("how", ["handled", "asleep", "for a message", "again"])
async def test_an_await_over_which_a_variable_cannot_be_kept_fails_there_and_cleans_up(app: App, how: str):
    undone.clear()
    if how == "handled":
        said = await HoldsALock().run(how)
    else:
        with pytest.raises(EncodeError) as caught:
            await HoldsALock().run(how)
        said = str(caught.value)
    name = "twice" if how == "again" else "held"
    assert said.startswith(f"the variable '{name}' is still needed after the await in line ")
    assert undone == ["begun", "handler", "finally"]


async def test_what_another_branch_makes_unsavable_fails_where_it_is_kept(app: App):
    undone.clear()
    with pytest.raises(EncodeError, match="the variable 'shared' is still needed after the await"):
        await HoldsALock().run("by another")
    assert undone == ["begun", "handler", "finally"]
