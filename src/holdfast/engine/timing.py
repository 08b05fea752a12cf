"""Time: timers, and the moments at which they fire. Asks no clock: the machine is told what time it is."""

from __future__ import annotations

import heapq
from typing import Any

from holdfast.engine.branch import Branch, OnTime
from holdfast.engine.core import Core
from holdfast.engine.events import StartCall
from holdfast.engine.values import Sleep

FAR = 1e11
"""A moment in the year 5138, which stands for never."""
HOPS = 10_000
"""Turns in a row without any wait, after which `sleep(0)` becomes a real wait, so that a spinning loop is saved too."""

PAUSE = 0.001
"""How long that wait is, in seconds."""


class Timing(Core):
    """The part of the machine that keeps timers."""

    @property
    def next_timer(self) -> float | None:
        """The moment of the earliest timer (Unix seconds)."""
        while self.timers and not self._valid(self.timers[0]):
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else None

    def moment(self, seconds: float, *, past: bool = False) -> float:
        """The moment so many seconds from now; one without end is as far as can be written down."""
        if seconds != seconds:
            raise ValueError("Invalid delay: NaN (not a number)")
        return min(self.now + (seconds if past else max(seconds, 0.0)), FAR)

    def timer(self, at: float, kind: str, target: Any, mark: Any, *, serial: int | None = None) -> int:
        """Fire at `at`, unless `mark` no longer stands then. Of two timers the one with the lower serial is first."""
        serial = self.fresh() if serial is None else serial
        heapq.heappush(self.timers, (at, serial, kind, target, mark))
        return serial

    def _valid(self, timer: tuple[float, int, str, Any, Any]) -> bool:
        _, _, kind, target, mark = timer
        if kind == "retry":
            return self.calls.get(target.id) is target and target.attempt == mark and target.due_at is not None
        if kind == "timeout":
            return target.state == "entered" and target.deadline == mark
        return target.wait is mark

    def _fire(self) -> None:
        while self.timers and self.timers[0][0] <= self.now:
            timer = heapq.heappop(self.timers)
            if not self._valid(timer):
                continue
            _, _, kind, target, mark = timer
            if kind == "retry":
                target.due_at = None
                self.touched_calls.add(target.id)
                self.commands.append(StartCall(target))
            elif kind == "sleep":
                self.ready.append(("slept", target, mark))
            else:
                self.ready.append((kind, target, mark))

    def _wait_sleep(self, branch: Branch, item: Sleep) -> bool:
        item.spend()
        if item.seconds <= 0 and self.hops < HOPS:
            self.hops += 1
            self.ready.append(("step", branch, item.result, None))
            return False
        at = self.moment(max(item.seconds, PAUSE if item.seconds <= 0 else 0.0))
        branch.wait = wait = OnTime(at, item.result)
        self.touched_branches[branch.task.id] = branch
        wait.serial = self.timer(at, "sleep", branch, wait)
        return False

    def _slept(self, branch: Branch, wait: OnTime) -> None:
        if branch.wait is wait:
            self._go_on(branch, wait.result)
