"""Crash safety, by crashing: real processes, SIGKILL at named points and at random ones, then an audit."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from holdfast import App, JobStatus, Status
from holdfast.codec import loads
from holdfast.model.job import JobFilter
from holdfast.tasks import RESULT, ChordHandle, chord
from holdfast.workflow import Run
from tests.crash.crash_app import Audited, collect, deadly, errand, failing, job, mourn
from tests.crash.worker import WorkerProcess
from tests.redis_servers import fresh


class Fleet:
    """Worker processes that a test starts and kills."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.audit = folder / "audit"
        self.workers: list[WorkerProcess] = []
        self.killed: dict[int, float] = {}
        self.count = 0
        self.paths: dict[int, Path] = {}

    async def start(self, *, crash_point: str | None = None) -> WorkerProcess:
        self.count += 1
        environment = {"HOLDFAST_DATABASE_URL": self.url, "AUDIT_FILE": str(self.audit)}
        if crash_point:
            environment["CRASH_POINT"] = crash_point
        log = self.folder / f"worker-{self.count}.log"
        log.touch()
        process = await asyncio.to_thread(WorkerProcess, environment, log)
        self.workers.append(process)
        self.paths[process.pid] = log
        return process

    async def kill(self, process: WorkerProcess) -> None:
        if process.returncode is None:
            process.kill()
            self.killed[process.pid] = time.time()
            await process.wait()
        self.workers.remove(process)

    async def stop(self) -> None:
        for process in self.workers:
            if process.returncode is None:
                process.terminate()
        for process in self.workers:
            await asyncio.wait_for(process.wait(), 30)

    def logs_by_pid(self) -> dict[int, str]:
        return {pid: path.read_text() for pid, path in self.paths.items()}

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("worker-*.log")))


def asked(prefix: str, count: int) -> list[Run[Any]]:
    names = [f"{prefix}{n}" for n in range(count)]
    return [Audited().start(name, id=name) for name in names]


def expected(name: str) -> list[str]:
    return [f"{name}/first", *[f"{name}/{n}" for n in range(4)], f"{name}/shaky", f"{name}/last", "4"]


async def audit(app: App, fleet: Fleet, ids: list[str]) -> None:
    """Nothing lost, nothing acknowledged redone, never two owners at once."""
    begun: dict[str, list[tuple[int, float]]] = defaultdict(list)
    ended: dict[tuple[str, int], list[float]] = defaultdict(list)
    for line in fleet.audit.read_text().splitlines():
        what, key, pid, at = line.split()
        if what == "begin":
            begun[key].append((int(pid), float(at)))
        else:
            ended[key, int(pid)].append(float(at))
    # On a machine too busy to send heartbeats in time a lease may end while its worker lives; the worker says so.
    overtaken = {pid for pid, log in fleet.logs_by_pid().items() if "lease lost" in log}
    for id in ids:
        view = await app.handle(id).view()
        assert view.status is Status.DONE, (view, fleet.logs())
        assert await app.handle(id).result() == expected(id)
        acknowledged: dict[str, float] = {}
        for step in await app.store.history(view.id, limit=10_000):
            for what, fields in loads(step.payload).get("notes", []):
                if what == "done":
                    acknowledged[fields["value"]] = step.at
        for key in expected(id)[:-1]:
            assert begun[key], f"{key} never ran"
            assert key in acknowledged
            for _pid, at in begun[key]:
                assert at <= acknowledged[key] + 0.05, f"{key} ran again after its outcome was committed"
            for (first, since), (second, at) in zip(begun[key], begun[key][1:], strict=False):
                if first != second and first not in overtaken:
                    # Its attempt ended with the first end that it noted from then on: later ones are of later attempts.
                    ends = [end for end in ended[key, first] if end >= since]
                    over = min(fleet.killed.get(first, at + 1), *ends, at + 1)
                    assert over <= at, f"{key} ran on {second} while {first} still ran it"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/crash.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture(params=["sqlite", "postgres", "redis", "cluster"])
def jobs_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/crash.db"
    if request.param == "cluster":
        return fresh(request.getfixturevalue("redis_cluster").url)
    return request.getfixturevalue(f"{request.param}_url")


