"""Objects of workflow classes: kept over awaits, run again, and made by what users put on their classes."""

from __future__ import annotations

import abc
import enum
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from holdfast import CompileError, Workflow, action, workflow
from holdfast.testing import workflow_app

T = TypeVar("T")


@action
async def echo(value: Any) -> Any:
    return value


@workflow
class Child(Workflow):
    def __init__(self, n: int = 0):
        self.n = n

    async def run(self, fails: int = 0) -> int:
        if await echo(self.n) < fails:
            raise ValueError(self.n)
        return self.n


@workflow
class Children(Workflow):
    async def run(self) -> list[Any]:
        first, second = Child(1), Child(2)
        got: list[Any] = [await first.run(), await second.run(), await first.run()]
        for n in range(3):
            try:
                got.append(await first.run(3))
            except ValueError as error:
                got.append(str(error))
            first.n = n + 2
        return [*got, [await each.run() for each in (first, second)], first.n, isinstance(first, Child)]


@pytest.mark.parametrize("crash", [False, True])
async def test_an_object_is_run_more_than_once_and_beside_others(crash: bool):
    async with workflow_app(crash=crash):
        assert await Children().run() == [1, 2, 1, "1", "2", 3, [4, 2], 4, True]


class Counted(Workflow):
    made: ClassVar[list[str]] = []
    flavour = ""

    def __init_subclass__(cls, *, flavour: str = "plain", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Counted.made.append(cls.__name__)
        cls.flavour = flavour


@workflow
class Sweet(Counted, flavour="sweet"):
    """What it says."""

    async def run(self) -> tuple[Any, ...]:
        await echo(1)
        return self.flavour, type(self).__doc__, isinstance(self, Sweet)


class Meta(type):
    def __new__(mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], **kwargs: Any) -> Any:
        made: Any = super().__new__(mcs, name, bases, space)
        made.given = kwargs
        return made

    def __init__(cls, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args)


class WithMeta(Workflow, metaclass=Meta):
    given: ClassVar[dict[str, Any]]


@workflow
class Given(WithMeta, z=3):
    async def run(self) -> dict[str, Any]:
        await echo(1)
        return self.given


class Stepwise(Workflow, abc.ABC, Generic[T]):
    @abc.abstractmethod
    async def step(self, n: int) -> T: ...

    async def run(self) -> list[Any]:
        return [await self.step(0), await self.step(1), isinstance(self, Stepwise)]


@workflow
class Doubling(Stepwise[int]):
    async def step(self, n: int) -> int:
        return 2 * await echo(n)


async def test_hooks_of_classes_are_called_once():
    async with workflow_app(crash=True):
        assert await Sweet().run() == ("sweet", "What it says.", True)
        assert await Given().run() == {"z": 3}
        assert await Doubling().run() == [0, 2, True]
    assert Counted.made == ["Sweet"]
    assert isinstance(Doubling(), Stepwise)


def test_slots_are_refused():
    with pytest.raises(CompileError, match="HF020 `.*Slim` keeps `a` in a slot"):

        @workflow
        class Slim(Workflow):
            __slots__ = ("a",)

            async def run(self) -> None: ...

    class Mixin:
        __slots__ = "q"

    with pytest.raises(CompileError, match="HF020 `.*Mixin` keeps `q` in a slot"):

        @workflow
        class Mixed(Mixin, Workflow):
            async def run(self) -> None: ...


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@workflow
class OverEnums(Workflow):
    async def run(self) -> list[Any]:
        got: list[Any] = [await echo(each.name) for each in Colour]
        for right in Right.READ | Right.WRITE:
            got.append(await echo(right.value))
        return got


async def test_enums_and_flags_are_gone_over():
    async with workflow_app(crash=True):
        assert await OverEnums().run() == ["RED", "GREEN", 1, 2]
