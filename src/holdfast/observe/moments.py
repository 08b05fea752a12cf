"""Moments and spans as people read them. Moments are Unix seconds, and shown in UTC. Asks no clock."""

from __future__ import annotations

from holdfast.clock import as_datetime
from holdfast.engine import FAR

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


def iso(moment: float | None) -> str | None:
    """A moment in ISO form, to the millisecond: `2030-01-01T00:00:00.000Z`."""
    if moment is None:
        return None
    return as_datetime(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_the_second(moment: float) -> str:
    """A moment to the second: `2030-01-01 00:00:00Z`."""
    return f"{as_datetime(moment):%Y-%m-%d %H:%M:%S}Z"


def until(moment: float) -> str:
    """`until 2030-01-01 00:00:00Z`, or `for ever`."""
    return "for ever" if moment >= FAR else f"until {to_the_second(moment)}"


def span(seconds: float) -> str:
    """A length of time in its largest unit: `3d`, `5h`, `12m`, `40s`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def relative(moment: float, now: float) -> str:
    """A moment as seen from now: `3m ago`, `in 2h`, `now`."""
    if moment >= FAR:
        return "never"
    if abs(moment - now) < 1:
        return "now"
    return f"{span(now - moment)} ago" if moment < now else f"in {span(moment - now)}"
