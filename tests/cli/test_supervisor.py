"""The supervisor keeps its posts filled, and says what it lacks."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_commands import Shell

from holdfast.cli import supervisor
from holdfast.cli.supervisor import Supervisor
from holdfast.errors import ConfigurationError


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
    made = Supervisor([sys.executable, "-c", "import time; time.sleep(60)"], processes=1, drain=0.1, reload=True)
    with pytest.raises(ConfigurationError, match="no watches left"):
        await asyncio.wait_for(made.run(), 20)


async def test_a_post_is_filled_again_after_a_process_could_not_be_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    spawn = asyncio.create_subprocess_exec
    tries = 0
    made = Supervisor([sys.executable, "-c", "import time; time.sleep(60)"], processes=1, drain=0.1)

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
