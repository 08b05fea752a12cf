"""Scaling: how many worker processes there should be, by what they tell of themselves. Starts and ends none.

One more is started where all that there are have been full for a while, and leave work behind. One is ended where for a
longer while the others could have done its work, and had half of their room to spare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from holdfast.runtime.reading import Reading

GROW_AFTER = 2.0
"""Seconds for which all processes must have been pressed before another one is started."""
SPARE = 0.5
"""How much of their room those that stay may use, where one is ended."""


class Scale:
    """Decides between two bounds. All moments are those of the monotonic clock."""

    def __init__(self, least: int, most: int, *, idle_after: float) -> None:
        self.least = least
        self.most = most
        self._idle_after = idle_after
        self._changed_at = 0.0
        self._pressed_since: float | None = None
        self._spare_since: float | None = None

    def decide(self, readings: Sequence[Reading], *, places: int, now: float) -> Literal[-1, 0, 1]:
        """One more, one fewer, or as many as there are. `places` are all, also those that have told nothing yet."""
        settled = len(readings) == places and all(reading.ready for reading in readings)
        pressed = settled and all(reading.pressed for reading in readings)
        spare = settled and not pressed and sum(each.busy for each in readings) <= (places - 1) * SPARE
        self._pressed_since = (self._pressed_since or now) if pressed else None
        self._spare_since = (self._spare_since or now) if spare else None
        if places < self.most and _lasted(self._pressed_since, GROW_AFTER, now):
            # What was left behind before the last one was started may be that one's by now.
            if any(reading.pressed_at > self._changed_at for reading in readings):
                return self._change(1, now)
        elif places > self.least and _lasted(self._spare_since, self._idle_after, now):
            return self._change(-1, now)
        return 0

    def _change(self, by: Literal[-1, 1], now: float) -> Literal[-1, 1]:
        self._changed_at = now
        self._pressed_since = self._spare_since = None
        return by


def _lasted(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds


def ado(reading: Reading) -> tuple[bool, float]:
    """How much ado a process makes when it ends: of several, the one with the least is ended."""
    return reading.pressed, reading.busy
