"""The demo, and the workers that commands start beside themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.cli.test_commands import Shell

from holdfast import App, HoldfastError
from holdfast.cli.beside import workers_beside


async def test_the_demo_loses_no_text_in_a_narrow_terminal(tmp_path: Path):
    shell = Shell(tmp_path)
    shell.env["COLUMNS"] = "50"
    shown = await shell("demo")
    lines = shown.splitlines()
    code, rest = "\n".join(lines).split("The program as a graph")
    # All of the program is there, however its lines were broken.
    words = "".join(code.replace("│", "").split())
    assert "filed=awaitself.run_action(open_report(report),retry=RetryPolicy(attempts=5,delay=timedelta(" in words
    # What people copy out is whole.
    assert 'f0b3(["await asyncio.sleep(1.5)"])' in rest
    assert "welcomed, report filed" in shown
    assert "taken over from another worker" in " ".join(rest.split())


async def test_a_worker_that_does_not_begin_is_told_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    async with App("test", url=f"sqlite:///{tmp_path}/x.db") as app, asyncio.timeout(30):
        with pytest.raises(HoldfastError, match=r"worker 1 ended before it began:\n.*'nowhere' is not found"):
            async with workers_beside(app, "nowhere:app", logs=tmp_path):
                pass
        assert await app.store.workers(now=app.clock.now()) == []
