"""What workflow code names through modules and classes: helpers to compile in, and what the standard library keeps apart."""

from __future__ import annotations

import asyncio
import csv
import functools
import http
import importlib
import io
import logging
import random
import sys
import types
from csv import reader
from http import HTTPStatus
from io import StringIO
from pathlib import Path, PurePath
from random import choice, sample
from secrets import choice as chosen
from typing import Any

import pytest
from tests.workflows import dotted_helpers
from tests.workflows import dotted_helpers as shop

from holdfast import Workflow, action, workflow
from holdfast.compiler.objects import object_of
from holdfast.engine.link import check_program
from holdfast.errors import ProgramError
from holdfast.ir.text import parse
from holdfast.workflow import definition_of

say = logging.getLogger("tests.dotted").info
two = functools.partial(dotted_helpers.twice, 2)


@workflow
class Dotted(Workflow):
    async def run(self, n: int) -> Any:
        one = await shop.added(n)
        both = await asyncio.gather(*[shop.added(i) for i in range(2)], dotted_helpers.Prices.total(n))
        deep = await shop.Prices.Inner.total(1) if await shop.added(0) else 0
        return [one, both, deep, [await helper(n) for helper in ()], await two()]


async def test_helpers_are_compiled_in_through_modules_and_classes(app):
    assert await Dotted().run(3) == [4, [1, 2, 60], 11, [], 4]


def test_a_helper_is_compiled_once_whatever_it_is_called_by():
    names = [name for name in definition_of(Dotted).program.functions if "dotted_helpers" in name]
    home = dotted_helpers.__name__
    assert sorted(names) == [f"{home}:Prices.Inner.total", f"{home}:Prices.total", f"{home}:added"]


@workflow
class Shadowed(Workflow):
    async def run(self) -> Any:
        shop = await asyncio.gather(dotted_helpers.added(1))
        return [shop.copy(), [dotted_helpers.upper() for dotted_helpers in ("a", "b")]]


async def test_a_variable_of_a_modules_name_is_the_variable(app):
    assert await Shadowed().run() == [[2], ["A", "B"]]


async def test_modules_that_import_each_other_may_call_each_others_helpers(app, tmp_path: Path, monkeypatch):
    (tmp_path / "circle_one.py").write_text(
        "import circle_two\nfrom holdfast import Workflow, action, workflow\n\n"
        "@action\nasync def act(n: int) -> int:\n    return n + 1\n\n"
        "@workflow\nclass One(Workflow):\n    async def run(self) -> int:\n        return await circle_two.helper(1)\n"
    )
    (tmp_path / "circle_two.py").write_text(
        "import circle_one\nfrom holdfast import Workflow, workflow\n\n"
        "@workflow\nclass Two(Workflow):\n    async def run(self) -> int:\n"
        "        return await circle_one.act(await helper(1))\n\n"
        "async def helper(n):\n    return await circle_one.act(n)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        two: Any = importlib.import_module("circle_two")
        one: Any = sys.modules["circle_one"]
        assert [await one.One().run(), await two.Two().run()] == [2, 3]
    finally:
        sys.modules.pop("circle_one", None)
        sys.modules.pop("circle_two", None)


@action(name="dotted:again")
async def again(value: Any) -> Any:
    return value


@workflow
class Standard(Workflow):
    async def run(self) -> Any:
        picked = [choice([1]), sample([2], 1), chosen([3]), random.choice([4])]
        text = StringIO()
        csv.writer(text).writerow(picked)
        say("written")
        rows = [*reader(text.getvalue().splitlines()), *csv.reader(io.StringIO("a,b"))]
        status = HTTPStatus(await again(HTTPStatus.OK))
        assert Path("a") / "b" == PurePath("a/b")
        return [picked, rows, status is http.HTTPStatus.OK, await again(status)]


async def test_what_the_standard_library_keeps_in_private_modules_and_objects_may_be_named(app):
    rows = [["1", "[2]", "3", "4"], ["a", "b"]]
    assert await Standard().run() == [[1, [2], 3, 4], rows, True, HTTPStatus.OK]


Whole, Wrong, show = int, ValueError, print


@workflow
class Aliases(Workflow):
    async def run(self, kind: Any = "7", made: Any = Whole, shown: list[Any] = []) -> Any:  # noqa: B006 - not changed
        try:
            show("reading")
            Whole(await again("x"))
        except Wrong as error:
            return [Whole(kind), made("8"), isinstance(await again(1), Whole), str(error), shown]


async def test_builtins_may_have_other_names(app):
    assert await Aliases().run() == [7, 8, True, "invalid literal for int() with base 10: 'x'", []]


def test_a_stored_program_may_give_names_to_open_builtins_only():
    definition = definition_of(Aliases)
    for name in ("exec", "__import__", "super", "nothing"):
        damaged = definition.text.replace("builtin int", f"builtin {name}")
        assert damaged != definition.text
        with pytest.raises(ProgramError, match="closed"):
            check_program(parse(damaged))


def test_a_name_is_kept_as_it_is_public():
    refs = {ref.target for refs in definition_of(Standard).program.refs.values() for ref in refs.values()}
    assert {
        "random:choice",
        "random:sample",
        "io:StringIO",
        "csv:reader",
        "http:HTTPStatus",
        "pathlib:PurePath",
    } <= refs


@pytest.mark.parametrize(
    "hidden",
    [
        exec,
        print,
        functools.partial(exec),
        functools.partial(functools.partial(importlib.import_module), "os"),
        types.MethodType(importlib.import_module, "os"),
        types.MethodType(len, sys),
    ],
)
def test_what_would_call_something_closed_leads_nowhere(hidden: object, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dotted_helpers, "hidden", hidden, raising=False)
    monkeypatch.setattr(dotted_helpers.Prices, "inside", functools.partial(print), raising=False)
    with pytest.raises(ProgramError, match="closed"):
        object_of(f"{dotted_helpers.__name__}:hidden")
    with pytest.raises(ProgramError, match="closed"):
        object_of(f"{dotted_helpers.__name__}:Prices.inside")