@pytest.mark.parametrize(
    "point",
    [
        "after:enlist:1",
        "before:claim:2",
        "after:claim:2",
        "before:commit:2",
        "after:commit:1",
        "before:commit:5",
        "after:commit:7",
        "after:take_inbox:1",
        "before:retire:1",
    ],
)
async def test_a_worker_killed_at_a_named_point_loses_nothing(url: str, tmp_path: Path, point: str) -> None:
    fleet = Fleet(url, tmp_path)
    app = App("client", url=url, embedded_worker=False)
    async with app:
        ids = [h.id for h in await app.start_many(asked("i", 3))]
        first = await fleet.start(crash_point=point)
        if point.startswith("before:retire"):
            for id in ids:
                await app.handle(id).wait(timeout=30)
            first.terminate()
        await asyncio.wait_for(first.wait(), 30)
        assert first.returncode == -signal.SIGKILL, fleet.logs()
        fleet.killed[first.pid] = time.time() - 0.2
        fleet.workers.remove(first)
        await fleet.start()
        for id in ids:
            await app.handle(id).wait(timeout=30)
        await fleet.stop()
        await audit(app, fleet, ids)


async def test_workers_killed_at_random_lose_nothing(url: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    fleet = Fleet(url, tmp_path)
    app = App("client", url=url, embedded_worker=False)
    async with app:
        for _ in range(3):
            await fleet.start()
        ids: list[str] = []
        for round in range(6):
            ids += [h.id for h in await app.start_many(asked(f"r{round}i", 25))]
            await asyncio.sleep(chance.uniform(0.2, 0.9))
            await fleet.kill(chance.choice(fleet.workers))
            await fleet.start()
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*[app.handle(id).wait() for id in ids])
        except TimeoutError:
            pytest.fail(fleet.logs())
        await fleet.stop()
        await audit(app, fleet, ids)


# --- jobs


def use(app: App) -> None:
    """From now on the tasks of the application are sent through this App, whose URL is that of the test."""
    for task in (job, errand, collect, failing, mourn):
        task.own_sender = app


async def audit_jobs(app: App, fleet: Fleet, ids: list[str]) -> None:
    """Every job has its result, and none that was settled has run again."""
    begun: dict[str, list[float]] = defaultdict(list)
    for line in fleet.audit.read_text().splitlines():
        what, key, _, at = line.split()
        if what == "begin":
            begun[key].append(float(at))
    for id in ids:
        view = await app.job(id).view()
        assert view.status is JobStatus.DONE, (view, fleet.logs())
        assert await app.job(id).get() == id
        assert view.ended_at is not None
        assert max(begun[id]) <= view.ended_at + 0.05, f"{id} ran again after it was settled"
    assert await app.tasks.dead() == []


async def send_jobs(app: App, prefix: str, count: int) -> list[str]:
    named = [job.options(id=f"{prefix}{n}", result_ttl=3600) for n in range(count)]
    made = [each.task.job((f"{prefix}{n}", 0.005), {}, each.chosen) for n, each in enumerate(named)]
    return [handle.id for handle in await app.send(made)]


@pytest.mark.parametrize(
    "point",
    [
        "before:jobs.claim:2",
        "after:jobs.claim:1",
        "after:jobs.claim:2",
        "before:jobs.settle:1",
        "after:jobs.settle:1",
        "after:jobs.settle:2",
    ],
)
async def test_a_worker_killed_at_a_named_point_loses_no_job(jobs_url: str, tmp_path: Path, point: str) -> None:
    fleet = Fleet(jobs_url, tmp_path)
    app = App("client", url=jobs_url, embedded_worker=False)
    async with app:
        ids = await send_jobs(app, "j", 30)
        first = await fleet.start(crash_point=point)
        await asyncio.wait_for(first.wait(), 30)
        assert first.returncode == -signal.SIGKILL, fleet.logs()
        fleet.workers.remove(first)
        await fleet.start()
        for id in ids:
            await app.job(id).get(timeout=30)
        await fleet.stop()
        await audit_jobs(app, fleet, ids)


