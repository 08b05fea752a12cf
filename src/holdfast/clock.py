"""Time as an argument: one clock for real runs, one that tests move. Nothing else in the library asks for the time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, cast

from holdfast.errors import ConfigurationError

LONGEST = 100 * 366 * 86400.0
"""Seconds of the longest duration that can be given."""


class Clock(Protocol):
    """Where the time comes from. Moments are Unix seconds as float, in UTC."""

    def now(self) -> float:
        """The present moment in Unix seconds."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return once `moment` (Unix seconds) has come."""
        ...

    def call_at(self, moment: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back from the event loop once `moment` has come; the result takes that back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    async def sleep_until(self, moment: float) -> None:
        while (left := moment - time.time()) > 0:
            # A bounded nap notices when the wall clock is set forward.
            await asyncio.sleep(min(left, 60.0))

    def call_at(self, moment: float, callback: Callable[[], None]) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def check() -> None:
            nonlocal handle
            left = moment - time.time()
            if left > 0:
                handle = loop.call_later(min(left, 60.0), check)
            else:
                callback()

        handle = loop.call_later(max(0.0, min(moment - time.time(), 60.0)), check)
        return lambda: handle.cancel()


class ManualClock:
    """A clock that stands still until it is moved: sleeps end when a test says so, and take no real time."""

    def __init__(self, start: datetime | None = None) -> None:
        begin = start or datetime(2030, 1, 1, tzinfo=UTC)
        self._now = begin.timestamp()
        self._alarms: dict[int, tuple[float, Callable[[], None]]] = {}
        self._count = 0

    def now(self) -> float:
        return self._now

    @property
    def next_alarm(self) -> float | None:
        """The earliest moment that somebody waits for, or None."""
        return min((moment for moment, _ in self._alarms.values()), default=None)

    def move(self, by: timedelta | float) -> None:
        """Let `by` (seconds, or a timedelta) pass at once and wake whoever slept until then."""
        self.move_to(self._now + as_seconds(by))

    def move_to(self, moment: float) -> None:
        """Set the clock to `moment` (Unix seconds), never backwards."""
        self._now = max(self._now, moment)
        due = sorted((at, number) for number, (at, _) in self._alarms.items() if at <= self._now)
        for _, number in due:
            self._alarms.pop(number)[1]()

    def call_at(self, moment: float, callback: Callable[[], None]) -> Callable[[], None]:
        if moment <= self._now:
            # Time may have been moved past it by now; nobody need move it again for that.
            return asyncio.get_running_loop().call_soon(callback).cancel
        self._count += 1
        number = self._count
        self._alarms[number] = (moment, callback)
        return lambda: self._alarms.pop(number, None) and None

    async def sleep_until(self, moment: float) -> None:
        if moment <= self._now:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        cancel = self.call_at(moment, wake)
        try:
            await future
        finally:
            cancel()


def as_datetime(moment: float) -> datetime:
    """`moment` (Unix seconds) as an aware datetime in UTC; one beyond the year 9999 as the last that there is."""
    try:
        return datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)


def as_seconds(duration: timedelta | float, name: str = "a duration") -> float:
    """A duration given as timedelta or in seconds, in seconds. Raises ConfigurationError that says what `name` takes."""
    given: object = duration.total_seconds() if isinstance(duration, timedelta) else duration
    if isinstance(given, str | bytes | bool):
        seconds = math.nan
    else:
        try:
            seconds = float(cast("float", given))
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
    if not abs(seconds) <= LONGEST:
        raise ConfigurationError(
            f"{name} is a timedelta or a number of seconds, of a hundred years at most, not {duration!r}"
        )
    return seconds
