"""The command line, run as people run it: real processes on a real database file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast import App

SHOP = """
import asyncio
import pathlib
from holdfast import App, Workflow, action, workflow

app = App("shop", lease_seconds=2.0)

@action
async def price(item: str) -> int:
    return len(item) * 100

@action
def pid() -> int:
    import os, time
    time.sleep(0.02)
    return os.getpid()

@workflow
class Order(Workflow):
    async def run(self, item: str, count: int = 1) -> int:
        cents = await price(item)
        answer = await self.receive("confirm", timeout=3600)
        return cents * count if answer else 0

def say_hanging() -> None:
    print("hanging")
    pathlib.Path("hanging").touch()

@action
def hang() -> None:
    import time
    say_hanging()
    time.sleep(600)

@action
async def hang_beside() -> None:
    await asyncio.to_thread(hang.__wrapped__)

@action
async def refuse() -> None:
    say_hanging()
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

@workflow
class Hangs(Workflow):
    async def run(self, how: str) -> None:
        if how == "thread":
            await hang()
        elif how == "beside":
            await hang_beside()
        else:
            await refuse()

@workflow
class Fails(Workflow):
    async def run(self, n: int) -> int:
        raise ValueError(f"cannot {n}")

@workflow
class Pids(Workflow):
    async def run(self, n: int) -> list[int]:
        return [await pid() for _ in range(n)]
