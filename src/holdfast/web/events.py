"""Live updates: what a browser's EventSource asks for. Each answer ends at once, and the browser comes again by itself.

So no connection stays open: a server that is asked to stop has nobody to wait for, and tabs do not run out of connections.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from holdfast.ids import InstanceId
from holdfast.model.instance import InstanceView, Step
from holdfast.observe.watch import EVERY
from holdfast.tasks import JobHandle
from holdfast.web.site import Site


async def events(site: Site, request: Request) -> Response:
    """One event if what a page shows is another than it has seen; else nothing but when to ask again."""
    query = request.query_params
    match query.get("of"):
        case "job":
            version = await job_version(site, query.get("id", ""))
        case "workflow":
            version = await instance_version(site, query.get("id", ""))
        case "overview":
            version = (await site.watch.look()).version
        case _:
            raise HTTPException(404)
    seen = request.headers.get("last-event-id") or query.get("seen")
    said = f"retry: {int(EVERY * 1000)}\n\n"
    if version != seen:
        said += f"id: {version}\nevent: changed\ndata: {version}\n\n"
    return Response(said, media_type="text/event-stream")


async def job_version(site: Site, id: str) -> str:
    """A text that is another one when a job has changed. Raises JobNotFound."""
    return _version(await JobHandle((await site.app()).tasks, id).view())


async def instance_version(site: Site, id: str) -> str:
    """A text that is another one when an instance has gone on. Raises InstanceNotFound."""
    app = await site.app()
    view = await app.handle(id).view()
    steps = await app.store.latest_steps([InstanceId(id)])
    return version_of(view, steps.get(view.id, ()))


def version_of(view: InstanceView, latest: Sequence[Step]) -> str:
    """The same, of an instance that has been read: with its steps from the last full one on."""
    return _version((view, [step.seq for step in latest]))


def _version(what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]
