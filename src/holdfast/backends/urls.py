"""What the URLs of several brokers have in common. Opens nothing."""

from __future__ import annotations

from holdfast.errors import ConfigurationError


def timeout_of(text: str, shown: str) -> float:
    """The seconds of `timeout=`. Raises ConfigurationError, which names the URL as it is `shown`."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise ConfigurationError(f"{shown}: timeout={text!r} is no number of seconds")
    return seconds
