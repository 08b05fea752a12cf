"""Signing in with the token, and out."""

from __future__ import annotations

import secrets
import time

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from holdfast.web.access import SESSION, make_session, own_path, same
from holdfast.web.guard import SESSION_COOKIE, root_of
from holdfast.web.site import Site, first


async def show(site: Site, request: Request) -> Response:
    """The form that asks for the token."""
    if not site.access.signs_in:
        raise HTTPException(404)
    if getattr(request.state, "way", None) is not None:
        return RedirectResponse(f"{root_of(request)}/", 303)
    return _asking(site, request, request.query_params.get("next", "/"))


async def sign_in(site: Site, request: Request) -> Response:
    """Let somebody in who knows the token."""
    form = await site.form(request)
    token = site.access.token
    if token is None:
        raise HTTPException(404)
    if not same(first(form, "token").strip(), token):
        return _asking(site, request, first(form, "next"), wrong=True)
    answer = RedirectResponse(root_of(request) + own_path(first(form, "next")), 303)
    session = make_session(token, now=time.time(), nonce=secrets.token_urlsafe(12))
    site.set_cookie(request, answer, SESSION_COOKIE, session, max_age=int(SESSION))
    return answer


async def sign_out(site: Site, request: Request) -> Response:
    """Forget who this was."""
    await site.form(request)
    answer = RedirectResponse(f"{root_of(request)}/login", 303)
    answer.delete_cookie(SESSION_COOKIE, path=root_of(request) or "/")
    return answer


def _asking(site: Site, request: Request, then: str, *, wrong: bool = False) -> Response:
    return site.page(request, "login.html", status=401 if wrong else 200, then=own_path(then), wrong=wrong)
