"""Messages under the name of a type: made objects of it where they are sent, and filed under the type that they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pytest

from holdfast import ValidationError, Workflow, workflow
from holdfast.testing import workflow_app


class Shape(Protocol):
    """No value is an object of it."""

    by: int


@dataclass
class Approval:
    by: str
    cents: int = 0


@dataclass
class Special(Approval):
    why: str = ""


class Plain:
    """No data class: nothing says how one is made."""


@dataclass
class Unclear:
    to: Nowhere  # noqa: F821 - that is what is tested


NAME = f"{__name__}:Approval"


@workflow
class Expense(Workflow):
    async def run(self) -> list[object]:
        approval = await self.receive(Approval)
        return [type(approval).__name__, approval]


async def test_what_is_sent_by_the_name_of_a_type_arrives_as_an_object_of_it():
    async with workflow_app():
        handle = await Expense().start()
        await handle.send(NAME, {"by": "Ada", "cents": "7"})
        assert await handle.result() == ["Approval", Approval("Ada", 7)]


async def test_what_does_not_fit_the_type_is_refused_where_it_is_sent():
    async with workflow_app():
        handle = await Expense().start()
        with pytest.raises(
            ValidationError, match=rf"the message '{NAME}' does not fit its type:\n  \['cents'\]: .*integer"
        ):
            await handle.send(NAME, {"by": "Ada", "cents": "many"})
        with pytest.raises(ValidationError, match="instance of Plain"):
            await handle.send(f"{__name__}:Plain", {})
        with pytest.raises(ValidationError, match=f"{__name__}:Unclear cannot be validated: "):
            await handle.send(f"{__name__}:Unclear", {"to": 3})
        await handle.send(NAME, Approval("Ada"))
        assert await handle.result() == ["Approval", Approval("Ada")]


async def test_a_subclass_is_received_as_its_own_type_or_under_the_name_of_its_base():
    async with workflow_app():
        handle = await Expense().start()
        await handle.send(Special("Eve"))
        await handle.send(NAME, Special("Ada", why="early"))
        assert await handle.result() == ["Special", Special("Ada", why="early")]


@pytest.mark.parametrize(
    "name",
    ["elsewhere:Approval", f"{__name__}:Nobody", f"{__name__}:NAME", "approval", ":", "os:path", f"{__name__}:Shape"],
)
async def test_a_name_that_is_that_of_no_type_here_carries_what_was_sent(name: str):
    @workflow
    class Takes(Workflow):
        async def run(self) -> object:
            return await self.receive(name)

    async with workflow_app():
        handle = await Takes().start()
        await handle.send(name, {"by": 3})
        assert await handle.result() == {"by": 3}