"""


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "HOLDFAST_DATABASE_URL": f"sqlite:///{folder}/shop.db", "COLUMNS": "200"}
        (folder / "shop.py").write_text(SHOP)

    async def start(self, *args: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "holdfast", *args),
            cwd=self.folder,
            env=self.env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *args: str, status: int = 0) -> str:
        process = await self.start(*args)
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == status, (output.decode(), errors.decode())
        return (output if status == 0 else output + errors).decode()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


async def test_a_command_is_imported_without_what_only_others_need() -> None:
    program = "from holdfast.cli import main; main(['worker', '--help'], standalone_mode=False); import sys; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    loaded = set(output.decode().splitlines()[-1].split())
    assert "holdfast.cli.worker" in loaded
    assert not loaded & {f"holdfast.{name}" for name in ("cli.bench", "cli.demo", "servicebus_emulator", "web")}


async def test_an_order_from_start_to_fork(shell: Shell):
    id = (
        await shell("workflows", "start", "shop:Order", 'item="hat"', "count=2", "--id", "o1", "--app", "shop")
    ).strip()
    assert id == "o1"
    worker = await shell.start("worker", "shop:app", "--processes", "1")
    try:
        app = App("test", url=shell.env["HOLDFAST_DATABASE_URL"], embedded_worker=False)
        async with app:
            async with asyncio.timeout(20):
                while len(await app.handle(id).history()) < 2:
                    await asyncio.sleep(0.02)
            assert await app.handle(id).send("confirm", True)
        assert "done" in await shell("workflows", "wait", id, "--timeout", "20")
        (row,) = json.loads(await shell("workflows", "list", "--json", "--status", "done"))
        assert (row["id"], row["workflow"]) == ("o1", "shop:Order")
        assert json.loads(await shell("workflows", "show", id, "--json"))["outcome"] == 600
        history = await shell("workflows", "history", id)
        assert "price" in history
        assert "cents = 300" in history
        steps = json.loads(await shell("workflows", "history", id, "--json"))
        at = next(step["seq"] for step in steps if "cents" in step["changed"])
        assert json.loads(await shell("workflows", "history", id, "--at", str(at), "--json"))["cents"] == 300
        forked = (await shell("workflows", "fork", id, "--at", str(at), "--set", "cents=7")).strip()
        async with App("test", url=shell.env["HOLDFAST_DATABASE_URL"], embedded_worker=False) as app:
            assert await app.handle(forked).send("confirm", True)
            assert await app.handle(forked).result(timeout=20) == 14
        workers = json.loads(await shell("workers", "--json"))
        assert [w["pid"] for w in workers] == [worker.pid]
        assert "PROBLEM" not in await shell("doctor", "--app", "shop")
    finally:
        worker.terminate()
        await worker.communicate()


async def test_mistakes_are_told_in_words(shell: Shell):
    assert "there is no database at" in await shell("workflows", "list", status=1)
    await shell("workflows", "start", "shop:Order", 'item="hat"')
    assert "no instance 'nobody'" in await shell("workflows", "show", "nobody", status=1)
    assert "not found" in await shell("worker", "nowhere:app", status=1)
    assert "is not JSON" in await shell("workflows", "start", "shop:Order", "item=hat", status=1)
    assert "item" in await shell("workflows", "start", "shop:Order", "count=2", status=1)
    assert "count" in await shell("workflows", "start", "shop:Order", 'item="hat"', 'count="many"', status=1)
    assert "database URL" in await shell("workflows", "list", "--url", "nonsense", status=1)
    assert "not found" in await shell("workflows", "cancel", "nobody", status=1)


async def test_visualize_draws_the_program(shell: Shell):
    drawn = await shell("visualize", "shop:Order")
    assert drawn.startswith("flowchart TD")
    assert "await price(item)" in drawn
    assert "holdfast program" in await shell("visualize", "shop:Order", "--format", "text")


async def test_waiting_for_an_instance_that_fails_ends_with_its_error_in_a_sentence(shell: Shell):
    said = await shell("workflows", "start", "shop:Fails", "n=-6", "--id", "f-1", "--app", "shop", "--wait", status=1)
    assert said.splitlines()[-1] == "Error: f-1 failed: ValueError: cannot -6"
    # The log shows where the workflow failed; where the command did is of no interest.
    assert "in run\n" in said
    assert "holdfast/cli" not in said


async def test_processes_are_recycled_and_replacements_come_first(shell: Shell):
    shell.env["HOLDFAST_MAX_ACTION_LIFECYCLE"] = "20"
    worker = await shell.start("worker", "shop:app", "--processes", "1")
    try:
        async with asyncio.timeout(30):
            while not (shell.folder / "shop.db").exists():
                await asyncio.sleep(0.05)
            while not json.loads(await shell("workers", "--json")):
                pass
        out = await shell("workflows", "start", "shop:Pids", "n=300", "--app", "shop", "--wait")
        assert len(set(json.loads(out))) >= 2
    finally:
        worker.terminate()
        _, errors = await asyncio.wait_for(worker.communicate(), 60)
    assert worker.returncode == 0, errors.decode()
    assert "worker recycled" in errors.decode()


async def test_a_killed_process_is_replaced_and_a_stop_ends_all(shell: Shell):
    worker = await shell.start("worker", "shop:app", "--processes", "2")
    app = App("test", url=shell.env["HOLDFAST_DATABASE_URL"], embedded_worker=False)
    async with app:

        async def pids(count: int, without: int = 0) -> set[int]:
            async with asyncio.timeout(30):
                while True:
                    found = {view.pid for view in await app.store.workers(now=app.clock.now())}
                    if len(found - {without}) >= count:
                        return found - {without}
                    await asyncio.sleep(0.05)

        first = min(await pids(2))
        os.kill(first, signal.SIGKILL)
        assert first not in await pids(2, without=first)
        worker.send_signal(signal.SIGTERM)
        await asyncio.wait_for(worker.communicate(), 60)
        assert worker.returncode == 0
        # Those that ended in order gave up their leases; the killed one's lease ends by itself.
        assert {view.pid for view in await app.store.workers(now=app.clock.now())} <= {first}


@pytest.mark.parametrize("how", ["thread", "beside", "refuse"])
async def test_a_worker_ends_after_the_drain_whatever_its_actions_do(shell: Shell, how: str):
    shell.env["HOLDFAST_DRAIN_SECONDS"] = "0.2"
    async with hanging(shell, how) as worker:
        worker.terminate()
        output, errors = await asyncio.wait_for(worker.communicate(), 20)
        assert worker.returncode == 0, errors.decode()
        assert "worker stopped" in errors.decode()
        # What was printed and not yet written is there, too.
        assert output.decode() == "hanging\n"


async def test_a_second_signal_ends_a_worker_at_once(shell: Shell):
    async with hanging(shell, "thread") as worker:
        worker.terminate()
        async with asyncio.timeout(20):
            while b"worker drains" not in await worker.stderr.readline():
                pass
            worker.terminate()
            output, errors = await worker.communicate()
        assert (worker.returncode, output) == (0, b"hanging\n"), errors.decode()


@asynccontextmanager
async def hanging(shell: Shell, how: str):
    """A worker that runs an action which does not end."""
    worker = await shell.start("worker", "shop:app", "--processes", "1")
    try:
        await shell("workflows", "start", "shop:Hangs", f'how="{how}"', "--app", "shop")
        async with asyncio.timeout(20):
            while not (shell.folder / "hanging").exists():
                await asyncio.sleep(0.02)
        yield worker
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.communicate()
