"""Worker processes beside a command, for as long as it needs them. Starts and ends them; asks nothing of their work."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from holdfast.app import App
from holdfast.errors import HoldfastError

Process = asyncio.subprocess.Process

GLANCE = 0.05


@asynccontextmanager
async def workers_beside(
    app: App, target: str, *, count: int = 1, logs: Path | None = None, env: Mapping[str, str] | None = None
) -> AsyncGenerator[list[Process], None]:
    """So many worker processes for `target`, all of them ready for work of `app`; ended on the way out.

    They write to the folder `logs`, or where this process does. Raises HoldfastError if one ends before it is ready.
    """
    others = await _enlisted(app)
    processes: list[Process] = []
    try:
        for number in range(1, count + 1):
            log = None if logs is None else logs / f"worker-{number}.log"
            processes.append(await _spawn(target, log, env or {}))
        while len(await _enlisted(app) - others) < count:
            _check(processes, logs)
            await asyncio.sleep(GLANCE)
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*[process.wait() for process in processes])


async def _enlisted(app: App) -> set[str]:
    return {worker.id for worker in await app.workers()}


async def _spawn(target: str, log: Path | None, env: Mapping[str, str]) -> Process:
    command = (sys.executable, "-m", "holdfast", "worker", target, "--processes", "1")
    environment = {**os.environ, **env}
    if log is None:
        return await asyncio.create_subprocess_exec(*command, env=environment)
    with log.open("wb") as file:
        return await asyncio.create_subprocess_exec(*command, env=environment, stdout=file, stderr=file)


def _check(processes: Sequence[Process], logs: Path | None) -> None:
    for number, process in enumerate(processes, start=1):
        if process.returncode is not None:
            said = ", as it says above" if logs is None else f":\n{(logs / f'worker-{number}.log').read_text()}"
            raise HoldfastError(f"worker {number} ended before it began{said}")
