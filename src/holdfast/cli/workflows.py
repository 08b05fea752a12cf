"""`holdfast workflows …`: list, show, start, wait for, cancel, retry and fork instances; read their history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeVar

import click

from holdfast.app import App
from holdfast.cli.common import Group, app_option, find_app, json_option, load_object, moment, run, show
from holdfast.codec import describe, encode, loads, to_json
from holdfast.errors import ConfigurationError, HoldfastError, ProgramError
from holdfast.ids import InstanceId
from holdfast.ir.program import Program
from holdfast.model.instance import DeliveryKind, InstanceFilter, InstanceView, Status, Step
from holdfast.observe.history import StepView, read_history, variables_at
from holdfast.runtime.client import Handle
from holdfast.workflow import Workflow

T = TypeVar("T")


@click.group(cls=Group)
def workflows() -> None:
    """Look at workflow instances, and act on them."""


@workflows.command("list")
@app_option
@json_option
@click.option("--status", type=click.Choice([status.value for status in Status]))
@click.option("--name", help="The workflow's name, such as shop.orders:Checkout.")
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
    """List instances, newest first."""
    filter = InstanceFilter(
        name=name,
        status=Status(status) if status else None,
        tag=tag,
        parent=InstanceId(parent) if parent else None,
        limit=limit,
    )

    async def listed(app: App) -> list[dict[str, Any]]:
        rows = [_row(view) for view in await app.store.find(filter)]
        return rows if as_json else [_shortened(row) for row in rows]

    columns = ["id", "workflow", "status", "created", "ended", "due", "owner"]
    show(run(find_app(target, url), listed), as_json=as_json, columns=columns)


@workflows.command("show")
@click.argument("id")
@app_option
@json_option
def show_(id: str, target: str | None, url: str | None, as_json: bool) -> None:
    """Show one instance with its outcome."""

    async def shown(app: App) -> dict[str, Any]:
        view = await app.handle(id).view()
        row = _row(view)
        tree = loads(view.outcome) if view.outcome else None
        if as_json:
            row["outcome"] = None if tree is None else to_json(tree)
        else:
            row["outcome"] = "" if tree is None else describe(tree)
        return row

    row = run(find_app(target, url), shown)
    if as_json:
        click.echo(json.dumps(row, indent=2, default=str))
    else:
        show([{"": name, "value": value} for name, value in row.items() if value is not None], as_json=False)


@workflows.command()
@click.argument("id")
@app_option
@json_option
@click.option("--at", "seq", type=click.IntRange(min=0), help="Print the variables at this step.")
def history(id: str, target: str | None, url: str | None, as_json: bool, seq: int | None) -> None:
    """What happened to an instance, step by step."""

    async def read(app: App) -> tuple[list[Step], Program | None]:
        view = await app.handle(id).view()
        programs = await app.store.load_programs([view.program])
        try:
            program = app.registry.read(programs[0]) if programs else None
        except ProgramError as error:
            # What happened can be told without it; its lines could be anybody's.
            click.echo(f"lines are left out: {error}", err=True)
            program = None
        return await app.client.history(view.id), program

    steps, program = run(find_app(target, url), read)
    if seq is not None:
        trees = variables_at(steps, seq)
        if as_json:
            click.echo(json.dumps({name: to_json(tree) for name, tree in trees.items()}, indent=2))
        else:
            show([{"variable": name, "value": describe(tree)} for name, tree in trees.items()], as_json=False)
        return
    views = read_history(steps, program)
    if as_json:
        click.echo(json.dumps([view.as_json() for view in views], indent=2, default=str))
        return
    print_history(views)


def print_history(views: Sequence[StepView]) -> None:
    """The steps as a table; runs of what is alike are told once, with their number."""
    rows: list[dict[str, Any]] = []
    for alike in _runs(views, _shape):
        rows.append(_step_row(alike[0]))
        if len(alike) > 3:
            rows.append({"step": "…", "what": f"… × {len(alike) - 2}, alike"})
        elif len(alike) == 3:
            rows.append(_step_row(alike[1]))
        if len(alike) > 1:
            rows.append(_step_row(alike[-1]))
    show(rows, as_json=False, columns=["step", "at", "line", "what", "changed"])


def _step_row(view: StepView) -> dict[str, Any]:
    return {
        "step": view.seq,
        "at": (moment(view.at) or "")[11:23],
        "line": view.line,
        "what": "\n".join(told(view.events)),
        "changed": "\n".join(f"{name} = {describe(tree, limit=200)}" for name, tree in view.changed.items()),
    }


def told(events: Sequence[str]) -> list[str]:
    """Events for people: of several alike the first, and how many there were."""
    return [f"{alike[0]} × {len(alike)}" if len(alike) > 1 else alike[0] for alike in _runs(events, kind_of)]


def kind_of(event: str) -> str:
    """What an event says, without arguments and values."""
    return event.partition("(")[0] if event.startswith("calls ") else event.partition(" gave ")[0]


def _shape(view: StepView) -> tuple[object, ...]:
    return tuple(map(kind_of, view.events)), tuple(view.changed), view.line


def _runs(items: Sequence[T], key: Callable[[T], object]) -> list[list[T]]:
    """The items in order, neighbours of one key together."""
    return [list(group) for _, group in groupby(items, key)]


@workflows.command()
@click.argument("ids", nargs=-1, required=True)
@app_option
def cancel(ids: tuple[str, ...], target: str | None, url: str | None) -> None:
    """Ask instances to end: CancelledError is raised where they wait."""

    async def cancelled(app: App) -> list[InstanceId]:
        return await app.client.deliver([InstanceId(id) for id in ids], DeliveryKind.CANCEL, "", b"null")

    taken = run(find_app(target, url), cancelled)
    for id in ids:
        click.echo(f"{id}: {'asked to cancel' if id in taken else 'not found, or ended already'}")
    if len(taken) < len(set(ids)):
        raise SystemExit(1)


@workflows.command()
@click.argument("ids", nargs=-1, required=True)
@app_option
def retry(ids: tuple[str, ...], target: str | None, url: str | None) -> None:
    """Let parked instances go on, after what stopped them was mended."""

    async def resumed(app: App) -> Sequence[InstanceId]:
        return await app.store.resume([InstanceId(id) for id in ids], now=app.clock.now())

    taken = run(find_app(target, url), resumed)
    for id in ids:
        hint = "goes on" if id in taken else "is not parked; `holdfast workflows fork` makes a new one from any step"
        click.echo(f"{id}: {hint}")
    if len(taken) < len(set(ids)):
        raise SystemExit(1)


@workflows.command()
@click.argument("id")
@app_option
@click.option(
    "--at",
    "seq",
    type=click.IntRange(min=0),
    help="The step to go on from; by default the last one before its end.",
)
@click.option("--set", "sets", multiple=True, metavar="NAME=JSON", help="Give a variable another value.")
@click.option("--id", "new_id", help="The new instance's id.")
def fork(
    id: str, target: str | None, url: str | None, seq: int | None, sets: tuple[str, ...], new_id: str | None
) -> None:
    """Go on from a step of an instance's history, as a new instance."""
    changes: dict[str, Any] = {}
    for item in sets:
        name, equals, text = item.partition("=")
        if not equals:
            raise ConfigurationError(f"--set takes NAME=JSON, not {item!r}")
        try:
            changes[name.strip()] = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"--set {name}: {text!r} is not JSON: {error}") from error

    async def forked(app: App) -> InstanceId:
        return await app.fork(id, at=seq, changes=changes, new_id=new_id)

    click.echo(run(find_app(target, url), forked))


