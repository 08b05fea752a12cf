"""Pages of workflow instances: a listing, one instance with its history, and what can be done to it."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from holdfast.app import App
from holdfast.codec import describe, loads, to_json
from holdfast.errors import ProgramError
from holdfast.ids import InstanceId
from holdfast.ir.graph import mermaid
from holdfast.ir.program import Program
from holdfast.model.call import message_key
from holdfast.model.instance import InstanceFilter, InstanceView, Status, Step
from holdfast.observe.failures import failure_behind
from holdfast.observe.folding import alike_steps, told
from holdfast.observe.history import StepView, read_history, variables_at
from holdfast.observe.instances import LOOKED_THROUGH, instance_facts, look_at, read_program
from holdfast.web.events import version_of
from holdfast.web.paging import PAGE, cut, read_place
from holdfast.web.site import Site, first, wants_json

LONGEST_HISTORY = 400
"""Rows of a history on a page: the last ones."""
LONGEST_READ = 2000
"""Steps of an instance beyond which only those since its last full row are read: the page does so at each change."""
LONGEST_VALUE = 400
"""Characters of a value."""


async def listed(site: Site, request: Request) -> Response:
    """Instances, newest first, those that the filters choose."""
    query = request.query_params
    status = query.get("status") or None
    if status is not None and status not in set(Status):
        raise HTTPException(400, f"{status!r} is no status of an instance.")
    chosen = {"status": status, "name": query.get("name") or None}
    filter = InstanceFilter(
        status=Status(status) if status else None,
        name=chosen["name"],
        limit=PAGE + 1,
        before=read_place(query.get("before")),
    )
    app = await site.app()
    views, after = cut(await app.store.find(filter))
    looks = await look_at(app.store, app.registry, views, now=app.clock.now())
    facts = {"instances": [instance_facts(look) for look in looks], "next": after}
    return site.page(
        request, "workflows.html", facts=facts, looks=looks, after=after, chosen=chosen, statuses=list(Status)
    )


async def show(site: Site, request: Request) -> Response:
    """One instance: what it waits for, its history, its program, and its variables at a step."""
    query = request.query_params
    id = query.get("id", "")
    app = await site.app()
    view = await app.handle(id).view()
    latest = (await app.store.latest_steps([view.id])).get(view.id, ())
    (look,) = await look_at(app.store, app.registry, [view], now=app.clock.now())
    wanted = _step(query.get("step"))
    beyond = 0
    if latest and latest[-1].seq >= LONGEST_READ and not wants_json(request):
        steps, beyond = list(latest), latest[0].seq
    else:
        steps = await app.client.history(view.id)
    if wanted is not None and beyond and (not steps or wanted < steps[0].seq):
        raise HTTPException(400, f"This history is too long for a page: holdfast workflows history {id} --at {wanted}")
    program, doubt = await _program(app, view)
    history = read_history(steps, program)
    rows = _rows(history)
    return site.page(
        request,
        "workflow.html",
        facts=facts_of(look, history) if wants_json(request) else None,
        look=look,
        view=view,
        failure=failure_behind(look.error, steps[-LOOKED_THROUGH:], look.waits),
        outcome=describe(loads(view.outcome)) if view.outcome and view.status is Status.DONE else None,
        rows=rows[-LONGEST_HISTORY:],
        messages=[wait.name for wait in look.waits if wait.kind == "message" and ":" not in wait.name],
        left_out=max(0, len(rows) - LONGEST_HISTORY) + beyond,
        step=wanted,
        variables=_variables(steps, wanted),
        drawn=mermaid(program) if program is not None else None,
        doubt=doubt,
        version=None if view.status.ended else version_of(view, latest),
    )


def facts_of(look: Any, history: list[StepView]) -> dict[str, Any]:
    """The instance and its history as plain JSON values."""
    outcome = to_json(loads(look.view.outcome)) if look.view.outcome else None
    return {**instance_facts(look), "outcome": outcome, "history": [step.as_json() for step in history]}


async def _program(app: App, view: InstanceView) -> tuple[Program | None, str | None]:
    """The program of an instance, or why it cannot be shown."""
    try:
        return await read_program(app.store, app.registry, view.program), None
    except ProgramError as error:
        # What happened can be told without it; its lines could be anybody's.
        return None, str(error)


def _rows(history: list[StepView]) -> list[dict[str, Any]]:
    """The steps in words; of more than three alike the first and the last."""
    rows: list[dict[str, Any]] = []
    for alike in alike_steps(history):
        rows.append(_row(alike[0]))
        rows += [{"folded": len(alike) - 2}] if len(alike) > 3 else [_row(step) for step in alike[1:-1]]
        rows += [_row(alike[-1])] if len(alike) > 1 else []
    return rows


def _row(step: StepView) -> dict[str, Any]:
    return {
        "folded": 0,
        "seq": step.seq,
        "at": step.at,
        "line": step.line,
        "events": told(step.events),
        "changed": {name: describe(tree, limit=LONGEST_VALUE) for name, tree in step.changed.items()},
    }


def _step(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPException(400, f"{text!r} is no number of a step.")
    return int(text)


def _variables(steps: list[Step], step: int | None) -> dict[str, str] | None:
    if step is None:
        return None
    return {name: describe(tree, limit=LONGEST_VALUE) for name, tree in variables_at(steps, step).items()}


async def cancel(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Ask instances to end."""
    ids = [InstanceId(id) for id in form.get("id", [])]
    taken = await (await site.app()).client.cancel(ids)
    said: dict[str, str] = {id: _cancelled(taken.get(id)) for id in ids}
    return site.done(request, form, said, well=len(taken) == len(said))


def _cancelled(ended: bool | None) -> str:
    if ended is None:
        return "not found, or has ended already"
    return "cancelled; it was parked" if ended else "asked to cancel"


async def send(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Send an instance a message by its name, with a value that was written as JSON."""
    id, name, text = first(form, "id"), first(form, "name").strip(), first(form, "value").strip() or "null"
    try:
        key, value = message_key(name), json.loads(text)
    except json.JSONDecodeError as error:
        told = f"nothing was sent: {text!r} is not JSON (a text needs quotes): {error}"
        return site.done(request, form, {id: told}, well=False)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    sent = await (await site.app()).handle(id).send(key, value)
    words = f"sent {key}" if sent else "it takes no messages any more"
    return site.done(request, form, {id: words}, well=sent)


async def retry(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Let a parked instance go on."""
    id = InstanceId(first(form, "id"))
    app = await site.app()
    taken = await app.store.resume([id], now=app.clock.now())
    return site.done(request, form, {id: "goes on" if taken else "is not parked"}, well=bool(taken))
