"""`holdfast workers` says who works."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner

from holdfast import App, Workflow, workflow
from holdfast.cli import main
from holdfast.ids import WorkerId
from holdfast.ports import Enlistment


@workflow
class Held(Workflow):
    async def run(self) -> None: ...


async def hold(url: str) -> None:
    async with App("test", url=url, embedded_worker=False) as app:
        await Held().start()
        now = app.clock.now()
        for name in ("holds", "rests"):
            one = WorkerId(name)
            await app.store.enlist(Enlistment(id=one, host="h", pid=1, queues=["*"], lease=60, now=now))
            await app.store.claim(one, queues=["*"], room=9, call_room=0, now=now)
            await app.store.idle(one, True)


def test_a_worker_that_holds_instances_is_busy_whatever_its_flag_says(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    asyncio.run(hold(url))
    said = CliRunner().invoke(main, ["workers", "--url", url, "--json"]).output
    assert {row["id"]: (row["holds"], row["idle"]) for row in json.loads(said)} == {
        "holds": (1, False),
        "rests": (0, True),
    }
    listed = CliRunner().invoke(main, ["workers", "--url", url]).output
    states = {line.split()[0]: "busy" in line for line in listed.splitlines() if line.startswith(("holds ", "rests "))}
    assert states == {"holds": True, "rests": False}, listed
