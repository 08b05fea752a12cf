"""`holdfast schedules …`: list, pause, resume, trigger and delete schedules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click

from holdfast.app import App
from holdfast.cli.common import Group, app_option, find_app, json_option, run
from holdfast.cli.tables import listing, room, show_json
from holdfast.errors import HoldfastError
from holdfast.observe.moments import iso, relative, to_the_second
from holdfast.schedules.listing import list_schedules


@click.group(cls=Group)
def schedules() -> None:
    """Look at schedules, and act on them."""


@schedules.command("list")
@app_option
@json_option
def list_(target: str | None, url: str | None, as_json: bool) -> None:
    """List all schedules with their next tick, and what became of the last."""
    app = find_app(target, url)

    rows = run(app, lambda app: list_schedules(app.store))
    if as_json:
        show_json([{**row, "next": iso(row["next"]), "last": iso(row["last"])} for row in rows])
        return
    now, fitted = app.clock.now(), room() is not None
    listing(
        [
            {
                **row,
                "workflow": row["workflow"].rpartition(":")[2] if fitted else row["workflow"],
                "next": "paused" if row["paused"] else _moment(row["next"], now, fitted=fitted),
                "last": _moment(row["last"], now, fitted=fitted),
                "skipped": row["skipped"] or None,
            }
            for row in rows
        ],
        columns=["id", "when", "next", "last", "state", "workflow", "skipped", "overlap", "catch_up"],
        cut=["workflow", "when"],
        spare=["workflow", "skipped", "overlap", "catch_up"],
    )


def _moment(at: float | None, now: float, *, fitted: bool) -> str | None:
    return None if at is None else relative(at, now) if fitted else to_the_second(at)


def _verb(name: str, help: str, act: Callable[[App, str], Awaitable[Any]], said: str) -> None:
    @schedules.command(name, help=help)
    @click.argument("ids", nargs=-1, required=True)
    @app_option
    def command(ids: tuple[str, ...], target: str | None, url: str | None) -> None:
        async def acted(app: App) -> int:
            missing = 0
            for id in ids:
                try:
                    result = await act(app, id)
                    click.echo(f"{id}: {said}{f' {result}' if isinstance(result, str) else ''}")
                except HoldfastError as error:
                    missing += 1
                    click.echo(f"{id}: {error}")
            return missing

        if run(find_app(target, url), acted):
            raise SystemExit(1)


_verb("pause", "Let no tick start anything until resumed.", lambda app, id: app.schedule_handle(id).pause(), "paused")
_verb("resume", "Tick again, from the next tick on.", lambda app, id: app.schedule_handle(id).resume(), "resumed")
_verb(
    "trigger", "Start an instance now, besides the ticks.", lambda app, id: app.schedule_handle(id).trigger(), "started"
)
_verb(
    "delete",
    "Forget the schedule; what it started goes on.",
    lambda app, id: app.schedule_handle(id).delete(),
    "deleted",
)
