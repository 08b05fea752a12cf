"""Timers: jobs that are sent by the clock, as the code says. Every worker sends them; the broker takes each tick once.

Nothing of a timer is stored, so that it works on every broker: a tick's job has the tick's id, and is kept for longer than
clocks differ. A tick that comes while no worker is alive is left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from holdfast.clock import Clock
from holdfast.errors import StoreUnavailable
from holdfast.logs import get_logger
from holdfast.schedules.spec import Spec, instance_id
from holdfast.schedules.ticker import REFRESH, Rest

log = get_logger("holdfast.schedules")

KEPT = 3600.0
"""Seconds for which a tick's job is kept at least. Until then no worker sends it again, however late its clock is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A task and its rhythm."""

    spec: Spec
    send: Callable[[str], Awaitable[object]]
    """Sends the job of a tick under this id."""


class Timers:
    """Sends the jobs of timers, for as long as it runs."""

    def __init__(self, timers: Sequence[Timer], *, clock: Clock) -> None:
        self._timers = timers
        self._clock = clock
        self._rest = Rest(clock)

    @property
    def asleep(self) -> bool:
        """Whether it waits for a tick, with nothing to do before."""
        return self._rest.asleep

    async def run(self) -> None:
        """Send each tick's job when it is due."""
        now = self._clock.now()
        due = [timer.spec.next_after(now) for timer in self._timers]
        while True:
            now = self._clock.now()
            for number, timer in enumerate(self._timers):
                tick = due[number]
                if tick is not None and tick <= now and await self._fire(timer, tick):
                    # What has passed since is left out, as it is while nobody works.
                    due[number] = timer.spec.next_after(max(now, tick))
            await self._rest.until(min((tick for tick in due if tick is not None), default=None))

    async def _fire(self, timer: Timer, tick: float) -> bool:
        """Whether its job is sent; while the broker is out of reach it is tried again."""
        try:
            await timer.send(instance_id(timer.spec.workflow, tick))
        except StoreUnavailable as error:
            log.warning("timers out of reach", error=str(error), again_in=REFRESH)
            await self._rest.until(self._clock.now() + REFRESH)
            return False
        return True
