"""Before every page: whom it answers, and what browsers are told to refuse. Knows no page."""

from __future__ import annotations

import inspect
import time
from typing import Literal
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.web.access import Access, bears, is_own_page, is_session, named_host

SESSION_COOKIE = "holdfast_session"
FREE = ("/login", "/static/")
"""Paths for whoever comes: the form that asks for the token, and what it looks like."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # A page that told nothing of itself could not say of its own forms where they come from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Way = Literal["bearer", "session", "allowed", "open"]
"""How somebody came in."""


class Guard:
    """Lets those requests through that may pass, and gives each answer its headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request = Request(scope, receive)
        # What routes the request further takes its own places into the root.
        request.state.dashboard_root = root_of(request)
        path = path_of(request)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if path.startswith("/static/"):
                    headers["Cache-Control"] = "no-cache"
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = await self._refusal(request)
        await (refused or self._app)(scope, receive, send_guarded)

    async def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that may not pass."""
        access = self._access
        if access.hosts is not None and named_host(request.headers.get("host", "")) not in access.hosts:
            # A page of somebody else's may have its name lead here.
            return PlainTextResponse(
                "This dashboard does not answer to that name; start it with --allow-host NAME if it should.\n", 421
            )
        way = await self._way(request)
        request.state.way = way
        path = path_of(request)
        if way is None and not path.startswith(FREE):
            return self._turned_away(request, path)
        changes = request.method not in ("GET", "HEAD")
        if changes and way != "bearer" and not is_own_page(request.headers):
            return PlainTextResponse("This request does not come from a page of the dashboard.\n", 403)
        return None

    async def _way(self, request: Request) -> Way | None:
        access = self._access
        if access.token is not None:
            if bears(request.headers.get("authorization", ""), access.token):
                return "bearer"
            if is_session(access.token, request.cookies.get(SESSION_COOKIE, ""), now=time.time()):
                return "session"
        if access.allow is not None:
            allowed = access.allow(request)
            if (await allowed if inspect.isawaitable(allowed) else allowed) is True:
                return "allowed"
        return "open" if access.token is None and access.allow is None else None

    def _turned_away(self, request: Request, path: str) -> Response:
        if not self._access.signs_in:
            return PlainTextResponse("You may not see this dashboard.\n", 403)
        page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if not page or "authorization" in request.headers:
            return PlainTextResponse("Sign in first, or send the token.\n", 401, {"WWW-Authenticate": "Bearer"})
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{root_of(request)}/login?next={quote(path + query)}", 303)


def root_of(request: Request) -> str:
    """The path where the dashboard is mounted, without a slash at its end."""
    if (root := getattr(request.state, "dashboard_root", None)) is not None:
        return root
    return str(request.scope.get("root_path", "")).rstrip("/")


def path_of(request: Request) -> str:
    """The path of the request within the dashboard."""
    path, root = str(request.scope["path"]), root_of(request)
    return path[len(root) :] or "/" if root and path.startswith(f"{root}/") else path
