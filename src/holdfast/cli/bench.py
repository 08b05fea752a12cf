"""`holdfast bench`: throughput, cost of a step, width and latency, measured here and now. Prints what it measured, no more."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import click

from holdfast.app import App
from holdfast.cli.beside import workers_beside
from holdfast.cli.tables import show, show_json
from holdfast.errors import HoldfastError
from holdfast.model.instance import InstanceFilter, Status
from holdfast.runtime.client import Handle
from holdfast.tasks import gather
from holdfast.workflow import Workflow

CONCURRENCY = 200
JOBS = 10_000
WAKES = 2000
"""Sleepers that are due each second."""


@click.command()
@click.option("--url", help="The database; by default a SQLite file of its own.")
@click.option("--tasks-url", help="Where jobs lie, if not in that database.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each measurement.")
@click.option("--instances", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--only", multiple=True, help="Measure only this: sequence, loop, gather, latency, jobs, idle, asleep.")
@click.option("--asleep", type=click.IntRange(min=1), default=100_000, show_default=True, help="Sleepers in `asleep`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def bench(
    url: str | None,
    tasks_url: str | None,
    workers: int,
    runs: int,
    instances: int,
    only: tuple[str, ...],
    asleep: int,
    as_json: bool,
) -> None:
    """Measure Holdfast with a worker process beside this one; medians over several runs."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        os.environ["HOLDFAST_DATABASE_URL"] = url or f"sqlite:///{folder}/bench.db"
        if tasks_url is not None:
            os.environ["HOLDFAST_TASKS_URL"] = tasks_url
        os.environ["HOLDFAST_CONCURRENT_PER_WORKER"] = str(CONCURRENCY)
        os.environ["HOLDFAST_EMBEDDED_WORKER"] = "false"
        report = asyncio.run(_bench(runs, instances, asleep, set(only), workers))
    if as_json:
        show_json(report)
    else:
        show(report["figures"])
        settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items())
        click.echo(f"\n{settings}")


async def _bench(runs: int, instances: int, asleep: int, only: set[str], workers: int) -> dict[str, Any]:
    from holdfast.cli.bench_app import app

    figures: list[dict[str, Any]] = []
    measures: list[tuple[str, str, str, Callable[[App], Awaitable[list[float]]]]] = [
        ("sequence", f"{instances} instances × 3 actions", "actions/s", lambda a: _throughput(a, instances, runs)),
        ("loop", "10 turns", "ms/step", lambda a: _loop(a, 10, runs)),
        ("loop", "200 turns", "ms/step", lambda a: _loop(a, 200, runs)),
        ("loop", "10000 turns", "ms/step", lambda a: _loop(a, 10_000, 1)),
        ("gather", "1000 wide", "ms", lambda a: _gather(a, 1000, runs)),
        ("gather", "10000 wide", "ms", lambda a: _gather(a, 10_000, runs)),
        ("latency", "one action, idle system", "ms", lambda a: _latency(a, 50 * runs)),
        ("jobs", f"{JOBS} jobs without results, sending included", "jobs/s", lambda a: _jobs(a, runs)),
        ("jobs", f"{JOBS} jobs sent at once", "jobs/s", lambda a: _sending(a, runs)),
        ("jobs", f"{JOBS} waiting jobs drained, without results", "jobs/s", lambda a: _drain(a, runs, keep=False)),
        ("jobs", f"{JOBS} waiting jobs drained, results kept", "jobs/s", lambda a: _drain(a, runs, keep=True)),
        ("jobs", "one job, idle system", "ms", lambda a: _job_latency(a, 50 * runs)),
        ("idle", "statements of an idle worker and its lease", "statements/s", _idle),
        ("asleep", f"{asleep} instances asleep, {WAKES} due a second", "s late", lambda a: _asleep(a, asleep)),
    ]
    quiet = {"HOLDFAST_LOG_LEVEL": "warning"}
    async with app, workers_beside(app, "holdfast.cli.bench_app:app", count=workers, env=quiet):
        await _warm(app)
        for name, what, unit, measure in measures:
            if (only and name not in only) or (name in ("idle", "asleep") and name not in only):
                continue
            if name not in ("jobs", "idle") and not app.has_workflows:
                continue
            values = await measure(app)
            figures.append(
                {
                    "measure": name,
                    "of": what,
                    "median": round(statistics.median(values), 3),
                    "min": round(min(values), 3),
                    "max": round(max(values), 3),
                    "unit": unit,
                }
            )
    return {
        "figures": figures,
        "settings": {
            "backends": "+".join(backend.traits.name for backend in app.backends),
            "workers": workers,
            "runs": runs,
            "concurrency": CONCURRENCY,
            "python": platform.python_version(),
            "processors": os.cpu_count(),
        },
    }


async def _warm(app: App) -> None:
    from holdfast.cli.bench_app import Sequence, same

    await gather(await same.delay_many(range(100)))
    if app.has_workflows:
        await asyncio.gather(
            *[handle.result() for handle in await app.start_many(Sequence().start(n) for n in range(50))]
        )


