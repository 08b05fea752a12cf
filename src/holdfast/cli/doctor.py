"""`holdfast doctor` and `holdfast workers`: is everything in place, and who works."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from typing import Any

import click

from holdfast.app import App
from holdfast.cli.common import app_option, find_app, json_option, run
from holdfast.cli.tables import listing, show, show_json
from holdfast.errors import HoldfastError
from holdfast.model.instance import InstanceFilter, Status, WorkerView
from holdfast.model.job import JobFilter, JobStatus
from holdfast.observe.moments import span
from holdfast.observe.workers import is_idle, worker_facts
from holdfast.task import ACTIONS
from holdfast.tasks.definition import Task


@click.command()
@app_option
@json_option
def workers(target: str | None, url: str | None, as_json: bool) -> None:
    """List the workers that are alive."""
    app = find_app(target, url)

    async def listed(app: App) -> Sequence[WorkerView]:
        return await app.workers()

    views = run(app, listed)
    if as_json:
        show_json([worker_facts(view) for view in views])
        return
    now = app.clock.now()
    listing(
        [
            {
                "id": view.id,
                "pid": view.pid,
                "host": view.host,
                "up": span(now - view.started_at),
                "holds": view.owned,
                "state": "idle" if is_idle(view) else "busy",
                # That it works on all of them goes without saying.
                "queues": None if view.queues == "*" else view.queues,
                "lease_ends": f"in {span(view.expires_at - now)}",
            }
            for view in views
        ],
        columns=["id", "pid", "host", "up", "holds", "state", "queues", "lease_ends"],
        cut=["host", "queues"],
        spare=["lease_ends"],
    )


class _Checks:
    """What was found, in the order in which it was looked at."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def add(self, check: str, ok: bool, says: str, **facts: Any) -> None:
        self.found.append({"check": check, "ok": ok, "says": says, **facts})

    @property
    def ok(self) -> bool:
        return all(check["ok"] for check in self.found)


@click.command()
@app_option
@json_option
def doctor(target: str | None, url: str | None, as_json: bool) -> None:
    """Check settings, database and workers, and say what to do about what is wrong."""
    checks = _Checks()
    version = f"{platform.python_implementation()} {platform.python_version()}"
    checks.add("python", True, version, version=platform.python_version())
    try:
        app = find_app(target, url)
    except HoldfastError as error:
        checks.add("settings", False, str(error))
    else:
        apart = f", tasks in {app.tasks_place}" if app.tasks_place != app.place else ""
        says = f"app {app.name!r}, {app.place}{apart}"
        checks.add("settings", True, says, app=app.name, url=app.place, tasks_url=app.tasks_place)
        try:
            app.import_user_modules()
            run(app, lambda app: _examine(app, checks))
        except HoldfastError as error:
            checks.add("database", False, str(error))
    if as_json:
        show_json({"ok": checks.ok, "checks": checks.found})
    else:
        show(
            [{**check, "ok": "ok" if check["ok"] else "PROBLEM"} for check in checks.found],
            columns=["check", "ok", "says"],
        )
    if not checks.ok:
        raise SystemExit(1)


async def _examine(app: App, checks: _Checks) -> None:
    for backend in app.backends:
        begin = time.perf_counter()
        await backend.workers(now=app.clock.now())
        took = round((time.perf_counter() - begin) * 1000, 1)
        name = backend.traits.name
        if app.has_workflows and backend is app.store:
            says = f"answers in {took:.1f} ms; its schema is up to date"
            checks.add("database", True, says, store=name, milliseconds=took)
        else:
            checks.add("tasks", True, f"{name} answers in {took:.1f} ms", store=name, milliseconds=took)
    keyed = sorted(_keyed_queues())
    lacking: Sequence[str] = await app.broker.lacks(keyed=keyed) if keyed else []
    for says in lacking:
        checks.add("keys", False, says)
    alive = await app.workers()
    queued, dead = [await app.broker.count(JobFilter(status=each)) for each in (JobStatus.QUEUED, JobStatus.DEAD)]
    pending = await app.store.count(InstanceFilter(status=Status.PENDING)) if app.has_workflows else 0
    if alive:
        checks.add("workers", True, f"{len(alive)} alive", alive=len(alive))
    else:
        waits = f", and there is work: {pending} pending, {queued} queued" if pending or queued else ""
        says = f"none is alive{waits}; start one: holdfast worker MODULE:APP"
        checks.add("workers", not waits, says, alive=0)
    if app.has_workflows:
        parked = await app.store.count(InstanceFilter(status=Status.PARKED))
        hint = "; see `holdfast workflows list --status parked`" if parked else ""
        says = f"{pending} pending, {parked} parked{hint}"
        checks.add("instances", not parked, says, pending=pending, parked=parked)
    hint = "; see `holdfast dlq list`" if dead else ""
    checks.add("jobs", True, f"{queued} queued, {dead} dead{hint}", queued=queued, dead=dead)
    if app.has_workflows and app.settings.signing_key is None:
        says = "no HOLDFAST_SIGNING_KEY: whoever can write to the database can change stored programs"
        checks.add("signing", True, says, signed=False)


def _keyed_queues() -> set[str]:
    """The queues of tasks whose jobs run one by one."""
    tasks = [action for action in ACTIONS.values() if isinstance(action, Task)]
    return {
        task.defaults.queue or "default" for task in tasks if task.jobs.key is not None or task.jobs.concurrency == 1
    }
