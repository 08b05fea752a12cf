"""Who waits where nobody works is told so, once."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from holdfast import App, Workflow, workflow


@workflow
class Quick(Workflow):
    async def run(self) -> int:
        return 1


async def wait_a_while(app: App) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await Quick().run()


def warned(caplog: pytest.LogCaptureFixture) -> int:
    return sum("no worker is alive" in record.getMessage() for record in caplog.records)


async def test_a_run_that_nobody_works_on_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    async with App("test", url=f"sqlite:///{tmp_path}/x.db", embedded_worker=False) as app:
        app.impatient_after = 0.05
        await wait_a_while(app)
        await wait_a_while(app)
    assert warned(caplog) == 1


async def test_nothing_is_said_where_somebody_works_or_the_wait_is_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    async with App("test", url=f"sqlite:///{tmp_path}/x.db") as app:
        app.impatient_after = 0.0
        assert await Quick().run() == 1
    async with App("test", url=f"sqlite:///{tmp_path}/y.db", embedded_worker=False) as app:
        await wait_a_while(app)
    assert warned(caplog) == 0
