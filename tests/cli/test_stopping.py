"""Workers that are stopped while tasks run: until the deadline these may end, and then they go back at once."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from tests.cli.test_commands import Shell
from tests.cli.test_metrics import client

WORK = """
import asyncio, os, pathlib, signal, time
from holdfast import App

# What goes back does so by the drain, and not because a lease ends.
app = App("work", lease_seconds=120, default_retries=0)

def begin(how):
    with open("began", "a") as file:
        file.write(f"{how} {os.getpid()}\\n")

def may_end():
    return pathlib.Path("go-on").exists()

@app.task(name="async")
async def waits():
    begin("async")
    while not may_end():
        await asyncio.sleep(0.02)

@app.task(name="refuses")
async def refuses():
    begin("refuses")
    while not may_end():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            pass

@app.task(name="thread")
def blocks():
    begin("thread")
    while not may_end():
        time.sleep(0.02)

@app.task(name="process", pool="process")
def blocks_a_process():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin("process")
    while not may_end():
        time.sleep(0.02)

@app.task(name="blocked")
async def blocks_the_loop():
    begin("blocked")
    while not may_end():
        sum(range(1000))

TASKS = {"blocked": blocks_the_loop, "async": waits, "refuses": refuses, "thread": blocks, "process": blocks_a_process}
"""

SENT = """
job = await TASKS["{how}"].delay()
while not pathlib.Path("began").exists():
    await asyncio.sleep(0.02)
pathlib.Path("job").write_text(job.id)
"""
WENT_BACK = """
[view] = await app.broker.look([pathlib.Path("job").read_text()])
assert (view.status, view.attempt) == ("queued", 1), view
"""
ENDS = """
await app.job(pathlib.Path("job").read_text()).get(timeout=20)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "work.py").write_text(WORK)
    return made


async def stopped(shell: Shell, worker: asyncio.subprocess.Process, *, status: int = 0) -> float:
    """Ask it to stop; the seconds until it has."""
    begin = time.monotonic()
    worker.terminate()
    _, errors = await asyncio.wait_for(worker.communicate(), 30)
    assert worker.returncode == status, errors.decode()
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("how", "processes"), [("async", "1"), ("refuses", "1"), ("thread", "1"), ("process", "1"), ("process", "2")]
)
async def test_what_runs_at_the_deadline_goes_back_at_once(shell: Shell, how: str, processes: str):
    shell.env["HOLDFAST_DRAIN_SECONDS"] = "0.3"
    worker = await shell.start("worker", "work:app", "--processes", processes)
    try:
        await client(shell, SENT.replace("{how}", how))
        # Beyond the deadline: a process that must be killed, and threads and tasks that are left behind.
        assert await stopped(shell, worker) < 0.3 + 15
        for line in (shell.folder / "began").read_text().splitlines():
            with pytest.raises(ProcessLookupError):
                os.kill(int(line.split()[1]), 0)
        await client(shell, WENT_BACK)
        (shell.folder / "go-on").touch()
        worker = await shell.start("worker", "work:app", "--processes", "1")
        await client(shell, ENDS)
        assert (shell.folder / "began").read_text().count(how) == 2
    finally:
        if worker.returncode is None:
            await stopped(shell, worker)


async def test_a_worker_whose_loop_is_blocked_ends_all_the_same(shell: Shell):
    shell.env["HOLDFAST_DRAIN_SECONDS"] = "0.3"
    worker = await shell.start("worker", "work:app", "--processes", "1")
    try:
        await client(shell, SENT.replace("{how}", "blocked"))
        assert 0.3 < await stopped(shell, worker, status=1) < 0.3 + 15
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


async def test_what_ends_before_the_deadline_does_not_run_again(shell: Shell):
    worker = await shell.start("worker", "work:app", "--processes", "1")
    try:
        await client(shell, SENT.replace("{how}", "thread"))
        stopping = asyncio.create_task(stopped(shell, worker))
        (shell.folder / "go-on").touch()
        assert await stopping < 20
        await client(shell, ENDS)
        assert (shell.folder / "began").read_text().count("thread") == 1
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
