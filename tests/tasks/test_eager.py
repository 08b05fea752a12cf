"""Tests of tasks: an App that waits until nothing is left to run."""

from __future__ import annotations

import pytest

from holdfast import App, JobStatus
from holdfast.errors import ConfigurationError
from holdfast.tasks import RESULT
from holdfast.testing import drain, workflow_app


async def test_drained_nothing_is_left_to_run(app: App):
    heard: list[int] = []

    @app.task(retries=3)
    async def add(n: int) -> int:
        heard.append(n)
        if len(heard) == 1:
            raise ValueError("once more")
        return n + 1

    handle = await (add.s(1) >> add.options(delay=3600).s(RESULT)).delay()
    await drain(app)
    assert heard == [1, 1, 2]
    assert await handle.status() is JobStatus.DONE


async def test_eager_sending_returns_when_all_has_ended():
    heard: list[int] = []
    async with workflow_app(eager=True) as app:

        @app.task
        async def add(n: int) -> int:
            heard.append(n)
            return n + 1

        await (add.s(1) >> add.s(RESULT)).delay()
        assert heard == [1, 2]
        await add.delay_many([5, 6])
        assert sorted(heard[2:]) == [5, 6]


async def test_eager_needs_time_that_moves():
    with pytest.raises(ConfigurationError, match="move_time=False"):
        async with workflow_app(eager=True, move_time=False):
            raise AssertionError("it was opened")
