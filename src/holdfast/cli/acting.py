"""`holdfast workflows …`, what acts on instances: start, send, wait for, cancel, retry, fork and delete them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from holdfast.app import App
from holdfast.arguments import fitted
from holdfast.cli.common import (
    app_option,
    find_app,
    find_type,
    find_workflow,
    from_json,
    json_option,
    pairs_from_json,
    run,
)
from holdfast.cli.tables import show_json
from holdfast.codec import describe, dumps, encode, loads, to_json
from holdfast.errors import ConfigurationError, HoldfastError, WaitTimeout
from holdfast.ids import InstanceId
from holdfast.model.call import message_key
from holdfast.model.instance import DeliveryKind, InstanceView, Status
from holdfast.observe.failures import error_of
from holdfast.runtime.client import Handle
from holdfast.workflow import ask_start

_TYPE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Came(NamedTuple):
    """What came of one id: whether it went well, in words, and the same for `--json`."""

    well: bool
    words: str
    facts: dict[str, Any]


Said = dict[str, Came]


@click.command()
@click.argument("workflow", metavar="MODULE:WORKFLOW")
@click.argument("arguments", nargs=-1, metavar="[NAME=JSON]...")
@app_option
@json_option
@click.option("--id", help="The instance's id; starting twice with one id starts one instance.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the result and print it.")
def start(
    workflow: str,
    arguments: tuple[str, ...],
    target: str | None,
    url: str | None,
    as_json: bool,
    id: str | None,
    waits: bool,
) -> None:
    """Start an instance; arguments are NAME=JSON, as in user_id=3 or name='"Ada"'."""
    cls = find_workflow(workflow)
    values = pairs_from_json(arguments, what="arguments are")

    async def started(app: App) -> tuple[InstanceId, InstanceView | None]:
        try:
            asked = ask_start(cls(), (), values, id=id)
        except TypeError as error:
            raise ConfigurationError(f"{workflow}: {error}") from error
        handle: Handle[Any] = await app.launch(asked)
        if waits:
            await handle.wait()
        return handle.id, await handle.view() if waits else None

    app = find_app(target, url)
    if not waits:
        # Whoever only starts does not work on it for the blink of an eye it lives.
        app.reconfigure(embedded_worker=False)
    made, view = run(app, started, create=True)
    if as_json:
        show_json({"id": made, **({} if view is None else _outcome(view))})
    elif view is None:
        click.echo(made)
    elif view.status is Status.DONE:
        click.echo(describe(loads(view.outcome or b"null")))
    if view is not None and view.status is not Status.DONE:
        raise HoldfastError(f"{made} {_end_in_words(view)}")


def _outcome(view: InstanceView) -> dict[str, Any]:
    found: dict[str, Any] = {"status": view.status.value}
    if view.status is Status.DONE:
        found["result"] = to_json(loads(view.outcome or b"null"))
    error = error_of(view)
    if error is not None:
        found["error"] = error.as_json()
    if view.reason is not None:
        found["reason"] = view.reason
    return found


def _end_in_words(view: InstanceView) -> str:
    error = error_of(view)
    if error is not None:
        return f"failed: {error.text}"
    if view.status is Status.PARKED:
        return f"is parked: {view.reason}; mend that, then `holdfast workflows retry {view.id}`"
    return f"was {view.reason or 'cancelled'}"


@click.command()
@click.argument("id")
@click.argument("message", metavar="NAME|MODULE:TYPE")
@click.argument("value", metavar="JSON", default="null")
@app_option
@json_option
def send(id: str, message: str, value: str, target: str | None, url: str | None, as_json: bool) -> None:
    """Send a message to an instance, by its name, or by its type with the fields as JSON."""
    app = find_app(target, url)
    if _TYPE.fullmatch(message):
        cls = find_type(message)
        from_json(value, what=message)
        key, made = message_key(cls), fitted(cls, value, name=message)
    else:
        key, made = _name(message), from_json(value, what=message)

    async def sent(app: App) -> InstanceView:
        payload = dumps(encode(made))
        taken = await app.client.deliver([InstanceId(id)], DeliveryKind.MESSAGE, key, payload)
        view = await app.handle(id).view()
        if not taken:
            raise HoldfastError(f"{id} takes no messages any more: it is {view.status.value}")
        return view

    view = run(app, sent)
    parked = view.status is Status.PARKED
    if as_json:
        show_json({"id": id, "message": key, "sent": True, "status": view.status.value})
    else:
        later = f"; it is parked, and gets it when it goes on: holdfast workflows retry {id}" if parked else ""
        click.echo(f"{id}: sent {key}{later}")


def _name(message: str) -> str:
    try:
        return message_key(message)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


_NOBODY = ": no worker is alive; start one: holdfast worker MODULE:APP"


@click.command()
@click.argument("ids", nargs=-1, required=True)
@app_option
@json_option
@click.option("--timeout", type=float, help="Give up after so many seconds.")
def wait(ids: tuple[str, ...], target: str | None, url: str | None, as_json: bool, timeout: float | None) -> None:
    """Wait until instances have ended; the exit status is 1 if one did not end well."""

    async def waited(app: App) -> Said:
        known = {view.id for view in await app.store.view([InstanceId(id) for id in ids])}
        there = [id for id in ids if id in known]
        waits = [app.handle(id).wait(timeout=timeout) for id in there]
        came = dict(zip(there, await asyncio.gather(*waits, return_exceptions=True), strict=True))
        late = [id for id in there if isinstance(came[id], WaitTimeout)]
        came |= {str(view.id): view.status for view in await app.store.view([InstanceId(id) for id in late])}
        worked_on = bool(late) and bool(await app.store.workers(now=app.clock.now()))
        in_vain = f"has not ended within {timeout} seconds{'; it goes on' if worked_on else _NOBODY}"
        said: Said = await _others(app, [id for id in ids if id not in known], "is gone")
        for id, status in came.items():
            if isinstance(status, BaseException):
                raise status
            words = in_vain if id in late else status.value
            said[id] = Came(status is Status.DONE and id not in late, words, {"status": status.value})
        return said

    _say(run(find_app(target, url), waited), ids, as_json=as_json)


@click.command()
@click.argument("ids", nargs=-1, required=True)
@app_option
@json_option
def cancel(ids: tuple[str, ...], target: str | None, url: str | None, as_json: bool) -> None:
    """Ask instances to end: CancelledError is raised where they wait. Parked ones end at once."""

    async def cancelled(app: App) -> Said:
        taken = await app.client.cancel([InstanceId(id) for id in ids])
        said: Said = await _others(app, [id for id in ids if id not in taken], "has ended already")
        for id, ended in taken.items():
            words = "cancelled; it was parked" if ended else "asked to cancel"
            said[id] = Came(True, words, {"outcome": "cancelled" if ended else "asked"})
        return said

    _say(run(find_app(target, url), cancelled), ids, as_json=as_json)


@click.command()
@click.argument("ids", nargs=-1, required=True)
@app_option
@json_option
def retry(ids: tuple[str, ...], target: str | None, url: str | None, as_json: bool) -> None:
    """Let parked instances go on, after what stopped them was mended."""

    async def resumed(app: App) -> Said:
        taken = await app.store.resume([InstanceId(id) for id in ids], now=app.clock.now())
        hint = "is not parked; `holdfast workflows fork` makes a new one from any step"
        said: Said = await _others(app, [id for id in ids if id not in taken], hint)
        return said | {id: Came(True, "goes on", {"outcome": "goes on"}) for id in taken}

    _say(run(find_app(target, url), resumed), ids, as_json=as_json)


@click.command()
@click.argument("id")
@app_option
@json_option
@click.option(
    "--at",
    "seq",
    type=click.IntRange(min=0),
    help="The step to go on from; by default the last one before its end or cancel.",
)
@click.option("--set", "sets", multiple=True, metavar="NAME=JSON", help="Give a variable another value.")
@click.option("--id", "new_id", help="The new instance's id.")
def fork(
    id: str,
    target: str | None,
    url: str | None,
    as_json: bool,
    seq: int | None,
    sets: tuple[str, ...],
    new_id: str | None,
) -> None:
    """Go on from a step of an instance's history, as a new instance."""
    changes = pairs_from_json(sets, what="--set takes")

    async def forked(app: App) -> InstanceId:
        return await app.fork(id, at=seq, changes=changes, new_id=new_id)

    app = find_app(target, url)
    app.import_user_modules()
    made = run(app, forked)
    if as_json:
        show_json({"id": made, "from": id})
    else:
        click.echo(made)