async def _throughput(app: App, instances: int, runs: int) -> list[float]:
    """Actions a second, from before the start of all instances to the end of the last."""
    from holdfast.cli.bench_app import Sequence

    values: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        handles = await app.start_many(Sequence().start(n) for n in range(instances))
        await _all_ended(app, Sequence, handles[-1].id)
        values.append(3 * instances / (time.perf_counter() - begin))
        if await handles[-1].result() != instances + 2:
            raise HoldfastError("a workflow gave a wrong result; the figures mean nothing")
    return values


async def _all_ended(app: App, cls: type[Workflow], last: str) -> None:
    """Wait until none is pending: for the last that was started, then by a count, which disturbs less than a wait for each."""
    await app.handle(last).wait()
    while await app.store.count(InstanceFilter(name=cls.__holdfast_workflow__, status=Status.PENDING)):
        await asyncio.sleep(0.002)


async def _loop(app: App, turns: int, runs: int) -> list[float]:
    from holdfast.cli.bench_app import Loop

    values: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        await Loop().run(turns)
        values.append((time.perf_counter() - begin) / turns * 1000)
    return values


async def _gather(app: App, width: int, runs: int) -> list[float]:
    from holdfast.cli.bench_app import Gather

    values: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        await Gather().run(width)
        values.append((time.perf_counter() - begin) * 1000)
    return values


async def _latency(app: App, count: int) -> list[float]:
    """From the call of `run` to its result, one at a time, with the system idle in between."""
    from holdfast.cli.bench_app import Single

    values: list[float] = []
    for _ in range(count):
        await asyncio.sleep(0.02)
        begin = time.perf_counter()
        await Single().run(1)
        values.append((time.perf_counter() - begin) * 1000)
    return values


async def _jobs(app: App, runs: int) -> list[float]:
    """Jobs a second, from before the first is sent until none is left."""
    from holdfast.cli.bench_app import noop

    values: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        await noop.delay_many(range(JOBS))
        await _all_settled(app)
        values.append(JOBS / (time.perf_counter() - begin))
    return values


async def _all_settled(app: App) -> None:
    """Wait until no job is queued or running, and no more than one of each is counted: that disturbs the least."""
    while any(depth.waiting or depth.running for depth in await app.broker.depths(now=app.now(), most=1)):
        await asyncio.sleep(0.005)


async def _sending(app: App, runs: int) -> list[float]:
    """Jobs a second that are sent, by one call each time; nobody works on them meanwhile."""
    from holdfast.cli.bench_app import noop

    values: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        handles = await noop.options(delay=3600).delay_many(range(JOBS))
        values.append(JOBS / (time.perf_counter() - begin))
        for at in range(0, JOBS, 500):
            ids = [handle.id for handle in handles[at : at + 500]]
            await app.broker.cancel(ids, now=app.now(), keep_until=app.now())
        while await app.broker.sweep_jobs(now=app.now() + 1, batch=500):
            pass
    return values


async def _drain(app: App, runs: int, *, keep: bool) -> list[float]:
    """Jobs a second, from the moment at which all of them are due until the last has ended."""
    from holdfast.cli.bench_app import noop

    values: list[float] = []
    for _ in range(runs):
        due = time.time() + 2 + JOBS / 10_000
        handles = await noop.options(eta=due, result_ttl=3600 if keep else 0).delay_many(range(JOBS))
        await asyncio.sleep(due - time.time())
        await _all_settled(app)
        values.append(JOBS / (time.time() - due))
        await app.tasks.purge([handle.id for handle in handles])
    return values


async def _job_latency(app: App, count: int) -> list[float]:
    """From the call of `delay` to the result in the caller, one at a time, with the system idle in between."""
    from holdfast.cli.bench_app import same

    values: list[float] = []
    for n in range(count):
        await asyncio.sleep(0.02)
        begin = time.perf_counter()
        handle = await same.delay(n)
        if await handle.get() != n:
            raise HoldfastError("a task gave a wrong result; the figures mean nothing")
        values.append((time.perf_counter() - begin) * 1000)
    return values


async def _idle(app: App) -> list[float]:
    """Statements a second of a worker without work, in this process so that they can be counted."""
    worker = app.make_worker()
    task = asyncio.create_task(worker.run())
    await worker.ready.wait()
    await asyncio.sleep(3)
    before, begin = _sent_by(app), time.perf_counter()
    await asyncio.sleep(10)
    rate = (_sent_by(app) - before) / (time.perf_counter() - begin)
    worker.stop(at_once=True)
    await task
    return [rate]


def _sent_by(app: App) -> int:
    return sum(getattr(backend, "statements", 0) for backend in app.backends)


async def _asleep(app: App, count: int) -> list[float]:
    """How late sleepers wake of whom `WAKES` are due each second, after all of them were asleep."""
    from holdfast.cli.bench_app import Sleeper

    # By then all of them must have gone to sleep.
    first = time.time() + max(30.0, count / 1000)
    handles: list[Handle[Any]] = []
    for start in range(0, count, 2000):
        wave = range(start, min(start + 2000, count))
        handles += await app.start_many(Sleeper().start(first + n / WAKES) for n in wave)
    await _all_ended(app, Sleeper, handles[-1].id)
    step = max(1, count // 200)
    views = {view.id: view for view in await app.store.view([handle.id for handle in handles[::step]])}
    due = {handle.id: first + n / WAKES for n, handle in enumerate(handles)}
    return [max(0.0, (view.ended_at or 0.0) - due[id]) for id, view in views.items()]
