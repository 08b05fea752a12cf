"""The supervisor keeps its posts filled, and says what it lacks."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_commands import Shell

from holdfast.cli import supervisor
from holdfast.cli.scaling import Scale
from holdfast.cli.supervisor import Supervisor
from holdfast.errors import ConfigurationError

ONE = Scale(1, 1, idle_after=60)


async def test_reloading_without_watchfiles_says_what_to_install(tmp_path: Path):
    shell = Shell(tmp_path)
    (tmp_path / "watchfiles.py").write_text("raise ImportError('not here')")
    said = await shell("worker", "shop:app", "--processes", "1", "--reload", status=1)
    assert "pip install 'holdfast[reload]'" in said


async def test_a_watch_that_breaks_ends_the_supervisor_with_its_error(monkeypatch: pytest.MonkeyPatch):
    class Broken:
        @staticmethod
        def PythonFilter() -> None:
            return None

        @staticmethod
        async def awatch(*_: Any, **__: Any) -> Any:
            raise OSError("no watches left")
            yield

    monkeypatch.setitem(sys.modules, "watchfiles", Broken)
    made = Supervisor([sys.executable, "-c", "import time; time.sleep(60)"], scale=ONE, drain=0.1, reload=True)
    with pytest.raises(ConfigurationError, match="no watches left"):
        await asyncio.wait_for(made.run(), 20)


async def test_a_post_is_filled_again_after_a_process_could_not_be_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    spawn = asyncio.create_subprocess_exec
    tries = 0
    made = Supervisor([sys.executable, "-c", "import time; time.sleep(60)"], scale=ONE, drain=0.1)

    async def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await spawn(*args, **kwargs)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", failing)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        while not made.children:
            await asyncio.sleep(0.01)
    made._stop()
    assert await asyncio.wait_for(running, 20) == 0
    assert tries == 4


async def test_a_supervisor_ends_with_the_error_of_workers_that_can_never_start(tmp_path: Path):
    shell = Shell(tmp_path)
    shell.env["HOLDFAST_DATABASE_URL"] = f"sqlite:///{tmp_path}/nowhere/shop.db"
    said = await asyncio.wait_for(shell("worker", "shop:app", "--processes", "2", status=1), 60)
    assert said.count("there can be no database at") == 1, said


CHILD = """
import os, pathlib, sys, time
tries = pathlib.Path("tries")
said = tries.read_text() if tries.exists() else ""
tries.write_text(said + "x")
pipe = int(os.environ["HOLDFAST_SUPERVISOR_FD"])
"""


async def test_a_worker_that_only_crashes_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    text = CHILD + "if len(said) < 3: sys.exit(1)\nos.write(pipe, b'never \"a wrong setting\"\\n')\nsys.exit(78)"
    made = Supervisor([sys.executable, "-c", text], scale=ONE, drain=0.1)
    with pytest.raises(ConfigurationError, match="^a wrong setting$"):
        await asyncio.wait_for(made.run(), 20)
    assert (tmp_path / "tries").read_text() == "xxxx"


async def test_a_worker_that_works_is_not_ended_by_one_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    text = CHILD + "if said: os.write(pipe, b'never \"x\"\\n'); sys.exit(78)\n"
    text += "os.write(pipe, b'ready\\nrecycle\\n')\ntime.sleep(60)"
    made = Supervisor([sys.executable, "-c", text], scale=ONE, drain=0.1)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(20):
        while not (tmp_path / "tries").exists() or len((tmp_path / "tries").read_text()) < 3:
            await asyncio.sleep(0.01)
    assert not running.done()
    assert any(child.ready.is_set() for child in made.children)
    made._stop()
    assert await asyncio.wait_for(running, 20) == 0