@click.command()
@click.argument("ids", nargs=-1, required=True)
@app_option
@json_option
@click.option("--force", is_flag=True, help="Cancel those that live, wait for their ends, and delete them too.")
def delete(ids: tuple[str, ...], target: str | None, url: str | None, as_json: bool, force: bool) -> None:
    """Remove ended and parked instances, their histories and all that descend from them.

    An instance that lives, or from which a living one descends, stays as it is without --force.
    """

    async def deleted(app: App) -> Said:
        found = await app.client.delete([InstanceId(id) for id in ids], force=force)
        said: Said = await _others(app, [id for id in ids if id not in {each.id for each in found}], "")
        for each in found:
            others = f", with {each.gone - 1} that descended from it" if each.gone > 1 else ""
            row = {"outcome": "deleted" if each.gone else "lives", "removed": each.gone}
            words = f"deleted{others}" if each.gone else _why_not(each.id, each.living, force=force)
            facts = {**row, "living": [view.id for view in each.living]}
            said[each.id] = Came(bool(each.gone), words, facts)
        return said

    _say(run(find_app(target, url), deleted), ids, as_json=as_json)


def _why_not(id: InstanceId, living: Sequence[InstanceView], *, force: bool) -> str:
    others = [view.id for view in living if view.id != id]
    who = "it lives" if len(others) < len(living) else f"{', '.join(others[:3])}, which it started, lives"
    if force:
        return f"not deleted: {who}; it was asked to end, and a worker is still at it: delete it later"
    return f"not deleted: {who}; cancel it first, or use --force"


async def _others(app: App, ids: Sequence[str], words: str) -> Said:
    """What is said of those for whom nothing was done."""
    if not ids:
        return {}
    views = {str(view.id): view for view in await app.store.view([InstanceId(id) for id in ids])}
    return {
        id: Came(False, words, {"outcome": views[id].status.value})
        if id in views
        else Came(False, "not found", {"outcome": "not found"})
        for id in ids
    }


def _say(said: Said, ids: Sequence[str], *, as_json: bool) -> None:
    """Print what came of each, in the order in which they were given; the exit status is 1 if not all went well."""
    if as_json:
        show_json([{"id": id, **said[id].facts} for id in dict.fromkeys(ids)])
    else:
        for id in dict.fromkeys(ids):
            click.echo(f"{id}: {said[id].words}")
    if not all(came.well for came in said.values()):
        raise SystemExit(1)
