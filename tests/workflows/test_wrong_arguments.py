"""Arguments of a wrong kind are refused where they are given, with the parameter's name and what it takes."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast import App, BackoffPolicy, RetryMode, RetryPolicy, Workflow, action, workflow
from holdfast.errors import ConfigurationError
from holdfast.testing import workflow_app

ANY: Any = None


@workflow
class Nothing(Workflow):
    async def run(self) -> None: ...


@workflow
class Parcel(Workflow):
    async def run(self, id: str = "none", *, queue: int = 0) -> str:
        return f"{id} {queue}"


def noop() -> None: ...


def made(**options: Any) -> Any:
    return action(**options)(noop)


@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda: RetryPolicy(retry_mode="quadratic"), "retry_mode= is a RetryMode, or one of 'fixed', 'linear'"),
        (lambda: BackoffPolicy(mode="x"), "mode= is a RetryMode"),
        (lambda: BackoffPolicy("5s"), "base_delay= is a timedelta or a number of seconds, .*, not '5s'"),
        (lambda: BackoffPolicy(jitter="x"), "jitter= is a number, not 'x'"),
        (lambda: RetryPolicy(attempts="x"), "attempts= is a whole number, or None for no end, not 'x'"),
        (lambda: RetryPolicy(delay="5s"), "delay= is a timedelta or a number of seconds, .*, not '5s'"),
        (lambda: RetryPolicy(backoff=3), "backoff= is a BackoffPolicy, not 3"),
        (lambda: RetryPolicy(retry_on=3), "take exception classes, or module:qualname, not 3"),
        (lambda: RetryPolicy(give_up_on=[ValueError, int]), "not <class 'int'>"),
        (lambda: made(retry=3), r"retry= is a RetryPolicy, such as RetryPolicy\(attempts=3\), not 3"),
        (lambda: made(backoff=3), "backoff= is a BackoffPolicy, such as"),
        (lambda: made(timeout="5s"), "timeout= is a timedelta or a number of seconds, .*, not '5s'"),
        (lambda: made(queue=3), "queue= is a text without control characters, not 3"),
        (lambda: made(queue="a,b"), "queue= is a name without commas .*; not 'a,b'"),
        (lambda: Nothing().start(queue=""), "queue= is empty; leave it out where there is none"),
        (lambda: App("x", url="sqlite://:memory:").task(retry=3), "retry= is a RetryPolicy"),
        (lambda: App("x", url="sqlite://:memory:").task(retries="3"), "retries= is a whole number, not '3'"),
        (
            lambda: App("x", url="sqlite://:memory:").task(noop).options(id=""),
            "id= is empty; leave it out",
        ),
        (lambda: App("x", url="sqlite://:memory:").task(expires="5m"), "expires= is a timedelta or a number"),
        (lambda: Nothing().start(tags=["vip"]), r"tags= is one text of words .*, such as 'vip eu', not \['vip'\]"),
        (lambda: Nothing().start(tags={"vip": 1}), "tags= is one text of words with spaces between them"),
        (lambda: Nothing().start(id=""), "id= is empty; leave it out"),
        (lambda: Nothing().start(id="a\nb"), r"id= is a text without control characters, not 'a\\nb'"),
        (lambda: Nothing().start(tags="a\nb"), "tags= is a text without control characters"),
        (lambda: Nothing().start(delay="5m"), "delay= is a timedelta or a number of seconds, .*, not '5m'"),
    ],
)
def test_definitions_say_what_a_parameter_takes(give: Any, told: str):
    with pytest.raises(ConfigurationError, match=told):
        give()


def test_a_retry_mode_may_be_a_string():
    assert RetryPolicy(retry_mode="linear") == RetryPolicy(retry_mode=RetryMode.Linear)


async def test_an_app_says_what_it_starts_and_schedules():
    async with workflow_app() as app:
        with pytest.raises(ConfigurationError, match=r"start_many\(\) takes runs, such as .*, not 3"):
            await app.start_many([3])  # type: ignore[list-item]
        for misused in (
            lambda: app.schedule("nightly"),  # type: ignore[arg-type, call-arg]
            lambda: app.schedule("nightly", Nothing, cron="@daily"),  # type: ignore[arg-type, call-arg]
            lambda: app.schedule(Nothing, id="x", corn="@daily"),  # type: ignore[call-arg]
        ):
            with pytest.raises(ConfigurationError, match=r"schedule\(\): .*; write it as app\.schedule\(Report, id="):
                await misused()
        with pytest.raises(
            ConfigurationError, match=r"schedule\(\) takes a workflow class, or a run such as .*, not 3"
        ):
            await app.schedule(3, id="x", every=5)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="every= is a timedelta or a number of seconds, .*, not '5m'"):
            await app.schedule(Nothing, id="x", every="5m")  # type: ignore[arg-type]


async def test_stubs_stand_in_place_of_actions():
    stubs: Any = {3: noop}
    with pytest.raises(ConfigurationError, match="stubs= takes actions, or their names, .*, not 3"):
        async with workflow_app(stubs=stubs):
            pass


def test_a_run_that_is_asked_of_the_class_says_that_an_object_is_missing():
    unknown: Any = Nothing
    with pytest.raises(TypeError, match=r"^Nothing\.run\(…\) is called on the class; .*: await Nothing\(\)\.run\(…\)$"):
        unknown.run()


async def test_a_fork_says_what_a_step_is():
    wrong: Any = "0"
    async with workflow_app() as app:
        with pytest.raises(ConfigurationError, match="at= is the number of a step, not '0'"):
            await app.fork("any", at=wrong)


async def test_an_option_of_start_that_is_also_a_parameter_of_run_is_not_guessed():
    with pytest.raises(
        TypeError, match="Parcel: id= is an option of start, and a parameter of run: give the argument by"
    ):
        Parcel().start(id="x")
    with pytest.raises(
        TypeError, match="Parcel: queue= is an option of start, and a parameter of run: rename the param"
    ):
        Parcel().start("x", queue="slow")
    async with workflow_app() as app:
        handle = await Parcel().start("x", id="parcel-x", priority=3)
        assert (handle.id, await handle.result()) == ("parcel-x", "x 0")
        assert await Parcel().run(id="y", queue=7) == "y 7"
        assert await (await Parcel().start()).result() == "none 0"
        planned = await app.schedule(Parcel, id="often", every=60, inputs={"id": "z", "queue": 8})
        assert await app.handle(await planned.trigger()).result() == "z 8"
