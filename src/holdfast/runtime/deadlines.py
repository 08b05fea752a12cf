"""Deadlines: end what runs for too long. One timer for all, since one each would cost more than a short action."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """The moments at which things in `running` run out of time; `expire` is called for each that does.

    Things with one timeout run out in the order in which they began. So there is a line for each timeout, and only the
    heads of the lines are looked at.
    """

    def __init__(self, running: Container[T], expire: Callable[[T], None]) -> None:
        self._running = running
        self._expire = expire
        self._lines: dict[float, deque[tuple[float, T]]] = {}
        self._held: dict[T, float | None] = {}
        """Of things whose time did not begin with them: the moment that counts, among several; None: not yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, thing: T, timeout: float, begin: float) -> None:
        """Its time, of so many seconds, began at that time of the loop."""
        self._add(thing, timeout, begin)

    def hold(self, thing: T) -> None:
        """Its time has not begun yet."""
        if len(self._held) > 1000:
            self._forget_ended()
        self._held[thing] = None

    def begin(self, thing: T, timeout: float) -> None:
        """Its time begins now, after a hold."""
        self._held[thing] = self._add(thing, timeout, self._loop.time())

    def close(self) -> None:
        """Watch no more."""
        self._lines.clear()
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _add(self, thing: T, timeout: float, begin: float) -> float:
        at = begin + timeout
        line = self._lines.get(timeout)
        if line is None:
            line = self._lines[timeout] = deque()
        running = self._running
        while line and line[0][1] not in running:
            line.popleft()
        line.append((at, thing))
        if len(line) > 1000 and len(line) % 1000 == 1:
            # Behind one that runs for long, those that have ended are taken out now and then.
            self._lines[timeout] = deque(each for each in line if each[1] in running)
        if self._timer is None or at < self._timer.when():
            self._arm(at)
        return at

    def _forget_ended(self) -> None:
        self._held = {thing: at for thing, at in self._held.items() if thing in self._running}

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        due: list[T] = []
        for timeout, line in list(self._lines.items()):
            while line and (line[0][0] <= now or line[0][1] not in self._running):
                at, thing = line.popleft()
                if thing in self._running and self._held.get(thing, at) == at:
                    due.append(thing)
            if not line:
                del self._lines[timeout]
        self._forget_ended()
        if self._lines:
            self._arm(min(line[0][0] for line in self._lines.values()))
        for thing in due:
            self._expire(thing)
