"""Metrics and probes of real workers, asked over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.cli.test_commands import Shell

from holdfast.runtime.counting import METRICS

WORK = """
import asyncio, os, pathlib, time
from holdfast import App, Workflow, action, workflow

app = App("work", lease_seconds=2.0, default_retries=0, log_format="json")

@app.task(name="double")
async def double(n: int) -> int:
    return 2 * n

@app.task(name="broken")
async def broken() -> None:
    raise ValueError("no")

@app.task(name="block")
async def block() -> None:
    pathlib.Path("blocking").touch()
    while not pathlib.Path("go-on").exists():
        time.sleep(0.05)

@app.task(name="waits")
async def waits() -> None:
    while not pathlib.Path("go-on").exists():
        await asyncio.sleep(0.02)

@app.task(name="pid")
async def pid() -> int:
    await asyncio.sleep(0.05)
    return os.getpid()

@action(name="add")
async def add(n: int) -> int:
    return n + 1

@workflow
class Sum(Workflow):
    async def run(self, n: int) -> int:
        return await add(n)
"""


class Served:
    """A worker command that serves metrics: its process, and what it answers."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def ask(self, path: str, accept: str = "text/plain") -> tuple[int, str]:
        return await asyncio.to_thread(self._ask, path, accept)

    def _ask(self, path: str, accept: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    async def until(self, path: str, status: int) -> list[str]:
        """Wait until that is the answer; the reasons in it."""
        async with asyncio.timeout(30):
            while True:
                found, said = await self.ask(path)
                if found == status:
                    assert json.loads(said)["ok"] is (status == 200)
                    return json.loads(said)["reasons"]
                await asyncio.sleep(0.02)

    async def numbers(self) -> dict[str, float]:
        """Each sample, by its name with its labels in the order of the metric's."""
        _, text = await self.ask("/metrics")
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            metric = METRICS.get(family.name) or METRICS[f"{family.name}_total"]
            for sample in family.samples:
                labels = [sample.labels[name] for name in (*metric.labels, "le") if name in sample.labels]
                found[f"{sample.name}{{{','.join(labels)}}}"] = sample.value
        return found

    async def until_counted(self, sample: str, value: float) -> dict[str, float]:
        return await self.until_all_counted({sample: value})

    async def until_all_counted(self, samples: Mapping[str, float]) -> dict[str, float]:
        """Wait until these are the numbers: each process tells its own in its turn."""
        end = time.monotonic() + 20
        while not samples.items() <= (found := await self.numbers()).items():
            assert time.monotonic() < end, found
            await asyncio.sleep(0.05)
        return found


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "work.py").write_text(WORK)
    return made


