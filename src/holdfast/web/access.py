"""Who may see the dashboard, and which requests may change anything: pure decisions. Reads no clock, and answers nobody."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from holdfast.errors import ConfigurationError

SHORTEST_TOKEN = 16
"""Characters of a token, at least: it is all that stands before the dashboard."""
SESSION = 12 * 3600.0
"""Seconds for which somebody stays signed in."""
MAKE_TOKEN = 'make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'
"""What to do where a token is missing, or too short."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who is let in, and what for."""

    token: str | None = None
    allow: Callable[[Any], bool | Awaitable[bool]] | None = None
    read_only: bool = False
    hosts: frozenset[str] | None = None
    """The names that it answers to; None: to any."""

    @property
    def signs_in(self) -> bool:
        """Whether there is a form that asks for a token."""
        return self.token is not None


def access_of(
    *,
    token: str | None,
    allow: Callable[[Any], bool | Awaitable[bool]] | None,
    unprotected: bool,
    read_only: bool,
    hosts: Collection[str] | None,
) -> Access:
    """What was asked for. Raises ConfigurationError where nobody said who may come in."""
    if token is not None:
        token = token.strip()
        check_token(token)
    if token is None and allow is None and not unprotected:
        raise ConfigurationError(
            "nobody said who may use the dashboard: set HOLDFAST_WEB_TOKEN (or token=), give allow=, a function of the request, "
            "or say unprotected=True where something before it lets only the right people through"
        )
    names = None if hosts is None else frozenset(host.lower().strip("[]") for host in hosts)
    return Access(token=token, allow=allow, read_only=read_only, hosts=names)


def check_token(token: str) -> None:
    """Raise ConfigurationError for a token that could be guessed."""
    if len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(
            f"the token of the dashboard has {len(token)} characters, and needs {SHORTEST_TOKEN} at least; {MAKE_TOKEN}"
        )


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def same(one: str, other: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


# --- sessions: nothing is kept of them here, so that all processes of a server know them


def make_session(token: str, *, now: float, nonce: str) -> str:
    """What the browser of somebody who knew the token is given. It ends at its time, or when the token is another one."""
    said = f"{int(now + SESSION)}.{nonce}"
    return f"{said}.{_sign(token, said)}"


def is_session(token: str, value: str, *, now: float) -> bool:
    """Whether `make_session` made it, not too long ago."""
    said, _, signature = value.rpartition(".")
    until = said.partition(".")[0]
    return same(signature, _sign(token, said)) and until.isascii() and until.isdigit() and now < int(until)


def _sign(token: str, said: str) -> str:
    return hmac.new(token.encode(), b"holdfast dashboard " + said.encode(), hashlib.sha256).hexdigest()


def bears(header: str, token: str | None) -> bool:
    """Whether an Authorization header has the token."""
    kind, _, given = header.partition(" ")
    return token is not None and kind.lower() == "bearer" and same(given.strip(), token)


# --- where requests come from


def named_host(header: str) -> str:
    """The name in a Host header, without its port."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@]+)(:[0-9]*)?", header)
    return match[1].strip("[]").lower().rstrip(".") if match else ""


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Whether a page of the dashboard itself sent this, as the browser says.

    `headers` are by their names in lower case. A browser that says nothing sent no form, and is not believed.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if origin is None:
        return False
    return bool(headers.get("host")) and urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def own_path(path: str) -> str:
    """A place to go back to, if it is one of the dashboard's own; else the first page."""
    return path if re.fullmatch(r"/(?:[a-z][a-z/]*)?(?:\?[^\\\s#]*)?", path) else "/"
