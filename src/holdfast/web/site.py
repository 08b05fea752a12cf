"""What all pages share: the open App, templates, words about what was done, forms that only own pages can send."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any, cast
from urllib.parse import parse_qs, quote, unquote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from holdfast.app import App
from holdfast.model.job import JobStatus
from holdfast.observe.moments import iso, relative, to_the_second
from holdfast.observe.watch import Watch
from holdfast.ports import Traits
from holdfast.web.access import Access, own_path, same
from holdfast.web.guard import path_of, root_of
from holdfast.web.snapshot import Snapshot, take_snapshot

FORM_COOKIE = "holdfast_form"
SAID_COOKIE = "holdfast_said"
LARGEST_FORM = 1_000_000
"""Bytes of a form, at most."""
LONGEST_COOKIE = 3500
"""Bytes of a cookie, at most: browsers drop longer ones."""


class Site:
    """The dashboard of one App."""

    def __init__(self, app: App, access: Access) -> None:
        self._given = app
        self._own: App | None = None
        self._opening = asyncio.Lock()
        self.access = access
        self.watch: Watch[Snapshot] = Watch(self._take)
        self._templates = Environment(
            loader=PackageLoader("holdfast.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Any] = {"iso": iso, "exact": to_the_second, "short": _short, "query": _query}
        cast("dict[str, Any]", self._templates.filters).update(filters)

    # --- the App

    async def app(self) -> App:
        """The App, open in this event loop. Raises ConfigurationError where there is no database."""
        home = self._given.home_loop
        if home is None or home is asyncio.get_running_loop():
            return await self._given.open(create=False)
        # It is open in another loop, as that of a blocking interface: connections belong to their loop.
        async with self._opening:
            if self._own is None:
                self._own = App(self._given.name, settings=self._given.settings, clock=self._given.clock)
            return await self._own.open(create=False)

    async def close(self) -> None:
        """Close what this site alone uses."""
        if self._own is not None:
            await self._own.close()

    @property
    def traits(self) -> Traits:
        """What the broker of jobs can do."""
        return self._given.tasks.broker.home.traits

    @property
    def has_workflows(self) -> bool:
        """Whether there is a store of workflows."""
        return self._given.has_workflows

    @property
    def statuses(self) -> list[JobStatus]:
        """Those by which jobs can be listed."""
        return list(JobStatus) if self.traits.lists_all else [JobStatus.QUEUED, JobStatus.DEAD]

    async def _take(self) -> Snapshot:
        return await take_snapshot(await self.app())

    # --- answers

    def page(
        self, request: Request, template: str, *, facts: Any = None, status: int = 200, **context: Any
    ) -> Response:
        """A page, or for those who ask for JSON its facts."""
        if facts is not None and (wants_json(request) or (status >= 400 and is_script(request))):
            return JSONResponse(facts, status)
        key = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24)
        now = self._given.clock.now()
        said = _said_before(request)
        text = self._templates.get_template(template).render(
            root=root_of(request),
            here=_here(request),
            section=path_of(request).split("/")[1],
            app=self._given,
            access=self.access,
            changes=not self.access.read_only,
            traits=self.traits,
            # Who is not let in yet learns nothing, not even where the database is.
            inside=getattr(request.state, "way", None) is not None,
            signed_in=getattr(request.state, "way", None) == "session",
            form_key=key,
            said=said,
            now=now,
            ago=partial(relative, now=now),
            **context,
        )
        answer = HTMLResponse(text, status)
        if FORM_COOKIE not in request.cookies:
            self.set_cookie(request, answer, FORM_COOKIE, key)
        if said:
            answer.delete_cookie(SAID_COOKIE, path=_cookie_path(request))
        return answer

    def trouble(self, request: Request, status: int, title: str, words: str) -> Response:
        """A page that says what did not work."""
        return self.page(request, "trouble.html", facts={"error": words}, status=status, title=title, words=words)

    def done(self, request: Request, form: Mapping[str, list[str]], said: Mapping[str, str], *, well: bool) -> Response:
        """What came of each thing that was to be done: a line on the page before, or JSON."""
        self.watch.forget()
        if wants_json(request) or is_script(request):
            return JSONResponse({"well": well, "said": dict(said)}, 200 if well else 409)
        lines = [f"{what}: {words}" if what else words for what, words in said.items()]
        text = "; ".join(lines[:20]) + (f"; and {len(lines) - 20} more" if len(lines) > 20 else "")
        answer = RedirectResponse(root_of(request) + own_path(first(form, "back") or "/"), 303)
        self.set_cookie(request, answer, SAID_COOKIE, _packed(well, text), max_age=60)
        return answer

    def set_cookie(
        self, request: Request, answer: Response, name: str, value: str, *, max_age: int | None = None
    ) -> None:
        """A cookie that no script and no other site has a use for."""
        answer.set_cookie(
            name,
            value,
            max_age=max_age,
            path=_cookie_path(request),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    # --- forms

    async def form(self, request: Request) -> dict[str, list[str]]:
        """The fields of a form that an own page has sent, or a script with the token. Raises HTTPException."""
        form = await read_form(request)
        if is_script(request):
            return form
        key = request.cookies.get(FORM_COOKIE, "")
        if not key or not same(first(form, "form_key"), key):
            raise HTTPException(403, "This form is too old, or not the dashboard's; load the page again.")
        return form


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form. Raises HTTPException for one that is too large, or of another kind."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind not in ("application/x-www-form-urlencoded", ""):
        raise HTTPException(415, "Forms come as application/x-www-form-urlencoded.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            raise HTTPException(413, "This form is too large.")
    try:
        return parse_qs(body.decode(), keep_blank_values=True)
    except ValueError as error:
        raise HTTPException(400, "This form cannot be read.") from error


def first(form: Mapping[str, list[str]], name: str) -> str:
    """The first value of a field; "" where there is none."""
    return (form.get(name) or [""])[0]


def wants_json(request: Request) -> bool:
    """Whether JSON is wanted rather than a page."""
    return request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip() == "application/json"


def is_script(request: Request) -> bool:
    """Whether it was sent with the token, and not by a browser."""
    return getattr(request.state, "way", None) == "bearer"


def _packed(well: bool, text: str) -> str:
    """What was done, as a cookie holds it: cut to what browsers keep."""
    packed = quote(json.dumps([well, text]))
    return packed if len(packed) <= LONGEST_COOKIE else _packed(well, text[: len(text) * 3 // 4] + "…")


def _short(name: str) -> str:
    """A name without its module."""
    return name.rpartition(":")[2]


def _query(values: Mapping[str, str | None]) -> str:
    """The query of an address, without what is empty."""
    return urlencode({name: value for name, value in values.items() if value})


def _said_before(request: Request) -> tuple[bool, str] | None:
    """What the request before this one has done."""
    try:
        match json.loads(unquote(request.cookies.get(SAID_COOKIE, ""))):
            case [bool(well), str(text)]:
                return well, text
            case _:
                return None
    except ValueError:
        return None


def _here(request: Request) -> str:
    """The path of this page, to come back to."""
    return path_of(request) + (f"?{request.url.query}" if request.url.query else "")


def _cookie_path(request: Request) -> str:
    return root_of(request) or "/"
