"""A measurement counts what it began itself, whatever else lies in the database."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.cli.test_commands import Shell

from holdfast import App, Workflow, workflow


@workflow
class Other(Workflow):
    async def run(self) -> None: ...


async def test_results_and_instances_of_others_do_not_hold_up_a_measurement(tmp_path: Path):
    shell = Shell(tmp_path)
    async with App("test", url=shell.env["HOLDFAST_DATABASE_URL"], embedded_worker=False) as app:

        @app.task(name="test_bench:kept")
        async def kept() -> int:
            return 1

        job = await kept.delay()
        worker = app.start_worker()
        assert await job.get(timeout=20) == 1
        worker.stop()
        await app.launch(Other().start(delay=3600))
    asked = ["--only", "jobs", "--only", "sequence", "--instances", "20", "--runs", "1", "--json"]
    said = await asyncio.wait_for(shell("bench", "--url", shell.env["HOLDFAST_DATABASE_URL"], *asked), 60)
    assert {figure["measure"] for figure in json.loads(said)["figures"]} == {"sequence", "jobs"}
