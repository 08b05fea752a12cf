"""Methods of base classes and mixins are compiled in; context managers that hold no await are left by any way."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import contextmanager, suppress
from typing import Any

from holdfast import Workflow, action, workflow
from holdfast.compiler.compile import async_methods


@action(name="classes:same")
async def same(value: Any) -> Any:
    return value


@action(name="classes:fail")
async def fail(value: Any) -> Any:
    raise ValueError(value)


class Prices:
    """Knows nothing of workflows."""

    rate = 3

    async def price(self, n: int) -> int:
        return await same(n) * self.rate

    def plain(self, n: int) -> int:
        return n + 100

    async def line(self, n: int) -> list[Any]:
        return ["prices", await same(n)]


class First(Workflow):
    async def line(self, n: int) -> list[Any]:
        return ["first", *await super().line(n)]  # type: ignore[misc]


class Second(First):
    def plain(self, n: int) -> int:
        return -n

    async def line(self, n: int) -> list[Any]:
        return ["second", *await super().line(n)]

    async def run(self, n: int) -> Any:
        return ["run", await self.line(n)]


@workflow
class Third(Second, Prices):
    async def line(self, n: int) -> list[Any]:
        both = await asyncio.gather(super().line(n), self.price(n))
        return ["third", *both]

    def plain(self, n: int) -> int:
        return 0

    async def run(self, n: int) -> Any:
        return [await super().run(n), super().plain(n), [super().plain(i) for i in range(2)]]


async def test_super_calls_what_comes_next_in_the_order_of_bases(app):
    assert await Third().run(2) == [["run", ["third", ["second", "first", "prices", 2], 6]], -2, [0, -1]]


def test_methods_of_libraries_that_are_mixed_in_are_not_compiled():
    class Mixed(contextlib.AsyncExitStack, Workflow):
        async def run(self) -> None: ...

    assert list(async_methods(Mixed, Workflow)) == ["run"]


seen: list[str] = []


@contextmanager
def telling(name: str) -> Any:
    seen.append(f"enter {name}")
    try:
        yield name
    except KeyError:
        seen.append("key")
    finally:
        seen.append(f"leave {name}")


@workflow
class Leaves(Workflow):
    async def part(self, n: int) -> str:
        try:
            with telling("part") as name:
                if n:
                    return name
        finally:
            await same(n)
        return "fell out"

    async def run(self) -> list[Any]:
        out: list[Any] = []
        for i in range(5):
            with telling("a") as a, telling("b"):
                if i == 1:
                    continue
                if i == 2:
                    {}["nothing"]
                if i == 3:
                    break
            out.append(await same(a + str(i)))
        return [*out, i, await self.part(0), await self.part(1)]


async def test_a_context_manager_that_holds_no_await_is_left_by_any_way(app):
    seen.clear()
    assert await Leaves().run() == ["a0", "a2", 3, "fell out", "part"]
    entered, left = ["enter a", "enter b"], ["leave b", "leave a"]
    assert seen == [
        *(entered + left) * 2,
        *entered,
        "key",
        *left,
        *entered,
        *left,
        *["enter part", "leave part"] * 2,
    ]


@workflow
class Suppresses(Workflow):
    async def run(self) -> list[Any]:
        out: list[Any] = []
        with suppress(KeyError, ValueError) as nothing:
            out.append(nothing)
            await fail(1)
            out.append("not reached")
        try:
            with contextlib.suppress(KeyError), suppress(TypeError):
                await fail(2)
        except ValueError as error:
            out.append(error.args)
        kinds = [await same(3), ValueError]
        for i in range(4):
            with suppress(*kinds[1:]):
                out.append(await same(i))
                if i == 2:
                    break
                await fail(3)
        task = asyncio.create_task(asyncio.sleep(100))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return out


async def test_suppress_may_hold_awaits(app):
    assert await Suppresses().run() == [None, (2,), 0, 1, 2]
