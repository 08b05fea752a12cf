"""`holdfast doctor` and `holdfast workers`: is everything in place, and who works."""

from __future__ import annotations

import platform
import time
from typing import Any

import click

from holdfast.app import App
from holdfast.cli.common import app_option, find_app, json_option, moment, run, show
from holdfast.errors import HoldfastError
from holdfast.model.instance import InstanceFilter, Status


@click.command()
@app_option
@json_option
def workers(target: str | None, url: str | None, as_json: bool) -> None:
    """List the workers that are alive."""

    async def listed(app: App) -> list[dict[str, Any]]:
        return [
            {
                "id": view.id,
                "host": view.host,
                "pid": view.pid,
                "queues": view.queues,
                "started": moment(view.started_at),
                "lease_until": moment(view.expires_at),
                "instances": view.owned,
                "idle": view.idle,
            }
            for view in await app.store.workers(now=app.clock.now())
        ]

    show(run(find_app(target, url), listed), as_json=as_json)


@click.command()
@app_option
@json_option
def doctor(target: str | None, url: str | None, as_json: bool) -> None:
    """Check settings, database and workers, and say what to do about what is wrong."""
    findings: list[dict[str, Any]] = []

    def found(check: str, ok: bool, says: str) -> None:
        findings.append({"check": check, "ok": "ok" if ok else "PROBLEM", "says": says})

    found("python", True, f"{platform.python_implementation()} {platform.python_version()}")
    try:
        app = find_app(target, url)
    except HoldfastError as error:
        found("settings", False, str(error))
    else:
        found("settings", True, f"app {app.name!r}, {app.place}")
        try:
            app.import_user_modules()
            run(app, lambda app: _examine(app, found))
        except HoldfastError as error:
            found("database", False, str(error))
    show(findings, as_json=as_json)
    if any(finding["ok"] != "ok" for finding in findings):
        raise SystemExit(1)


async def _examine(app: App, found: Any) -> None:
    begin = time.perf_counter()
    alive = await app.store.workers(now=app.clock.now())
    found(
        "database",
        True,
        f"answers in {(time.perf_counter() - begin) * 1000:.1f} ms; its schema is up to date",
    )
    pending = await app.store.count(InstanceFilter(status=Status.PENDING))
    parked = await app.store.count(InstanceFilter(status=Status.PARKED))
    if alive:
        found("workers", True, f"{len(alive)} alive")
    else:
        waits = f", and {pending} instances wait" if pending else ""
        found("workers", not pending, f"none is alive{waits}; start one: holdfast worker MODULE:APP")
    hint = "; see `holdfast workflows list --status parked`" if parked else ""
    found("instances", not parked, f"{pending} pending, {parked} parked{hint}")
    if app.settings.signing_key is None:
        found(
            "signing",
            True,
            "no HOLDFAST_SIGNING_KEY: whoever can write to the database can change stored programs",
        )
