"""Functions that a program has a name for may be kept over an await: actions, methods, helpers, partials of them."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.engine.harness import driven
from tests.workflows import dotted_helpers

from holdfast import App, Workflow, action, workflow
from holdfast.codec import encode
from holdfast.engine import KIT, Machine, link, load
from holdfast.errors import DecodeError, EncodeError
from holdfast.ir.program import Ref
from holdfast.registry import resolve
from holdfast.workflow import definition_of


@action(name="values:charge")
async def charge(n: int) -> int:
    return n


@action(name="values:refund")
def refund(n: int) -> int:
    return -n


STEPS = [charge, refund]


async def twice(n: int) -> int:
    return 2 * await charge(n)


def half(n: int) -> float:
    return n / 2


@workflow
class Saga(Workflow):
    def __init__(self) -> None:
        self.undo: list[Callable[..., Any]] = [refund]

    async def step(self, n: int) -> int:
        return await charge(n) + 100

    def plain(self, n: int) -> str:
        return f"{self.undo and n}"

    @staticmethod
    async def static(n: int) -> int:
        return await charge(n) + 1000

    async def run(self) -> Any:
        done: list[Any] = []
        for each in (charge, self.step, self.static, twice, dotted_helpers.added, *STEPS):
            done.append(await each(1))
            self.undo.append(charge)
        table = {"half": half, "floor": math.floor, "most": max, "plain": self.plain}
        shown = self.plain
        some = functools.partial(twice, n=5)
        await asyncio.sleep(0)
        done += [table["half"](3), table["floor"](2.5), table["most"](1, 2), table["plain"](3), shown(4), await some()]
        compensated = [await back(7) for back in reversed(self.undo)]
        return [done, compensated, table["half"] is half, self.undo[0] is refund]


async def test_functions_are_kept_over_awaits(app):
    done = [1, 101, 1001, 2, 2, 1, -1, 1.5, 2, 2, "3", "4", 10]
    assert await Saga().run() == [done, [7] * 7 + [-7], True, True]


@workflow
class Passed(Workflow):
    async def run(self, back: Any) -> Any:
        return [await back(1), back is refund]


@workflow
class Passing(Workflow):
    async def run(self) -> Any:
        return await Passed().run(refund)


async def test_an_action_may_be_an_argument(app):
    assert await Passing().run() == [-1, True]


@workflow
class Leaks(Workflow):
    async def run(self, what: str) -> Any:
        return half if what == "half" else functools.partial(half, 1) if what == "partial" else self.run


@pytest.mark.parametrize("what", ["half", "partial", "run"])
async def test_other_functions_do_not_leave_their_workflow(app, what: str):
    with pytest.raises(EncodeError, match="name the function in the code that calls it"):
        await Leaks().run(what)


async def test_two_variables_that_hold_one_function_are_saved_apart(app: App):
    drive = driven(Saga)
    drive.turn()
    drive.save()
    assert not [key for key in drive.entries if key.startswith("=")]


@pytest.mark.parametrize(
    "tree",
    [
        {"$": ":function", "v": "object builtins:eval"},
        {"$": ":function", "v": "object os:system"},
        {"$": ":function", "v": "object tests.workflows.test_functions_as_values:unnamed"},
        {"$": ":function", "v": ["object", "os:system"]},
        {"$": ":builtin", "v": "builtin eval"},
        {"$": ":builtin", "v": "builtin __import__"},
        {"$": ":function", "v": "module math __loader__"},
        {"$": ":function", "v": "module math missing"},
        {"$": ":function", "v": "module os system"},
        {"$": ":function", "v": "module math"},
        {"$": ":method", "v": "missing"},
        {"$": ":method", "v": "undo"},
        {"$": ":method", "v": "__init__"},
        {"$": ":method", "v": 7},
        {"$": ":action", "v": "values:missing"},
        {"$": ":action", "v": None},
        {"$": ":partial", "v": [7, [], {}]},
        {"$": ":partial", "v": 7},
        {"$": ":partial", "v": [{"$": ":function", "v": "object os:system"}, [], {}]},
    ],
)
def test_a_state_leads_to_no_other_function(tree: Any):
    drive = driven(Saga)
    drive.turn()
    drive.save()
    drive.entries["self"] = {"undo": tree}
    with pytest.raises(DecodeError):
        load(Machine(drive.code, now=0.0), drive.entries)


def test_names_of_a_space_without_functions_mean_nothing():
    program = definition_of(Saga).program
    program = replace(
        program, refs={**program.refs, "nowhere": {"m": Ref("module", "json"), "o": Ref("object", "os:x")}}
    )
    code = link(program, resolve=resolve, cls=lambda methods: type("W", (), methods), kit=KIT)
    assert "json" not in code.modules
    assert "object os:x" not in code.named


def unnamed() -> None: ...


def test_outside_of_a_workflow_functions_are_no_values():
    for value in (half, max, unnamed, functools.partial(half, 1), [].append):
        with pytest.raises(EncodeError):
            encode(value)
