"""What options of tasks and of calls take. What no store could keep, and no worker read, is refused before it is sent."""

import math
from datetime import UTC, datetime, timedelta
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
    ({"queue": "*"}, "queue= is a name without commas, colons, asterisks and outer spaces"),
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
