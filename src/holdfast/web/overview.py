"""The first page: who works, what waits, what went wrong."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from holdfast.observe.jobs import why
from holdfast.tasks import pause_queues, resume_queues
from holdfast.web.site import Site, first


async def show(site: Site, request: Request) -> Response:
    """The page, from the look that all share."""
    snapshot = await site.watch.look()
    return site.page(request, "overview.html", facts=snapshot.as_json(), snapshot=snapshot, why=why)


async def pause(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Pause a queue."""
    queue = first(form, "queue")
    await pause_queues(await site.app(), queue)
    return site.done(request, form, {queue: "paused; what runs goes on"}, well=True)


async def resume(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Let workers take a queue's jobs again."""
    queue = first(form, "queue")
    await resume_queues(await site.app(), queue)
    return site.done(request, form, {queue: "resumed"}, well=True)
