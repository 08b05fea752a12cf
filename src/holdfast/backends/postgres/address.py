"""What a PostgreSQL URL says: where to connect, and our own options in its query. Connects to nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from holdfast.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL taken apart. `dsn` is what the driver gets."""

    dsn: str
    pgbouncer: bool = False
    """Connections are pooled by transaction: no LISTEN, no prepared statements, no session settings."""
    schema: str | None = None
    timeout: float = 30.0
    """Seconds after which a statement without an answer counts as a lost connection."""

    @property
    def shown(self) -> str:
        """The URL for messages: without its password and query."""
        parts = urlsplit(self.dsn)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}"


def parse(url: str) -> Address:
    """Take `url` apart; unknown options are the driver's affair."""
    parts = urlsplit(url)
    _check_ports(parts.netloc.rpartition("@")[2])
    ours: dict[str, str] = {}
    theirs: list[tuple[str, str]] = []
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key in ("pgbouncer", "schema", "timeout"):
            ours[key] = value
        else:
            theirs.append((key, value))
    pgbouncer = _flag(url, ours.get("pgbouncer", "false"))
    schema = ours.get("schema")
    if schema is not None and not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise ConfigurationError(f"schema={schema!r}: a schema is named in lower case letters, digits and _")
    if schema is not None and pgbouncer:
        raise ConfigurationError(
            "schema= cannot be set per connection through PgBouncer: give the role a search_path "
            f"(ALTER ROLE … SET search_path = {schema}), and leave schema= out"
        )
    return Address(
        dsn=urlunsplit(parts._replace(query=urlencode(theirs))),
        pgbouncer=pgbouncer,
        schema=schema,
        timeout=_seconds(ours.get("timeout", "30")),
    )


def _check_ports(hosts: str) -> None:
    for host in hosts.split(","):
        # The colons of an address of version 6 are in brackets.
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ConfigurationError(f"port {port!r} in the database URL: a port is a number from 1 to 65535")


def _flag(url: str, text: str) -> bool:
    match text.lower():
        case "true" | "1" | "yes" | "":
            return True
        case "false" | "0" | "no":
            return False
        case _:
            raise ConfigurationError(f"{url!r}: pgbouncer is true or false, not {text!r}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise ConfigurationError(f"timeout={text!r}: give a number of seconds above 0")
    return seconds
