"""Time as an argument: one clock for real runs, one that tests move. Nothing else in the library asks for the time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. Moments are Unix seconds as float, in UTC."""

    def now(self) -> float:
        """The present moment in Unix seconds."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return once `moment` (Unix seconds) has come."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    async def sleep_until(self, moment: float) -> None:
        while (left := moment - time.time()) > 0:
            # A bounded nap notices when the wall clock is set forward.
            await asyncio.sleep(min(left, 60.0))


class ManualClock:
    """A clock that stands still until it is moved: sleeps end when a test says so, and take no real time."""

    def __init__(self, start: datetime | None = None) -> None:
        begin = start or datetime(2030, 1, 1, tzinfo=UTC)
        self._now = begin.timestamp()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    @property
    def next_sleeper(self) -> float | None:
        """The earliest moment that somebody sleeps for, or None."""
        waiting = [moment for moment, future in self._sleepers if not future.done()]
        return min(waiting, default=None)

    def move(self, by: timedelta | float) -> None:
        """Let `by` (seconds, or a timedelta) pass at once and wake whoever slept until then."""
        self.move_to(self._now + (by.total_seconds() if isinstance(by, timedelta) else by))

    def move_to(self, moment: float) -> None:
        """Set the clock to `moment` (Unix seconds), never backwards."""
        self._now = max(self._now, moment)
        due = [future for at, future in self._sleepers if at <= self._now]
        self._sleepers = [(at, future) for at, future in self._sleepers if at > self._now]
        for future in due:
            if not future.done():
                future.set_result(None)

    async def sleep_until(self, moment: float) -> None:
        if moment <= self._now:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((moment, future))
        try:
            await future
        finally:
            self._sleepers = [(at, other) for at, other in self._sleepers if other is not future]


def as_datetime(moment: float) -> datetime:
    """`moment` (Unix seconds) as an aware datetime in UTC."""
    return datetime.fromtimestamp(moment, UTC)


def as_seconds(duration: timedelta | float) -> float:
    """A duration given as timedelta or in seconds, in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
