"""The page of schedules, and what can be done to one."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from holdfast.observe.moments import iso
from holdfast.schedules.listing import list_schedules
from holdfast.web.site import Site, first


async def listed(site: Site, request: Request) -> Response:
    """All schedules with their ticks."""
    app = await site.app()
    rows = await list_schedules(app.store)
    facts = {"schedules": [{**row, "next": iso(row["next"]), "last": iso(row["last"])} for row in rows]}
    return site.page(request, "schedules.html", facts=facts, rows=rows)


async def pause(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Let no tick start anything until it is resumed."""
    id = first(form, "id")
    await (await site.app()).schedule_handle(id).pause()
    return site.done(request, form, {id: "paused"}, well=True)


async def resume(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Tick again, from the next tick on."""
    id = first(form, "id")
    await (await site.app()).schedule_handle(id).resume()
    return site.done(request, form, {id: "resumed"}, well=True)


async def trigger(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Start an instance now, besides the ticks."""
    id = first(form, "id")
    made = await (await site.app()).schedule_handle(id).trigger()
    return site.done(request, form, {id: f"started {made}"}, well=True)
