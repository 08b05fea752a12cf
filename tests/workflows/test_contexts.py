"""What workflow code sees of context variables: nothing that another task or instance has set. And what `self` has lost."""

from __future__ import annotations

import asyncio
import decimal
from contextvars import ContextVar
from typing import Any

import pytest

from holdfast import Workflow, action, workflow
from holdfast.testing import workflow_app

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def enter(name: str) -> str:
    """Set it in a helper, which is Python's own affair; give what was there."""
    before = TENANT.get()
    TENANT.set(name)
    return before


def third(places: int | None = None) -> str:
    if places is not None:
        decimal.setcontext(decimal.Context(prec=places))
    return str(decimal.Decimal(1) / 3)


@action
async def echo(value: Any) -> Any:
    return value


@workflow
class Visit(Workflow):
    async def run(self, name: str) -> str:
        before = enter(name)
        await echo(1)
        return before


@workflow
class Tenants(Workflow):
    async def one(self, name: str) -> tuple[str, str]:
        before = enter(name)
        await echo(1)
        return before, TENANT.get()

    async def places(self, number: int) -> str:
        third(number)
        await echo(1)
        return third()

    async def run(self) -> list[Any]:
        enter("root")
        seen = await asyncio.gather(self.one("a"), self.one("b"), asyncio.create_task(self.one("c")))
        return [seen, TENANT.get(), await asyncio.gather(self.places(3), self.places(5)), third()]


async def test_tasks_have_contexts_of_their_own():
    async with workflow_app():
        seen, after, places, whole = await Tenants().run()
    assert seen == [("root", "a"), ("root", "b"), ("root", "c")]
    assert after == "root"
    assert places == ["0.333", "0.33333"]
    assert len(whole) == 30


async def test_what_one_instance_sets_is_nothing_to_another():
    async with workflow_app():
        assert [await Visit().run("x") for _ in range(3)] == ["nobody"] * 3
        assert await asyncio.gather(*[Visit().run(f"x{n}") for n in range(5)]) == ["nobody"] * 5
    assert TENANT.get() == "nobody"


@workflow
class Forgetful(Workflow):
    word = "class"

    async def run(self) -> list[Any]:
        found: list[Any] = []
        self.word = "own"
        await echo(1)
        del self.word
        await echo(2)
        found.append(self.word)
        self.items = [1]
        kept = self.items
        await echo(3)
        del self.items
        await echo(4)
        kept.append(2)
        await echo(5)
        return [*found, kept, hasattr(self, "items")]


@pytest.mark.parametrize("crash", [False, True])
async def test_the_last_attribute_of_self_can_be_deleted(crash: bool):
    async with workflow_app(crash=crash):
        assert await Forgetful().run() == ["class", [1, 2], False]
