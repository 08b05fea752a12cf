"""What is asked for outside of a workflow, and never awaited, is warned of as coroutines are."""

from __future__ import annotations

import asyncio
import warnings

import pytest

from holdfast import Workflow, action, start_many, workflow
from holdfast.codec import encode
from holdfast.testing import workflow_app


@action
async def double(n: int) -> int:
    return 2 * n


def call_of(n: int) -> object:
    """Plain code that a workflow calls."""
    return double(n)


@workflow
class Doubles(Workflow):
    async def run(self, n: int) -> int:
        made = [call_of(n), double(n)]
        spare = made[0]
        return await double(n) if spare is made[0] else 0


@pytest.mark.parametrize(
    ("forget", "told"),
    [
        (lambda: Doubles().run(3), r"^Doubles\(\)\.run\(…\) was never awaited$"),
        (lambda: Doubles().start(3), r"^Doubles\(\)\.start\(…\) was never awaited$"),
        (lambda: double(3), r"^double\(…\) was never awaited$"),
    ],
)
def test_what_is_never_awaited_is_warned_of_where_it_was_dropped(forget, told):
    with pytest.warns(RuntimeWarning, match=told) as warned:
        forget()
    assert [one.filename for one in warned] == [__file__]


async def test_what_is_awaited_started_gathered_or_passed_on_is_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with workflow_app() as app:
            assert await Doubles().run(3) == 6
            await (await Doubles().start(3)).result()
            await start_many(Doubles().start(n) for n in range(3))
            assert await asyncio.gather(Doubles().run(1), double(2)) == [2, 4]
            await app.schedule(Doubles().start(3), id="s", every=60)
            Doubles().run_action(double(1))
            encode([double(3)])


def test_a_run_that_is_tested_says_that_its_await_is_missing():
    run = Doubles().run(3)
    with pytest.raises(TypeError, match=r"write `await Doubles\(\)\.run\(…\)`"):
        assert run
    run.unused = False
    assert run