async def test_workers_killed_at_random_lose_no_job(jobs_url: str, tmp_path: Path) -> None:
    chance = random.Random(11)
    fleet = Fleet(jobs_url, tmp_path)
    app = App("client", url=jobs_url, embedded_worker=False)
    async with app:
        for _ in range(3):
            await fleet.start()
        ids: list[str] = []
        for round in range(5):
            ids += await send_jobs(app, f"r{round}j", 150)
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            await fleet.kill(chance.choice(fleet.workers))
            await fleet.start()
        try:
            async with asyncio.timeout(60):
                await asyncio.gather(*[app.job(id).get() for id in ids])
        except TimeoutError:
            pytest.fail(fleet.logs())
        await fleet.stop()
        await audit_jobs(app, fleet, ids)


async def audit_errands(app: App, fleet: Fleet, keys: list[str]) -> None:
    """Each ended, none was begun while another worker that lived was at it, and nothing of them is left."""
    async with asyncio.timeout(60):
        while any(
            depth.waiting or depth.delayed or depth.running for depth in await app.broker.depths(now=app.now(), most=9)
        ):
            await asyncio.sleep(0.05)
    await fleet.stop()
    assert await app.tasks.dead() == []
    events: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
    for line in fleet.audit.read_text().splitlines():
        what, key, pid, at = line.split()
        events[key].append((what, int(pid), float(at)))
    assert set(events) == set(keys)
    for key, told in events.items():
        assert told[-1][0] == "end", (key, told, fleet.logs())
        for (what, pid, _), (then, _, at) in pairwise(told):
            if then == "begin":
                ended = what in ("end", "fail")
                assert ended or fleet.killed.get(pid, at + 1) <= at, (key, told, fleet.killed)


@pytest.mark.parametrize("point", ["after:jobs.claim:1", "before:jobs.settle:1", "after:jobs.settle:2"])
async def test_a_worker_killed_at_a_named_point_loses_no_job_that_leaves_nothing(
    jobs_url: str, tmp_path: Path, point: str
) -> None:
    fleet = Fleet(jobs_url, tmp_path)
    client = App("client", url=jobs_url, embedded_worker=False)
    async with client:
        use(client)
        keys = [f"e{n}" for n in range(60)]
        await errand.starmap((key, 0.005) for key in keys)
        first = await fleet.start(crash_point=point)
        await asyncio.wait_for(first.wait(), 30)
        assert first.returncode == -signal.SIGKILL, fleet.logs()
        fleet.killed[first.pid] = 0.0
        fleet.workers.remove(first)
        await fleet.start()
        await audit_errands(client, fleet, keys)


async def test_workers_killed_at_random_lose_no_job_that_leaves_nothing(jobs_url: str, tmp_path: Path) -> None:
    chance = random.Random(17)
    fleet = Fleet(jobs_url, tmp_path)
    client = App("client", url=jobs_url, embedded_worker=False)
    async with client:
        use(client)
        for _ in range(3):
            await fleet.start()
        keys: list[str] = []
        for round in range(5):
            new = [f"r{round}e{n}" for n in range(200)]
            await errand.starmap((key, 0.005) for key in new)
            keys += new
            await asyncio.sleep(chance.uniform(0.1, 0.6))
            await fleet.kill(chance.choice(fleet.workers))
            await fleet.start()
        await audit_errands(client, fleet, keys)


async def send_chords(prefix: str, count: int) -> list[ChordHandle[str]]:
    sent: list[ChordHandle[str]] = []
    for n in range(count):
        key = f"{prefix}{n}"
        members = [job.s(f"{key}/{m}", 0.005) for m in range(6)]
        members.append(job.s(f"{key}/first") >> job.s(f"{key}/second"))
        sent.append(await chord(members, collect.s(key, RESULT)).delay())
    return sent


async def audit_chords(app: App, fleet: Fleet, prefix: str, sent: list[ChordHandle[str]]) -> None:
    """Each chord has had one callback, with all its results in order."""
    for n, handle in enumerate(sent):
        key = f"{prefix}{n}"
        names = [f"{key}/{m}" for m in range(6)] + [f"{key}/second"]
        assert await handle.get(timeout=30) == f"{key}: {' '.join(names)}", fleet.logs()
    callbacks = await app.tasks.broker.find(JobFilter(name=collect.name, limit=10_000))
    assert {view.id for view in callbacks} >= {handle.id for handle in sent}
    begun = [line.split()[1] for line in fleet.audit.read_text().splitlines() if line.startswith("begin")]
    killed = fleet.count - 1
    assert all(begun.count(f"{prefix}{n}") <= 1 + killed for n in range(len(sent)))
    assert await app.tasks.dead() == []


