"""What a Service Bus URL says: which namespace, as whom, and which entities our queues are. Connects to nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.backends.urls import timeout_of
from holdfast.errors import ConfigurationError

LONGEST_NAME = 260
"""Characters of an entity's name, at most."""
KEYED = ".keyed"
"""What is added to the name of a queue's entity for the one of its jobs with a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A URL taken apart."""

    shown: str
    """The URL for messages: without its key and query."""
    host: str
    """The namespace by its whole name, with a port where the URL gives one."""
    key_name: str | None = None
    """The shared access policy; None where azure-identity says who we are."""
    key: str | None = field(default=None, repr=False)
    emulator: bool = False
    """Whether it is a local emulator, which speaks no TLS."""
    queues: Mapping[str, str] = field(default_factory=dict[str, str])
    """The entities by our names of queues, in the order of the URL."""
    prefix: str = ""
    """What the names of entities begin with that the URL does not name."""
    timeout: float = 30.0
    """Seconds after which a request without an answer has failed."""
    keyed_entities: Mapping[str, str] = field(default_factory=dict[str, str])
    """The entities of jobs with a key by our names of queues, where they do not follow from those of the queues."""
    sessions: int = 16
    """How many keys of one queue a process works on at once, at most."""

    def entity(self, queue: str) -> str:
        """The name of the entity that is this queue of ours. Raises ConfigurationError for what can be no name."""
        return self._checked(queue, self.queues.get(queue) or f"{self.prefix}{queue}", "queues")

    def keyed(self, queue: str) -> str:
        """The name of the entity, with sessions, of this queue's jobs with a key. Raises ConfigurationError."""
        return self._checked(queue, self.keyed_entities.get(queue) or f"{self.entity(queue)}{KEYED}", "keyed")

    def both(self, queue: str) -> Sequence[tuple[str, bool]]:
        """Where jobs of this queue lie: the entities, each with whether it is the one of jobs with a key."""
        return [(self.entity(queue), False), (self.keyed(queue), True)]

    def has_sessions(self, entity: str) -> bool:
        """Whether the entity of this name is one of jobs with a key."""
        return entity.endswith(KEYED) or entity in self.keyed_entities.values()

    def _checked(self, queue: str, name: str, option: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9](?:[\w./~-]*[\w])?", name) or len(name) > LONGEST_NAME:
            raise ConfigurationError(
                f"{self.shown}: {name!r} can be no queue of Service Bus: map it by ?{option}={queue}:its-name"
            )
        return name

    @property
    def connection_string(self) -> str | None:
        """What the client connects with; None where it needs a credential instead."""
        if self.key_name is None:
            return None
        end = ";UseDevelopmentEmulator=true" if self.emulator else ""
        return f"Endpoint=sb://{self.host};SharedAccessKeyName={self.key_name};SharedAccessKey={self.key}{end}"


def parse(url: str) -> Address:
    """Take `url` apart. Raises ConfigurationError."""
    parts = urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    user, colon, key = credentials.partition(":")
    shown = f"{parts.scheme}://{host}"
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not host or parts.path.strip("/"):
        raise ConfigurationError(
            f"{shown}{parts.path} names no namespace: write servicebus://name.servicebus.windows.net, and queues as ?queues=a,b"
        )
    if at and not (user and colon and key):
        raise ConfigurationError(f"{shown}: before the @ come the name of an access policy, a colon and its key")
    emulator = _truth(options.pop("emulator", "false"), shown)
    prefix = options.pop("prefix", "")
    address = Address(
        shown=shown,
        host=host,
        key_name=unquote(user) if at else "any" if emulator else None,
        key=unquote(key) if at else "any" if emulator else None,
        emulator=emulator,
        queues=_queues(options.pop("queues", "default"), prefix, shown),
        prefix=prefix,
        timeout=timeout_of(options.pop("timeout", "30"), shown),
        keyed_entities=_keyed(options.pop("keyed", None), shown),
        sessions=_number(options.pop("sessions", "16"), shown),
    )
    if options:
        raise ConfigurationError(f"{shown}: Service Bus knows no option {', '.join(sorted(options))}")
    for queue in address.queues:
        address.entity(queue)
    for queue in address.keyed_entities:
        address.keyed(queue)
    return address


def _queues(text: str, prefix: str, shown: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        queue, colon, entity = part.partition(":")
        if not queue or (colon and not entity):
            raise ConfigurationError(f"{shown}: queues={text!r} cannot be: write queues=default,mail:shop-mail")
        found[queue] = entity or f"{prefix}{queue}"
    if not found:
        raise ConfigurationError(f"{shown}: queues= names no queue")
    return found


def _keyed(text: str | None, shown: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in [] if text is None else text.split(","):
        queue, _, entity = part.strip().partition(":")
        if not queue or not entity:
            raise ConfigurationError(
                f"{shown}: keyed={text!r} cannot be: write keyed=default:shop-keyed,mail:mail-keyed"
            )
        found[queue] = entity
    return found


def _number(text: str, shown: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1000:
        raise ConfigurationError(f"{shown}: sessions is a number from 1 to 1000, not {text!r}")
    return int(text)


def _truth(text: str, shown: str) -> bool:
    if text not in ("true", "false"):
        raise ConfigurationError(f"{shown}: emulator is true or false, not {text!r}")
    return text == "true"
