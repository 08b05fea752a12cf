"""The ASGI application: its paths, what stands before them, and what errors become."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from holdfast.app import App
from holdfast.errors import HoldfastError, InstanceNotFound, JobNotFound, StoreUnavailable
from holdfast.web import dead, events, jobs, overview, schedules, signing, workflows
from holdfast.web.access import Access
from holdfast.web.guard import Guard
from holdfast.web.site import Site

Page = Callable[[Site, Request], Awaitable[Response]]
Act = Callable[[Site, Request, dict[str, list[str]]], Awaitable[Response]]

PAGES: dict[str, Page] = {
    "/": overview.show,
    "/events": events.events,
    "/tasks": jobs.listed,
    "/tasks/show": jobs.show,
    "/dead": dead.listed,
    "/workflows": workflows.listed,
    "/workflows/show": workflows.show,
    "/schedules": schedules.listed,
}
ACTS: dict[str, Act] = {
    "/queues/pause": overview.pause,
    "/queues/resume": overview.resume,
    "/tasks/cancel": jobs.cancel,
    "/tasks/retry": jobs.retry,
    "/dead/replay": dead.replay,
    "/dead/purge": dead.purge,
    "/workflows/cancel": workflows.cancel,
    "/workflows/retry": workflows.retry,
    "/workflows/send": workflows.send,
    "/schedules/pause": schedules.pause,
    "/schedules/resume": schedules.resume,
    "/schedules/trigger": schedules.trigger,
}
"""What changes something: by POST alone, and only for who may."""


def application(app: App, access: Access) -> Starlette:
    """The dashboard of an App, for those that `access` lets in."""
    site = Site(app, access)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        # A server that serves nothing else; where it is mounted, the App is opened by others, or when it is needed.
        await site.app()
        try:
            yield
        finally:
            await site.close()

    static = StaticFiles(packages=[("holdfast.web", "static")])
    return Starlette(
        routes=[
            *[Route(path, partial(page, site), methods=["GET"]) for path, page in PAGES.items()],
            *[Route(path, partial(_acting, site, act), methods=["POST"]) for path, act in ACTS.items()],
            Route("/login", partial(signing.show, site), methods=["GET"]),
            Route("/login", partial(signing.sign_in, site), methods=["POST"]),
            Route("/logout", partial(signing.sign_out, site), methods=["POST"]),
            Mount("/static", static),
        ],
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={
            HoldfastError: partial(_in_words, site),
            HTTPException: partial(_in_words, site),
        },
        lifespan=lifespan,
    )


async def _acting(site: Site, act: Act, request: Request) -> Response:
    """Do what a form asks for, if its sender may."""
    form = await site.form(request)
    if site.access.read_only:
        raise HTTPException(403, "This dashboard only shows: it was started with --read-only.")
    return await act(site, request, form)


async def _in_words(site: Site, request: Request, error: Exception) -> Response:
    """A page that says what an error says."""
    match error:
        case HTTPException(status_code=404):
            return site.trouble(request, 404, "Nothing here", "There is no such page.")
        case HTTPException(status_code=status, detail=words):
            return site.trouble(request, status, "Not done", words)
        case JobNotFound() | InstanceNotFound():
            return site.trouble(request, 404, "Not found", str(error))
        case StoreUnavailable():
            return site.trouble(request, 503, "No answer from the database", str(error))
        case _:
            return site.trouble(request, 409, "Not possible", str(error))
