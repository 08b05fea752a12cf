"""Worker processes forked from one that has read all modules: starting them anew would take most of the tests' time."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from pathlib import Path

from holdfast.cli import main

ROOT = Path(__file__).parent.parent.parent

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__, "holdfast.cli.worker", "asyncpg", "redis.asyncio"])


class WorkerProcess:
    """One `holdfast worker` of the application under the crash tests, with its output in a file."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._process = _forks.Process(target=_work, args=(environment, str(log)), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As that of a subprocess: None while it runs, and below zero the signal that ended it."""
        return self._process.exitcode

    async def wait(self) -> int:
        """Wait for its end."""
        await asyncio.to_thread(self._process.join)
        assert self._process.exitcode is not None
        return self._process.exitcode

    def terminate(self) -> None:
        """Ask it to drain."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


def _work(environment: dict[str, str], log: str) -> None:
    os.environ.update(environment)
    os.chdir(ROOT)
    with open(log, "wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main(["worker", "tests.crash.crash_app:app", "--processes", "1"])
