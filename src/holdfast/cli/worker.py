"""`holdfast worker`: run workers, in this process or under a supervisor."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from holdfast.app import App
from holdfast.cli.common import find_app
from holdfast.cli.depths import Depths
from holdfast.cli.scaling import Scale
from holdfast.cli.supervisor import NEVER, Supervisor
from holdfast.cli.telling import Teller, say
from holdfast.errors import CompileError, ConfigurationError, SchemaError
from holdfast.logs import configure_logging, get_logger
from holdfast.observe.health import Health, Told, health_of
from holdfast.observe.serving import Port
from holdfast.runtime.counting import Numbers
from holdfast.runtime.reading import Pulse, take_reading
from holdfast.runtime.worker import Worker
from holdfast.task import ACTIONS
from holdfast.workflow import WORKFLOWS

log = get_logger("holdfast.worker")

LEAVE_WITHIN = 2.0
"""Seconds that user code's own threads and tasks have to end, once the worker has handed over and closed everything."""
HAND_OVER_WITHIN = 5.0
"""Seconds beyond the deadline of a drain in which a worker hands over; one whose loop is blocked never does."""

LONGEST_REASON = 10_000
"""Characters of an error that a supervisor is told: more might not pass at once."""


@click.command()
@click.argument("target", metavar="MODULE:APP", required=False)
@click.option("--app", "named", metavar="MODULE:APP", help="The same, as other commands take it.")
@click.option("--processes", help="Worker processes, or bounds such as 1..8; by default one for each processor.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Actions at once in each process.")
@click.option("--queues", help="Queues to work on, separated by commas; by default all.")
@click.option("--url", help="The database, instead of HOLDFAST_DATABASE_URL.")
@click.option("--tasks-url", help="Where jobs lie, instead of HOLDFAST_TASKS_URL.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve /metrics, /livez and /readyz on this port.")
@click.option("--metrics-host", help="The address at which to serve them; by default 127.0.0.1.")
@click.option("--reload", is_flag=True, help="Restart when a Python file below this folder changes.")
@click.option("--child", is_flag=True, hidden=True)
def worker(
    target: str | None,
    named: str | None,
    processes: str | None,
    concurrency: int | None,
    queues: str | None,
    url: str | None,
    tasks_url: str | None,
    metrics_port: int | None,
    metrics_host: str | None,
    reload: bool,
    child: bool,
) -> None:
    """Work on instances until told to stop.

    SIGTERM and Ctrl-C let running actions end first; a second one stops at once.
    """
    target = target or named
    given = {
        "tasks_url": tasks_url,
        "worker_count": processes,
        "concurrent_per_worker": concurrency,
        "queues": queues,
        "metrics_port": metrics_port,
        "metrics_host": metrics_host,
    }
    if child:
        raise SystemExit(_serve_supervised(target, url, given))
    app = _prepared(target, url, given)
    settings = app.settings
    if settings.process_bounds == (1, 1) and settings.max_action_lifecycle is None and not reload:
        raise SystemExit(run_loop(serve(app)))
    command = [sys.executable, "-m", "holdfast", "worker", "--child"]
    command += [target] if target else []
    flags = {
        "--concurrency": concurrency,
        "--queues": queues,
        "--url": url,
        "--tasks-url": tasks_url,
        "--metrics-port": metrics_port,
    }
    for flag, value in flags.items():
        command += [flag, str(value)] if value is not None else []
    scale = Scale(*settings.process_bounds, idle_after=settings.scale_down_seconds)
    supervisor = Supervisor(command, scale=scale, drain=settings.drain_seconds, reload=reload)
    with _served(app, health=supervisor.health, numbers=supervisor.numbers):
        raise SystemExit(asyncio.run(supervisor.run()))


@contextmanager
def _served(app: App, *, health: Callable[[], Health], numbers: Callable[[], Numbers]) -> Generator[None]:
    """Inside, metrics and health are served, where a port is set for that."""
    if app.settings.metrics_port is None:
        yield
        return
    depths = Depths(app)
    try:
        port = Port(
            app.settings.metrics_host,
            app.settings.metrics_port,
            health=health,
            numbers=lambda: numbers() | depths.numbers(),
        )
        try:
            yield
        finally:
            port.close()
    finally:
        depths.close()