@asynccontextmanager
async def serving(shell: Shell, *args: str) -> AsyncIterator[Served]:
    process = await shell.start("worker", "work:app", "--metrics-port", "0", *args)
    assert process.stderr is not None
    try:
        port = None
        async with asyncio.timeout(30):
            while port is None:
                line = await process.stderr.readline()
                assert line, "it ended"
                told = json.loads(line) if line.startswith(b"{") else {}
                port = told.get("port") if told.get("event") == "metrics served" else None
        # What it goes on to log must not fill the pipe.
        reading = asyncio.create_task(process.stderr.read())
        served = Served(process, port)
        await served.until("/readyz", 200)
        yield served
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)
        assert process.returncode == 0, (await reading).decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def client(shell: Shell, code: str) -> None:
    """Run code in a process that has the App open as `app`, and wait for its end."""
    text = "import asyncio\nfrom work import *\n\nasync def main():\n    async with app:\n"
    text += "".join(f"        {line}\n" for line in code.splitlines()) + "\nasyncio.run(main())\n"
    (shell.folder / "client.py").write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "client.py"),
        cwd=shell.folder,
        env=shell.env | {"HOLDFAST_EMBEDDED_WORKER": "false"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()


WORKS = """
assert [await job.get() for job in await double.delay_many(range(10))] == list(range(0, 20, 2))
assert [await Sum().run(n) for n in range(3)] == [1, 2, 3]
job = await broken.delay()
while not (await job.status()).ended:
    await asyncio.sleep(0.02)
"""
DID = {
    "holdfast_jobs_total{double,default,done}": 10,
    "holdfast_jobs_total{broken,default,failed}": 1,
    "holdfast_dead_letters_total{broken,default,failed}": 1,
    "holdfast_attempts_total{double,job,returned}": 10,
    "holdfast_attempts_total{add,call,returned}": 3,
    "holdfast_attempt_duration_seconds_count{double,job}": 10,
    "holdfast_instances_ended_total{work:Sum,done}": 3,
    "holdfast_claimed_total{job}": 11,
    "holdfast_claimed_total{instance}": 3,
    "holdfast_commit_size_sum{job}": 11,
    "holdfast_leases_lost_total{}": 0,
}


async def test_a_lone_worker_tells_what_it_did(shell: Shell):
    async with serving(shell, "--processes", "1", "--concurrency", "7") as served:
        await client(shell, WORKS)
        found = await served.until_all_counted(DID)
        assert found["holdfast_room{}"] == 7
        assert found["holdfast_attempts_running{}"] == found["holdfast_jobs_held{}"] == 0
        assert found["holdfast_processes_ready{}"] == found["holdfast_processes{}"] == 1
        assert 0 <= found["holdfast_heartbeat_age_seconds{}"] < 2.0
        assert (await served.ask("/livez"))[0] == 200
        assert (await served.ask("/nothing"))[0] == 404
        _, text = await served.ask("/metrics", "application/openmetrics-text; version=1.0.0")
        assert len(list(read_openmetrics(text))) > 10


async def test_workers_under_a_supervisor_tell_by_one_port_what_all_of_them_did(shell: Shell):
    async with serving(shell, "--processes", "2") as served:
        await client(shell, WORKS)
        found = await served.until_all_counted(DID)
        assert found["holdfast_room{}"] == 20
        assert found["holdfast_processes_ready{}"] == 2
        _, text = await served.ask("/metrics")
        shown = {family.name: family for family in text_string_to_metric_families(text)}
        assert set(shown) == {name.removesuffix("_total") for name in METRICS}
        for name, metric in METRICS.items():
            family = shown[name.removesuffix("_total")]
            assert (family.type, family.documentation) == (metric.kind, metric.words)
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(metric.labels)


async def test_what_a_killed_process_counted_stays_and_its_place_is_not_ready_meanwhile(shell: Shell):
    async with serving(shell, "--processes", "2") as served:
        await client(shell, WORKS)
        await served.until_counted("holdfast_jobs_total{double,default,done}", 10)
        for worker in json.loads(await shell("workers", "--json")):
            os.kill(worker["pid"], signal.SIGKILL)
        assert "worker processes take work" in (await served.until("/readyz", 503))[0]
        assert (await served.ask("/livez"))[0] == 200
        await served.until("/readyz", 200)
        found = await served.numbers()
        assert found["holdfast_process_restarts_total{died}"] == 2
        assert found["holdfast_jobs_total{double,default,done}"] == 10
        await client(shell, WORKS)
        await served.until_counted("holdfast_jobs_total{double,default,done}", 20)


UNTIL_RECYCLED = """
sent, pids = 0, set()
while len(pids) < 2:
    pids |= {await job.get() for job in await pid.delay_many([()] * 20)}
    sent += 20
pathlib.Path("sent").write_text(str(sent))
"""


async def test_recycling_keeps_the_numbers_and_stays_ready(shell: Shell):
    shell.env["HOLDFAST_MAX_ACTION_LIFECYCLE"] = "20"
    async with serving(shell, "--processes", "1") as served:
        statuses: list[int] = []

        async def watch() -> None:
            while True:
                statuses.append((await served.ask("/readyz"))[0])
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        await client(shell, UNTIL_RECYCLED)
        watching.cancel()
        assert set(statuses) == {200}
        sent = int((shell.folder / "sent").read_text())
        found = await served.until_counted("holdfast_jobs_total{pid,default,done}", sent)
        assert found["holdfast_process_restarts_total{recycled}"] >= 1
        assert found["holdfast_process_restarts_total{died}"] == 0


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_blocked_event_loop_is_not_live(shell: Shell, processes: str):
    async with serving(shell, "--processes", processes) as served:
        await client(shell, "await block.delay()")
        for path in ("/livez", "/readyz"):
            reasons = await served.until(path, 503)
            assert any(reason.startswith("the event loop of process") for reason in reasons), reasons
        assert (await served.numbers())["holdfast_event_loop_lag_seconds{}"] > 0.5
        (shell.folder / "go-on").touch()
        await served.until("/livez", 200)
        await served.until("/readyz", 200)


async def test_a_process_that_tells_nothing_is_not_live(shell: Shell):
    async with serving(shell, "--processes", "2") as served:
        stopped = json.loads(await shell("workers", "--json"))[0]["pid"]
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert f"process {stopped} has told nothing" in (await served.until("/livez", 503))[0]
        finally:
            os.kill(stopped, signal.SIGCONT)
        await served.until("/livez", 200)


async def test_a_worker_that_drains_is_not_ready_and_lives(shell: Shell):
    async with serving(shell, "--processes", "1") as served:
        await client(shell, "await waits.delay()")
        await served.until_counted("holdfast_attempts_running{}", 1)
        served.process.terminate()
        assert "it was asked to stop" in await served.until("/readyz", 503)
        assert (await served.ask("/livez"))[0] == 200
        (shell.folder / "go-on").touch()


async def test_a_port_that_is_taken_is_named(shell: Shell):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for processes in ("1", "2"):
            said = await shell("worker", "work:app", "--processes", processes, "--metrics-port", port, status=1)
            assert f"metrics cannot be served at 127.0.0.1 port {port}" in said


async def test_without_the_library_it_is_said_what_to_install(shell: Shell):
    (shell.folder / "prometheus_client.py").write_text("raise ImportError('not here')")
    said = await shell("worker", "work:app", "--processes", "1", "--metrics-port", "0", status=1)
    assert "pip install 'holdfast[metrics]'" in said
