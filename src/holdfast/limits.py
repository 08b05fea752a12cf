"""What every store can keep of what people give: names, texts, priorities, moments. Raises at the edge, or makes it fit."""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256

from holdfast.errors import ConfigurationError

LONGEST_TEXT = 1000
"""Bytes of an id, a name or a text with tags, at most."""
LONGEST_KEY = 500
"""Bytes of a text that is only compared: a longer one is kept as its hash, for indexes take no long ones."""
LATEST = 253402300800.0
"""The end of the year 9999 (Unix seconds)."""


_LIKE_A_WEIGHT = re.compile(r":[-+]?[0-9][0-9.]*$")


def check_text(name: str, value: object) -> None:
    """Raise ConfigurationError for what is no text that can be shown, and typed into a command."""
    if not isinstance(value, str) or not value.isprintable():
        raise ConfigurationError(f"{name}= is a text without control characters, not {value!r}")
    if not value:
        raise ConfigurationError(f"{name}= is empty; leave it out where there is none")
    if (size := len(value.encode())) > LONGEST_TEXT:
        raise ConfigurationError(f"{name}= takes {size} bytes; at most {LONGEST_TEXT} are kept")


def check_queue(queue: object) -> None:
    """Raise ConfigurationError for what is no name that a worker could be given."""
    check_text("queue", queue)
    name = str(queue)
    if name != name.strip() or "," in name or name == "*" or _LIKE_A_WEIGHT.search(name):
        raise ConfigurationError(
            "queue= is a name without commas and outer spaces, which is not * and does not end like a weight, since workers read "
            f"`--queues mail:3,reports`; not {queue!r}"
        )


def check_priority(priority: object) -> None:
    """Raise ConfigurationError for what is no whole number of 32 bits."""
    if type(priority) is not int or not -(2**31) < priority < 2**31:
        raise ConfigurationError(f"priority= is a whole number of 32 bits, higher goes first, not {priority!r}")


def moment_of(name: str, value: object) -> float:
    """A moment given as a datetime with a timezone or in Unix seconds, in Unix seconds. Raises ConfigurationError."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigurationError(f"{name}= takes a datetime with a timezone: datetime.now(UTC) + timedelta(…)")
        return value.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name}= is a datetime with a timezone, or a number of Unix seconds, not {value!r}")
    if not -LATEST < value < LATEST:
        raise ConfigurationError(f"{name}= is in Unix seconds, before the year 10000, and not {value!r}")
    return float(value)


def compared(text: str) -> str:
    """A text that is only compared, as any store can keep it: itself, or its hash."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = None
    if data is not None and len(data) <= LONGEST_KEY and b"\0" not in data:
        return text
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