@workflows.command()
@click.argument("ids", nargs=-1, required=True)
@app_option
@click.option("--timeout", type=float, help="Give up after so many seconds.")
def wait(ids: tuple[str, ...], target: str | None, url: str | None, timeout: float | None) -> None:
    """Wait until instances have ended; the exit status is 1 if one did not end well."""

    async def waited(app: App) -> list[Status]:
        return await asyncio.gather(*[app.handle(id).wait(timeout=timeout) for id in ids])

    statuses = run(find_app(target, url), waited)
    for id, status in zip(ids, statuses, strict=True):
        click.echo(f"{id}: {status.value}")
    if any(status is not Status.DONE for status in statuses):
        raise SystemExit(1)


@workflows.command()
@click.argument("workflow", metavar="MODULE:WORKFLOW")
@click.argument("arguments", nargs=-1, metavar="[NAME=JSON]...")
@app_option
@click.option("--id", help="The instance's id; starting twice with one id starts one instance.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the result and print it.")
def start(
    workflow: str,
    arguments: tuple[str, ...],
    target: str | None,
    url: str | None,
    id: str | None,
    waits: bool,
) -> None:
    """Start an instance; arguments are NAME=JSON, as in user_id=3 or name='"Ada"'."""
    cls = load_object(workflow)
    if not (isinstance(cls, type) and issubclass(cls, Workflow)):
        raise ConfigurationError(f"{workflow} is not a workflow class")
    values: dict[str, Any] = {}
    for item in arguments:
        name, equals, text = item.partition("=")
        if not equals:
            raise ConfigurationError(f"arguments are NAME=JSON, not {item!r}")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"{name}: {text!r} is not JSON (a text needs quotes): {error}") from error

    async def started(app: App) -> tuple[InstanceId, Any]:
        try:
            asked = cls().start(id=id, **values)
        except TypeError as error:
            raise ConfigurationError(f"{workflow}: {error}") from error
        handle: Handle[Any] = await app.launch(asked)
        if not waits:
            return handle.id, None
        try:
            return handle.id, await handle.result()
        except HoldfastError:
            raise
        except Exception as error:
            # What a workflow raised may be anything.
            raise HoldfastError(f"{handle.id} failed: {type(error).__name__}: {error}") from error

    app = find_app(target, url)
    if not waits:
        # Whoever only starts does not work on it for the blink of an eye it lives.
        app.reconfigure(embedded_worker=False)
    made, result = run(app, started, create=True)
    click.echo(describe(encode(result)) if waits else made)


def _shortened(row: dict[str, Any]) -> dict[str, Any]:
    """For a terminal: moments to the second."""
    moments = {name: row[name][:19].replace("T", " ") for name in ("created", "ended", "due") if row[name]}
    return {**row, **moments}


def _row(view: InstanceView) -> dict[str, Any]:
    return {
        "id": view.id,
        "workflow": view.name,
        "status": view.status.value,
        "created": moment(view.created_at),
        "ended": moment(view.ended_at),
        "due": moment(view.due_at),
        "queue": view.queue,
        "priority": view.priority,
        "owner": view.owner,
        "parent": view.parent,
        "program": view.program,
        "reason": view.reason,
        "tags": view.tags or None,
    }
