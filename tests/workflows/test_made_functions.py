"""Async functions that other functions have made are compiled in as what they are: closures, one by one."""

from __future__ import annotations

from typing import Any

from holdfast import Workflow, action, workflow
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
