"""`holdfast workflows …`, what looks at instances: list, show, history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from holdfast.app import App
from holdfast.cli.common import Commands, app_option, find_app, json_option, run
from holdfast.cli.tables import listing, room, show, show_json
from holdfast.codec import describe, loads, to_json
from holdfast.errors import ProgramError
from holdfast.ids import InstanceId
from holdfast.ir.program import Program
from holdfast.model.instance import InstanceFilter, Status, Step
from holdfast.observe.failures import Failure, failure_behind
from holdfast.observe.folding import alike_steps, told
from holdfast.observe.history import StepView, read_history, variables_at
from holdfast.observe.instances import LOOKED_THROUGH, Look, instance_facts, look_at, read_program
from holdfast.observe.moments import iso, relative, to_the_second
from holdfast.observe.waits import told_all

ROOM_FOR_TWO = 72
"""Columns of a terminal below which a history has one wide column instead of two."""


ACTING = dict.fromkeys(("start", "send", "wait", "cancel", "retry", "fork", "delete"), "acting")
"""The module of each command that acts."""


@click.group(cls=Commands, modules=ACTING)
def workflows() -> None:
    """Look at workflow instances, and act on them."""


@workflows.command("list")
@app_option
@json_option
@click.option("--status", type=click.Choice([status.value for status in Status]))
@click.option("--name", help="The workflow's class, such as Checkout, or its whole name, shop.orders:Checkout.")
@click.option("--tag", help="A word of the instance's tags, such as schedule=nightly.")
@click.option("--parent", help="Children of this instance.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
def list_(
    target: str | None,
    url: str | None,
    as_json: bool,
    status: str | None,
    name: str | None,
    tag: str | None,
    parent: str | None,
    limit: int,
) -> None:
    """List instances, newest first, with what they wait for."""
    filter = InstanceFilter(
        name=name,
        status=Status(status) if status else None,
        tag=tag,
        parent=InstanceId(parent) if parent else None,
        limit=limit,
    )
    app = find_app(target, url)

    async def listed(app: App) -> list[Look]:
        return await look_at(app.store, app.registry, await app.store.find(filter), now=app.clock.now())

    looks = run(app, listed)
    if as_json:
        show_json([instance_facts(look) for look in looks])
        return
    now = app.clock.now()
    listing(
        [_line_of(look, now) for look in looks],
        columns=["id", "workflow", "status", "created", "ended", "due", "owner"],
        cut=["workflow"],
        spare=["ended", "owner"],
        note="waits_for_or_why",
    )


@workflows.command("show")
@click.argument("id")
@app_option
@json_option
def show_(id: str, target: str | None, url: str | None, as_json: bool) -> None:
    """Show one instance: what it waits for, or what came of it."""
    app = find_app(target, url)

    async def shown(app: App) -> tuple[Look, Failure | None]:
        view = await app.handle(id).view()
        (look,) = await look_at(app.store, app.registry, [view], now=app.clock.now())
        last = (await app.client.history(view.id))[-LOOKED_THROUGH:]
        return look, failure_behind(look.error, last, look.waits)

    look, failure = run(app, shown)
    tree = loads(look.view.outcome) if look.view.outcome else None
    if as_json:
        failed = None if failure is None else failure.as_json()
        show_json({**instance_facts(look), "failed_action": failed, "outcome": None if tree is None else to_json(tree)})
        return
    _print_look(look, app.clock.now())
    _print_tracebacks(look.error, failure)


def _print_look(look: Look, now: float) -> None:
    view, row = look.view, instance_facts(look)
    for name, moment in (("created", view.created_at), ("ended", view.ended_at), ("due", view.due_at)):
        row[name] = None if moment is None else f"{to_the_second(moment)} ({relative(moment, now)})"
    row["waits_for"] = told_all(look.waits, now) or None
    row["error"] = None if look.error is None else look.error.text
    row["outcome"] = describe(loads(view.outcome)) if view.outcome and view.status is Status.DONE else None
    first = ["id", "workflow", "status", "waits_for", "reason", "error", "outcome"]
    names = [*first, *(name for name in row if name not in first)]
    facts = [{"name": name.replace("_", " "), "value": row[name]} for name in names if row[name] is not None]
    show(facts, headed=False)


def _print_tracebacks(error: Failure | None, failure: Failure | None) -> None:
    if error is not None and error.traceback and (failure is None or error.traceback != failure.traceback):
        click.echo(f"\n{error.traceback.rstrip()}")
    if failure is not None:
        click.echo(f"\nThe action {failure.action} failed in attempt {failure.attempt} (step {failure.step}):")
        click.echo((failure.traceback or failure.text).rstrip())


@workflows.command()
@click.argument("id")
@app_option
@json_option
@click.option("--at", "seq", type=click.IntRange(min=0), help="Print the variables at this step.")
def history(id: str, target: str | None, url: str | None, as_json: bool, seq: int | None) -> None:
    """What happened to an instance, step by step."""

    async def read(app: App) -> tuple[list[Step], Program | None]:
        view = await app.handle(id).view()
        try:
            program = await read_program(app.store, app.registry, view.program)
        except ProgramError as error:
            # What happened can be told without it; its lines could be anybody's.
            click.echo(f"lines are left out: {error}", err=True)
            program = None
        return await app.client.history(view.id), program

    steps, program = run(find_app(target, url), read)
    if seq is not None:
        trees = variables_at(steps, seq)
        if as_json:
            show_json({name: to_json(tree) for name, tree in trees.items()})
        else:
            show([{"variable": name, "value": describe(tree)} for name, tree in trees.items()])
        return
    views = read_history(steps, program)
    if as_json:
        show_json([view.as_json() for view in views])
        return
    print_history(views)


def print_history(views: Sequence[StepView]) -> None:
    """The steps as a table; runs of what is alike are told once, with their number."""
    rows: list[dict[str, Any]] = []
    for alike in alike_steps(views):
        rows.append(_step_row(alike[0]))
        if len(alike) > 3:
            rows.append({"step": "…", "what": f"… × {len(alike) - 2}, alike"})
        elif len(alike) == 3:
            rows.append(_step_row(alike[1]))
        if len(alike) > 1:
            rows.append(_step_row(alike[-1]))
    width = room()
    if width is not None and width < ROOM_FOR_TWO:
        # What changed stands below what happened, where there is no room for both beside each other.
        for row in rows:
            row["what"] = "\n".join(part for part in (row["what"], row.pop("changed", "")) if part)
    show(rows, columns=["step", "at", "line", "what", "changed"])


def _step_row(view: StepView) -> dict[str, Any]:
    return {
        "step": view.seq,
        "at": (iso(view.at) or "")[11:23],
        "line": view.line,
        "what": "\n".join(told(view.events)),
        "changed": "\n".join(f"{name} = {describe(tree, limit=200)}" for name, tree in view.changed.items()),
    }


def _line_of(look: Look, now: float) -> dict[str, Any]:
    """An instance in a listing: short for a terminal, whole for anything else."""
    view, fitted = look.view, room() is not None

    def moment(at: float | None) -> str | None:
        return None if at is None else relative(at, now) if fitted else to_the_second(at)

    return {
        "id": view.id,
        "workflow": view.name.rpartition(":")[2] if fitted else view.name,
        "status": view.status.value,
        "created": moment(view.created_at),
        "ended": moment(view.ended_at),
        # In a terminal, what it waits for tells that.
        "due": None if fitted else moment(view.due_at),
        "owner": view.owner,
        "waits_for_or_why": look.why(now),
    }