def _prepared(target: str | None, url: str | None, given: Mapping[str, Any]) -> App:
    app = find_app(target, url, **given)
    configure_logging(app.settings.log_format, app.settings.log_level)
    app.import_user_modules()
    return app


def _serve_supervised(target: str | None, url: str | None, given: Mapping[str, Any]) -> int:
    """Run one worker for a supervisor, who is told what makes it impossible."""
    try:
        return run_loop(serve(_prepared(target, url, given), supervised=True))
    except (ConfigurationError, CompileError, SchemaError) as error:
        if not say(f"never {json.dumps(str(error)[:LONGEST_REASON])}".encode()):
            raise
        return NEVER


def run_loop(work: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on uvloop where it is installed (`holdfast[speed]`), else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        run: Callable[[Coroutine[Any, Any, int]], int] = asyncio.run
    else:
        run = uvloop.run
    # Not in the handler: whatever is raised there would seem to come from the missing module.
    return run(work)


async def serve(app: App, *, supervised: bool = False) -> int:
    """Run one worker in this process until a signal stops it. Returns the exit status."""
    made, pulse = app.make_worker(), Pulse()
    beating = asyncio.create_task(pulse.beat(), name="holdfast-pulse")
    try:
        if supervised:
            return await _serve(app, made, pulse)
        with _served(app, health=lambda: _health(made, pulse), numbers=lambda: _numbers(made, pulse)):
            return await _serve(app, made)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


def _health(made: Worker, pulse: Pulse) -> Health:
    return health_of([Told(reading=take_reading(made, pulse))], wanted=1, stopping=made.stopping)


def _numbers(made: Worker, pulse: Pulse) -> Numbers:
    """The numbers of a process that is alone."""
    reading = take_reading(made, pulse)
    ready = float(reading.ready and not reading.draining)
    return reading.numbers | {"holdfast_processes": {(): [1.0]}, "holdfast_processes_ready": {(): [ready]}}


async def _serve(app: App, made: Worker, pulse: Pulse | None = None) -> int:
    """Run the worker; with a pulse it tells a supervisor of itself."""
    await app.open()
    if not ACTIONS and not WORKFLOWS:
        hint = "import what defines them in the module of the App, or name it in HOLDFAST_USER_MODULE"
        log.warning("nothing defined", reason="no action, task or workflow was imported here", hint=hint)
    # What is loaded by now stays: the collector need not look at it again, nor at short-lived steps all the time. None of
    # what runs instances is made of circles, so that only what users make is left to find.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 10, 20)
    teller = Teller(made, pulse) if pulse is not None else None
    with _stopped_by_signals(made) as asked:
        try:
            await made.run()
        finally:
            if teller is not None:
                await teller.end()
            await app.close()
            _leave_after(LEAVE_WITHIN, "threads or tasks of actions still ran", status=0 if asked else 1)
    return 0


@contextmanager
def _stopped_by_signals(made: Worker) -> Generator[list[int]]:
    """Inside, signals stop the worker; gives those that came. The process ends in time also where user code blocks its loop."""
    loop = asyncio.get_running_loop()
    asked: list[int] = []

    def stop(number: int, frame: object) -> None:
        # In the middle of whatever runs, which may never come back to the loop.
        asked.append(number)
        at_once = len(asked) > 1
        loop.call_soon_threadsafe(lambda: made.stop(at_once=at_once))
        rest = 0 if at_once else made.settings.drain_seconds
        _leave_after(rest + HAND_OVER_WITHIN, "its event loop was blocked, or what it ran did not end", status=1)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_after(seconds: float, reason: str, *, status: int) -> None:
    """End this process then although user code does not: the interpreter would wait for its threads and tasks for ever."""
    threading.Thread(target=_leave, args=(seconds, reason, status), name="holdfast-leave", daemon=True).start()


def _leave(seconds: float, reason: str, status: int) -> None:
    time.sleep(seconds)
    log.warning("process left", reason=reason)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
