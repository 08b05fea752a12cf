"""What options of tasks and of calls take. What no store could keep, and no worker read, is refused before it is sent."""

import functools
import importlib
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from holdfast import App, ConfigurationError

app = App("edge", url="sqlite://:memory:")


@app.task
async def echo(value: int = 0) -> int:
    return value


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"priority": "high"}, "priority= is a whole number of 32 bits, higher goes first, not 'high'"),
    ({"priority": 1.5}, "priority= is a whole number"),
    ({"priority": True}, "priority= is a whole number"),
    ({"priority": 2**31}, "priority= is a whole number of 32 bits"),
    ({"priority": -(2**31)}, "priority= is a whole number of 32 bits"),
    ({"delay": math.nan}, "delay= is a timedelta or a number of seconds, of a hundred years at most, not nan"),
    ({"delay": math.inf}, "delay= is a timedelta or a number of seconds"),
    ({"delay": 1e12}, "of a hundred years at most"),
    ({"delay": timedelta.max}, "of a hundred years at most"),
    ({"delay": True}, "delay= is a timedelta or a number of seconds"),
    ({"delay": -1}, "delay= cannot be negative, and is -1"),
    ({"result_ttl": math.inf}, "result_ttl= is a timedelta or a number of seconds, of a hundred years at most"),
    ({"result_ttl": -1}, "result_ttl= cannot be negative"),
    ({"timeout": math.inf}, "timeout= is a timedelta or a number of seconds"),
    ({"timeout": 0}, "timeout= must be more than nothing"),
    ({"expires": 0}, "expires= must be more than nothing"),
    ({"eta": "2030-01-01"}, "eta= is a datetime with a timezone, or a number of Unix seconds, not '2030-01-01'"),
    ({"eta": datetime(2030, 1, 1)}, "eta= takes a datetime with a timezone"),
    ({"eta": math.nan}, "eta= is in Unix seconds, before the year 10000"),
    ({"eta": 1.9e12}, "eta= is in Unix seconds, before the year 10000"),
    ({"eta": True}, "eta= is a datetime"),
    ({"queue": ""}, "queue= is empty"),
    ({"queue": "*"}, "queue= is a name without commas and outer spaces"),
    ({"queue": "a,b"}, "queue= is a name without commas"),
    ({"queue": "a:3"}, "queue= is a name without commas"),
    ({"queue": " a "}, "queue= is a name without commas"),
    ({"queue": "a\0b"}, "queue= is a text without control characters"),
    ({"queue": "\ud800"}, "queue= is a text without control characters"),
    ({"queue": "q" * 1001}, "queue= takes 1001 bytes; at most 1000 are kept"),
    ({"queue": 7}, "queue= is a text"),
    ({"id": ""}, "id= is empty"),
    ({"id": 7}, "id= is a text"),
    ({"id": "a\nb"}, "id= is a text without control characters"),
    ({"id": "é" * 501}, "id= takes 1002 bytes; at most 1000 are kept"),
    ({"key": ""}, "the key= of a call is a text, not ''"),
    ({"unique": ""}, "unique= is True or a text, and not ''"),
    ({"unique": 7}, "unique= is True or a text, and not 7"),
    ({"dead_letter": "no"}, "dead_letter= is True or False, not 'no'"),
]


@pytest.mark.parametrize(("options", "told"), WRONG, ids=[repr(options) for options, _ in WRONG])
def test_a_call_refuses_what_cannot_be_kept(options: dict[str, Any], told: str):
    with pytest.raises(ConfigurationError, match=told):
        echo.options(**options)


@pytest.mark.parametrize("options", [{"queue": "a:3"}, {"priority": "high"}, {"key": ""}, {"result_ttl": math.inf}])
def test_so_does_a_definition(options: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        app.task(**options)(echo.function)


async def test_texts_that_are_only_compared_may_hold_anything():
    async with app:
        for text in ("a\0b", "\ud800", "é" * 400, "a\nb"):
            waits = echo.options(unique=text, delay=60)
            assert (await waits.delay()).id == (await waits.delay()).id
            await echo.options(key=text).delay()


async def test_the_outermost_of_what_is_taken_runs():
    async with App("edge", url="sqlite://:memory:") as own:
        task = own.task(echo.function)
        far = datetime(9999, 12, 31, tzinfo=UTC)
        waits = await task.options(eta=far, priority=-(2**31) + 1).delay()
        taken = {
            "result_ttl": 3.1e9,
            "expires": 3.1e9,
            "timeout": 3.1e9,
            "priority": 2**31 - 1,
            "queue": "à b",
            "id": "x" * 1000,
        }
        assert await (await task.options(**taken).delay(7)).get() == 7
        assert not (await own.tasks.broker.look([waits.id]))[0].status.ended


def module(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of this text, imported."""
    (tmp_path / f"{name}.py").write_text(dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, name, made)
    return made


ONE = """
from holdfast import App, Workflow, action, workflow

@action(name="shop.same")
async def one() -> int:
    return 1

@workflow(name="shop.Same")
class One(Workflow):
    async def run(self) -> int:
        return 1
"""


TWO = {
    "action": """
        from holdfast import action

        @action(name="shop.same")
        async def two() -> int:
            return 2
        """,
    "task": """
        from holdfast import App

        @App("two").task(name="shop.same")
        async def two() -> int:
            return 2
        """,
    "class": """
        from holdfast import Workflow

        class Two(Workflow, name="shop.Same"):
            async def run(self) -> int:
                return 2
        """,
    "decorated": """
        from holdfast import Workflow, workflow

        @workflow(name="shop.Same")
        class Two(Workflow):
            async def run(self) -> int:
                return 2
        """,
}


@pytest.mark.parametrize("other", TWO.values(), ids=TWO.keys())
def test_two_modules_cannot_give_one_name(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module("namesake_one", ONE, tmp_path, monkeypatch)
    with pytest.raises(
        ConfigurationError, match="are called 'shop.[sS]ame', namesake_one:.* and namesake_two:.*another name="
    ):
        module("namesake_two", other, tmp_path, monkeypatch)


def test_a_module_may_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = module("namesake_one", ONE, tmp_path, monkeypatch)
    assert importlib.reload(made) is made


async def test_a_task_made_by_a_factory_is_not_taken_for_the_next_one():
    def make(n: int) -> Any:
        @app.task
        async def made() -> int:
            return n

        return made

    first, second = make(1), make(2)
    for call in (first.delay, first):
        with pytest.raises(ConfigurationError, match="was defined once more since.*name="):
            await call()
    async with app:
        assert await (await second.delay()).get() == 2


class Thing:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("function", [Thing, int, 7])
def test_what_is_no_function_is_no_task(function: Any):
    with pytest.raises(ConfigurationError, match="what is decorated is a function"):
        app.task()(function)


@pytest.mark.parametrize("function", [Thing(), functools.partial(int, "1")])
async def test_what_can_be_called_needs_a_name_to_be_a_task(function: Any):
    with pytest.raises(ConfigurationError, match="has no name: give it one by name="):
        app.task()(function)
    named = app.task(name="edge:called")(function)
    async with app:
        assert await (await named.delay()).get() == function()


def test_names_and_expressions_are_texts():
    with pytest.raises(ConfigurationError, match="name= is empty"):
        app.task(name="")(echo.function)
    with pytest.raises(
        ConfigurationError, match=r'crontab\(\) takes the expression, as in @app.crontab\("0 3 \* \* \*"\)'
    ):
        app.crontab(echo.function)  # type: ignore[arg-type]
