"""The dashboard in a browser: `holdfast web`, or mounted in an application of your own. Needs `holdfast[web]`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from holdfast.app import App
from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["dashboard"]

Allow = Callable[[Any], bool | Awaitable[bool]]
"""Whether a request may see the dashboard; takes Starlette's `Request`."""


def dashboard(
    app: App,
    *,
    token: str | None = None,
    allow: Allow | None = None,
    unprotected: bool = False,
    read_only: bool = False,
    hosts: Collection[str] | None = None,
) -> Starlette:
    """The dashboard of an App as an ASGI application, to be mounted or served.

        fastapi_app.mount("/holdfast", dashboard(app, allow=lambda request: request.session.get("admin") is True))

    Who comes is let in by `token`, or the setting `web_token` (a form asks for it; scripts send `Authorization: Bearer`),
    or by `allow`, a function of the request, sync or async; where both are given, either is enough. Without any of
    them it is refused, unless `unprotected` says that whatever stands before it decides. With `read_only` nothing can be
    changed. With `hosts` it answers to these names alone.

    The App is opened with the first request where it is not open yet. Raises ConfigurationError, also where `holdfast[web]`
    is not installed.
    """
    try:
        # Only here, since the library works without them.
        from holdfast.web.access import access_of
        from holdfast.web.application import application
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "jinja2", "anyio"):
            raise
        raise ConfigurationError("the dashboard needs starlette and jinja2: pip install 'holdfast[web]'") from error
    access = access_of(
        token=token if token is not None else app.settings.web_token,
        allow=allow,
        unprotected=unprotected,
        read_only=read_only,
        hosts=hosts,
    )
    return application(app, access)