@pytest.mark.parametrize(
    "point", ["before:jobs.settle:1", "after:jobs.settle:1", "after:jobs.settle:3", "before:jobs.look:1"]
)
async def test_a_worker_killed_at_a_named_point_loses_no_chord(jobs_url: str, tmp_path: Path, point: str) -> None:
    fleet = Fleet(jobs_url, tmp_path)
    client = App("client", url=jobs_url, embedded_worker=False)
    async with client:
        use(client)
        first = await fleet.start(crash_point=point)
        sent = await send_chords("c", 4)
        await asyncio.wait_for(first.wait(), 30)
        assert first.returncode == -signal.SIGKILL, fleet.logs()
        fleet.workers.remove(first)
        await fleet.start()
        await audit_chords(client, fleet, "c", sent)
        await fleet.stop()


async def test_workers_killed_at_random_lose_no_chord(jobs_url: str, tmp_path: Path) -> None:
    chance = random.Random(13)
    fleet = Fleet(jobs_url, tmp_path)
    client = App("client", url=jobs_url, embedded_worker=False)
    async with client:
        use(client)
        for _ in range(2):
            await fleet.start()
        sent: list[ChordHandle[str]] = []
        for round in range(5):
            sent.append((await send_chords(f"r{round}c", 1))[0])
            bad = [failing.s(f"bad{round}/{m}") for m in range(3)] + [job.s(f"bad{round}/fine")]
            await chord(bad, collect.s("never", RESULT), on_failure=mourn.s(f"mourn{round}")).delay()
            await asyncio.sleep(chance.uniform(0.05, 0.5))
            await fleet.kill(chance.choice(fleet.workers))
            await fleet.start()
        for round, handle in enumerate(sent):
            assert (await handle.get(timeout=60)).startswith(f"r{round}c0: r{round}c0/0 "), fleet.logs()
        views: list[Any] = []
        async with asyncio.timeout(60):
            while len(views) < 5:
                views = list(await client.tasks.broker.find(JobFilter(name=mourn.name, status=JobStatus.DONE)))
                await asyncio.sleep(0.05)
        await fleet.stop()
        assert len(await client.tasks.broker.find(JobFilter(name=mourn.name))) == 5
        begun = {line.split()[1] for line in fleet.audit.read_text().splitlines()}
        assert {f"mourn{round}" for round in range(5)} <= begun
        assert "never" not in begun


async def test_an_early_job_that_kills_its_worker_does_not_run_again(jobs_url: str, tmp_path: Path) -> None:
    fleet = Fleet(jobs_url, tmp_path)
    app = App("client", url=jobs_url, embedded_worker=False)
    async with app:
        first = await fleet.start()
        await app.send([deadly.job(("deadly",), {}, deadly.jobs)])
        await asyncio.wait_for(first.wait(), 30)
        assert first.returncode == -signal.SIGKILL, fleet.logs()
        fleet.workers.remove(first)
        ids = await send_jobs(app, "j", 30)
        await fleet.start()
        for id in ids:
            await app.job(id).get(timeout=30)
        # All that the first worker held would have come back by now.
        while len(await app.workers()) > 1:
            await asyncio.sleep(0.01)
        await fleet.stop()
        lines = [line.split()[:2] for line in fleet.audit.read_text().splitlines()]
        assert lines.count(["begin", "deadly"]) == 1


async def test_a_clean_stop_hands_over_at_once(url: str, tmp_path: Path) -> None:
    fleet = Fleet(url, tmp_path)
    app = App("client", url=url, embedded_worker=False)
    async with app:
        first = await fleet.start()
        ids = [h.id for h in await app.start_many(asked("h", 40))]
        while not fleet.audit.exists():
            await asyncio.sleep(0.01)
        second = await fleet.start()
        first.terminate()
        assert await asyncio.wait_for(first.wait(), 20) == 0
        for id in ids:
            await app.handle(id).wait(timeout=30)
        second.terminate()
        await second.wait()
        assert second.returncode == 0
        begun = [line.split()[1] for line in fleet.audit.read_text().splitlines() if line.startswith("begin")]
        for id in ids:
            assert await app.handle(id).result() == expected(id)
            # Nothing ran twice: what was under way ended before the hand-over.
            assert begun.count(f"{id}/first") == begun.count(f"{id}/last") == 1
