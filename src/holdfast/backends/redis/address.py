"""What a Redis URL says: where to connect, as whom, and our own options in its query. Connects to nothing."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.backends.urls import timeout_of
from holdfast.errors import ConfigurationError

PORT = 6379
SCHEMES = ("redis", "rediss", "redis+unix", "unix", "redis+cluster", "rediss+cluster")


class Node(NamedTuple):
    """A server by host and port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL taken apart."""

    shown: str
    """The URL for messages: without its password and query."""
    nodes: Sequence[Node] = ()
    path: str | None = None
    """Of a Unix socket, instead of nodes."""
    cluster: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    prefix: str = "holdfast"
    """What all keys begin with, in braces: in a cluster they lie together."""
    timeout: float = 30.0
    """Seconds after which a command without an answer counts as a lost connection."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """What all keys begin with."""
        return f"{{{self.prefix}}}"

    def channel(self, name: str) -> str:
        """The name of a channel on the server, where channels belong to no database."""
        return f"{self.key}:{self.database}:{name}"

    def name(self, channel: str) -> str:
        """The inverse of `channel`."""
        return channel.removeprefix(self.channel(""))


def parse(url: str) -> Address:
    """Take `url` apart. Raises ConfigurationError."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    socket = scheme in ("unix", "redis+unix")
    cluster = scheme.endswith("+cluster")
    shown = f"{parts.scheme}://{hosts}{parts.path}"
    database = options.pop("db", "0" if socket else parts.path.strip("/") or "0")
    if not database.isdecimal():
        raise ConfigurationError(f"{shown}: a database of Redis is a number, not {database!r}")
    if cluster and int(database):
        raise ConfigurationError(f"{shown}: a Redis Cluster has no numbered databases; take ?prefix= instead")
    if socket and not parts.path:
        raise ConfigurationError(f"{shown} names no socket: write redis+unix:///run/redis.sock")
    address = Address(
        shown=shown,
        nodes=() if socket else [_node(each, shown) for each in (hosts or "localhost").split(",")],
        path=unquote(parts.path) if socket else None,
        cluster=cluster,
        user=unquote(user) or None,
        password=unquote(password) or None,
        database=int(database),
        prefix=_prefix(options.pop("prefix", "holdfast"), shown),
        timeout=timeout_of(options.pop("timeout", "30"), shown),
        tls=_tls(options, shown) if scheme.startswith("rediss") else None,
    )
    if options:
        raise ConfigurationError(f"{shown}: Redis knows no option {', '.join(sorted(options))}")
    if len(address.nodes) > 1 and not cluster:
        raise ConfigurationError(f"{shown} names several servers: only redis+cluster:// takes them")
    return address


def _node(text: str, shown: str) -> Node:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"{shown}: {text!r} is no server: write host:port")
    return Node(host.strip("[]") or "localhost", int(port))


def _prefix(text: str, shown: str) -> str:
    if not re.fullmatch(r"[\w.:/-]{1,100}", text):
        raise ConfigurationError(f"{shown}: prefix={text!r} cannot be: take letters, digits and any of . : / _ -")
    return text


def _tls(options: dict[str, str], shown: str) -> ssl.SSLContext:
    """How to speak TLS, by the options that redis-py knows as well."""
    required = options.pop("ssl_cert_reqs", "required")
    if required not in ("required", "none"):
        raise ConfigurationError(f"{shown}: ssl_cert_reqs is required (the default) or none, not {required!r}")
    authorities, certificate, key = (options.pop(f"ssl_{name}", None) for name in ("ca_certs", "certfile", "keyfile"))
    try:
        context = ssl.create_default_context(cafile=authorities)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigurationError(f"{shown}: its certificates cannot be read: {error}") from error
    if required == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
