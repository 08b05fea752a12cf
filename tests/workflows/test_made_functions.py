"""Async functions that other functions have made are compiled in as what they are: closures, one by one."""

from __future__ import annotations

import functools
from typing import Any

from holdfast import Workflow, action, workflow
from holdfast.ir.text import parse
from holdfast.registry import Registry
from holdfast.workflow import definition_of


@action(name="made:same")
async def same(value: Any = None) -> Any:
    return value


def adder(n: int) -> Any:
    async def add(x: int) -> int:
        return await same(x) + n

    return add


def saying(text: str) -> Any:
    async def say(more: str = text) -> str:
        return await same(more)

    return say


def step(n: int) -> Any:
    async def step(self: Any, by: int = n) -> Any:
        return [await same(n), by]

    return step


add1, add10 = adder(1), adder(10)
hello, bye = saying("hello"), saying("bye")


@workflow
class Closures(Workflow):
    first = step(1)
    second = step(2)

    async def run(self) -> list[Any]:
        sums = [await add1(0), await add10(0), await add1(await add10(1))]
        return [*sums, await hello(), await bye(), await self.first(), await self.second()]


async def test_closures_of_one_factory_stay_apart(app):
    assert await Closures().run() == [1, 10, 12, "hello", "bye", [1, 1], [2, 2]]


def test_a_second_closure_is_numbered_and_the_first_keeps_its_name():
    names = definition_of(Closures).program.functions.keys()
    assert {name.partition(":")[2] for name in names} == {
        "Closures.run",
        "adder.<locals>.add",
        "adder.<locals>.add~2",
        "saying.<locals>.say",
        "saying.<locals>.say~2",
        "step.<locals>.step",
        "step.<locals>.step~2",
    }


def test_a_program_with_closures_is_read_back_from_its_text():
    registry = Registry(signing_key="key")
    assert registry.link(registry.stored(definition_of(Closures))).functions.keys() == (
        definition_of(Closures).program.functions.keys()
    )


# --- decorators


def plus(n: int) -> Any:
    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        async def inner(*args: Any, **kwargs: Any) -> Any:
            return n + await function(*args, **kwargs)

        return inner

    return decorate


def thrice(function: Any) -> Any:
    @functools.wraps(function)
    async def inner(*args: Any) -> Any:
        return [await function(*args) for _ in range(3)]

    return inner


def mended(function: Any) -> Any:
    @functools.wraps(function)
    async def inner(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await function(self, *args, **kwargs)
        except ValueError as error:
            return f"mended {error}"

    return inner


def unmarked(function: Any) -> Any:
    async def inner(*args: Any) -> Any:
        return ["unmarked", await function(*args)]

    return inner


def aside(function: Any) -> Any:
    @functools.wraps(function)
    async def inner(*args: Any) -> Any:
        return [await same("aside"), function(*args)]

    return inner


@action(name="made:fail")
async def fail(value: Any) -> Any:
    raise ValueError(value)


@plus(100)
async def hundred(x: int) -> int:
    return await same(x)


@plus(1000)
@plus(100)
async def thousand(x: int, y: int = 5) -> int:
    return await same(x + y)


@plus(7)
@action(name="made:seven")
async def seven(x: int) -> int:
    return x


@unmarked
async def bare(x: int) -> int:
    return await same(x)


@aside
def sync(x: int) -> int:
    return -x


class Decorated(Workflow):
    def __init__(self) -> None:
        self.__times = 0

    @thrice
    async def again(self, x: int) -> int:
        self.__times += await same(x)
        return self.__times

    @mended
    async def failing(self, x: int) -> Any:
        return await fail(x)

    @staticmethod
    @plus(3)
    async def apart(x: int) -> int:
        return await same(x)

    @mended
    async def base(self) -> Any:
        return await same("base")

    async def run(self) -> Any:
        return [
            await hundred(1),
            await thousand(1),
            await thousand(1, y=2),
            await seven(1),
            await bare(1),
            await sync(1),
            await self.again(2),
            await self.failing(4),
            await self.base(),
        ]


@workflow
class Deriving(Decorated):
    @mended
    async def base(self) -> Any:
        return ["derived", await super().base()]


DONE = [101, 1106, 1103, 8, ["unmarked", 1], ["aside", -1], [2, 4, 6], "mended 4"]


async def test_a_decorators_wrapper_runs_as_in_plain_python(app):
    assert await Decorated().run() == [*DONE, "base"]
    assert await Deriving().run() == [*DONE, ["derived", "base"]]
    assert await hundred(1) == 101


class Entry(Workflow):
    @mended
    async def run(self, x: int, /, y: int = 2, *rest: int, key: str = "k", **more: int) -> Any:
        if x < 0:
            return await fail(x)
        return await same([x, y, list(rest), key, more])


class Same(Workflow):
    @thrice
    @mended
    async def run(self) -> Any:
        return await fail(1)


async def test_a_decorated_run_takes_its_arguments_as_asked(app):
    assert await Entry().run(1) == [1, 2, [], "k", {}]
    assert await Entry().run(1, 3, 4, 5, key="n", z=6) == [1, 3, [4, 5], "n", {"z": 6}]
    assert await Entry().run(-1) == "mended -1"
    assert await Same().run() == ["mended 1"] * 3


@workflow
class Again(Workflow):
    @plus(1)
    async def run(self, n: int) -> Any:
        return await self.run(n - 1) if n else await same(0)


async def test_a_decorated_run_that_calls_itself_goes_through_its_wrapper(app):
    assert await Again().run(2) == 3


def test_what_a_worker_does_not_find_is_not_taken_for_what_wraps_it():
    refs = [ref for refs in definition_of(Decorated).program.refs.values() for ref in refs.values()]
    assert [ref.target for ref in refs if ref.target.endswith(":sync.<wrapped>")]


# --- static methods


class Apart(Workflow):
    @staticmethod
    async def pair(x: int, y: int = 0) -> Any:
        return [await same(x), y]

    @staticmethod
    @plus(1)
    async def more(x: int) -> int:
        return await same(x)

    async def overridden(self, x: int) -> Any:
        return ["method", await same(x)]


@workflow
class Statics(Apart):
    @staticmethod
    async def pair(x: int, y: int = 0) -> Any:
        return ["derived", *await Apart.pair(x, y)]

    @staticmethod
    async def overridden(x: int) -> Any:  # type: ignore[override]
        return ["static", await same(x)]

    async def run(self) -> Any:
        return [
            await self.pair(1),
            await Statics.pair(2, 3),
            await super().pair(4),
            await self.more(5),
            await self.overridden(6),
            await type(self).pair(7),
        ]


async def test_a_static_method_is_called_without_the_object(app):
    assert await Statics().run() == [
        ["derived", 1, 0],
        ["derived", 2, 3],
        [4, 0],
        6,
        ["static", 6],
        ["derived", 7, 0],
    ]


def test_a_program_says_which_of_its_methods_are_static():
    definition = definition_of(Statics)
    assert definition.program.statics == ("more", "overridden", "pair")
    assert parse(definition.text) == definition.program
    assert "static" not in definition_of(Closures).text.partition("\ndef ")[0]
