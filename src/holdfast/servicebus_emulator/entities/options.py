"""What a queue is told when it is made, and how people write it. Durations are seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """The settings of one queue; the defaults are those of Service Bus."""

    lock: float = 60.0
    """How long a message, or a session, stays with a receiver that does not renew it."""
    max_delivery_count: int = 10
    """After so many lost locks or abandonments, a message goes to the dead letters."""
    sessions: bool = False
    """Whether messages belong to sessions, and receivers take sessions instead of messages."""
    duplicate_window: float | None = None
    """For how long a message id is remembered, and a second message with it dropped."""
    ttl: float | None = None
    """How long a message lives at most, whatever it says itself."""
    dead_letter_expired: bool = False
    """Whether messages that have lived too long become dead letters, or vanish."""


NAMES = tuple(field.name.replace("_", "-") for field in fields(QueueOptions))


def parse_queue(text: str) -> tuple[str, QueueOptions]:
    """A queue as the command line has it: `orders:lock=30,sessions=true`. Raises ConfigurationError."""
    name, _, rest = text.partition(":")
    given: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = part.partition("=")
        try:
            given[option] = json.loads(value) if equals else True
        except ValueError as error:
            raise ConfigurationError(f"--queue {text}: {value!r} is neither a number nor true or false") from error
    return name, queue_options(name, given)


def read_config(path: Path) -> dict[str, QueueOptions]:
    """The queues of a file: `{"queues": {"orders": {"lock": 30}}}`. Raises ConfigurationError."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read as JSON: {error}") from error
    try:
        return {name: queue_options(name, given) for name, given in content["queues"].items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f'{path} must hold {{"queues": {{"name": {{…}}}}}}') from error


def queue_options(name: str, given: Mapping[str, Any]) -> QueueOptions:
    """The options of the queue `name` from what was written. Raises ConfigurationError that says what is wrong."""
    if not name or name.startswith("$") or "/$" in name:
        raise ConfigurationError(f"{name!r} cannot be the name of a queue")
    made = QueueOptions()
    for written, value in given.items():
        option = written.replace("-", "_")
        if written.replace("_", "-") not in NAMES:
            raise ConfigurationError(f"queue {name}: there is no option {written!r}; there are {', '.join(NAMES)}")
        if option in ("sessions", "dead_letter_expired"):
            right = isinstance(value, bool)
        else:
            right = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if not right and not (value is None and option in ("ttl", "duplicate_window")):
            raise ConfigurationError(f"queue {name}: {written} cannot be {value!r}")
        made = replace(made, **{option: value})
    return made
