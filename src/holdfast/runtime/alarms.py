"""Alarms: residents are rung for when their earliest timer has come. One call of the clock for all of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from holdfast.clock import Clock
from holdfast.ids import InstanceId
from holdfast.runtime.resident import Resident


class Alarms:
    """The moments at which residents go on by themselves; `ring` is called for each whose moment has come."""

    def __init__(
        self, residents: Mapping[InstanceId, Resident], *, clock: Clock, ring: Callable[[Resident], None]
    ) -> None:
        self._residents = residents
        self._clock = clock
        self._ring_for = ring
        self._alarms: list[tuple[float, int, InstanceId]] = []
        self._count = 0
        self._at: float | None = None
        self._cancel: Callable[[], None] | None = None

    def set(self, resident: Resident) -> None:
        """Ring for it at its earliest timer, or when it is to look after its children."""
        machine, look_at = resident.machine, resident.children.look_at
        at = machine.next_timer if machine.timers else None
        if look_at is not None and (at is None or look_at < at):
            at = look_at
        if at is None or at == resident.timer or resident.gone:
            return
        resident.timer = at
        self._count += 1
        if len(self._alarms) > 1000 + 4 * len(self._residents):
            # Alarms of instances that have left are taken out once there are too many of them.
            self._alarms = [alarm for alarm in self._alarms if alarm[2] in self._residents]
            heapq.heapify(self._alarms)
        heapq.heappush(self._alarms, (at, self._count, resident.id))
        if self._at is None or at < self._at:
            self._arm()

    def clear(self) -> None:
        """Ring for nobody any more."""
        self._alarms.clear()
        self._arm()

    def _arm(self) -> None:
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        self._at = self._alarms[0][0] if self._alarms else None
        if self._at is not None:
            self._cancel = self._clock.call_at(self._at, self._ring)

    def _ring(self) -> None:
        now = self._clock.now()
        while self._alarms and self._alarms[0][0] <= now:
            at, _, id = heapq.heappop(self._alarms)
            resident = self._residents.get(id)
            if resident is not None and resident.timer == at:
                resident.timer = None
                self._ring_for(resident)
        self._arm()
