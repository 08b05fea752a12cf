"""Sharing: which queues are asked for jobs, so that each has its share of those that are begun. Claims nothing.

Each queue has a credit in jobs. What is claimed adds to the credits of all queues in which jobs wait, each by its weight,
and is taken from those of the queues it came from; the highest credit is next. A queue that had nothing to give is asked
again after a moment, and gathers no credit meanwhile. While no jobs are left behind, there is nothing to share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

GRAIN = 10
"""Jobs of one queue that are asked for together: a claim for fewer is not worth its statement."""
ASKED_AGAIN = 0.2
"""Seconds after which a queue that gave too little is asked again by itself."""


def serves(queues: Sequence[str], queue: str) -> bool:
    """Whether who works on `queues` takes what is in that queue; `*` stands for all of them."""
    return "*" in queues or queue in queues


class Shares:
    """The shares of queues by their weights."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = weights
        self._credits = dict.fromkeys(weights, 0.0)
        self._short_until: dict[str, float] = {}
        """Queues that gave less than they were asked for, until when that is believed."""
        self._left_behind = False
        """Whether the last claim may have left jobs behind."""

    def plan(self, room: int, now: float) -> dict[str, int]:
        """Which queues to ask by themselves, and each for how many jobs; nothing: ask all of them at once for any."""
        waiting = self._waiting(now) if self._left_behind else []
        total = sum(self._weights[queue] for queue in waiting)
        credits = {queue: self._credits[queue] for queue in waiting}
        plan: dict[str, int] = {}
        while room > 0 and waiting:
            queue = max(waiting, key=lambda each: (credits[each], self._weights[each]))
            number = min(GRAIN, room)
            for each in waiting:
                credits[each] += number * self._weights[each] / total
            credits[queue] -= number
            plan[queue] = plan.get(queue, 0) + number
            room -= number
        return plan

    def asked(self, queue: str, *, given: int, room: int, now: float) -> None:
        """This queue was asked by itself for `room` jobs, and gave so many."""
        if given < room:
            self._short_until[queue] = now + ASKED_AGAIN
            # It competes no more; what it did not take, it does not get later.
            self._credits[queue] = min(self._credits[queue], 0.0)
        else:
            self._short_until.pop(queue, None)

    def claimed(self, queues: Sequence[str], *, room: int, now: float) -> None:
        """A claim that all queues could answer has ended: where each job came from, and how many there was room for."""
        self._left_behind = len(queues) >= room
        if not self._left_behind:
            self._credits = dict.fromkeys(self._weights, 0.0)
            self._short_until.clear()
            return
        waiting = self._waiting(now)
        total = sum(self._weights[queue] for queue in waiting)
        for queue in waiting:
            self._credits[queue] += len(queues) * self._weights[queue] / total
        for queue in queues:
            if queue in self._credits:
                self._credits[queue] -= 1.0

    def _waiting(self, now: float) -> list[str]:
        return [queue for queue in self._weights if self._short_until.get(queue, now) <= now]
