"""Heartbeats from a thread of their own, so that a blocked event loop costs no lease; and the stack of what blocks it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from holdfast.clock import Clock
from holdfast.errors import HoldfastError
from holdfast.ids import WorkerId
from holdfast.logs import get_logger
from holdfast.ports import Beat, Leases

log = get_logger("holdfast.worker")

BLOCKED_AFTER = 1.0
"""Seconds without a turn of the event loop after which it counts as blocked."""


Heard = Callable[[Beat], None]


class Heartbeat:
    """Renews a worker's leases, each by itself. What hears a beat, and `lost`, are called in the worker's event loop."""

    def __init__(
        self,
        worker: WorkerId,
        *,
        leases: Sequence[tuple[Leases, Heard]],
        clock: Clock,
        lease: float,
        lost: Callable[[], None],
    ) -> None:
        self.worker = worker
        self.clock = clock
        self.lease = lease
        self._leases = leases
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._stop = threading.Event()
        self._over = asyncio.Event()
        self._turned = time.monotonic()
        self._asked = 0.0
        self._renewed = [time.monotonic()] * len(leases)
        """When each lease was renewed last."""
        self._thread = threading.Thread(target=self._run, name="holdfast-heartbeat", daemon=True)

    @property
    def age(self) -> float:
        """For how many seconds the lease that was renewed longest ago was not renewed. Safe to read from any thread."""
        return time.monotonic() - min(self._renewed)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    async def stop(self) -> None:
        """End; returns when the thread has ended."""
        self._stop.set()
        # Not in another thread: at the end of a process there are no new ones.
        await self._over.wait()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._living())
        finally:
            self._tell(self._over.set)

    async def _living(self) -> None:
        await asyncio.gather(self._watching(), *map(self._beating, range(len(self._leases))))

    async def _beating(self, place: int) -> None:
        """Beat three times a lease. An outage ends the lease only once it would have ended anyway."""
        leases, heard = self._leases[place]
        self._renewed[place] = time.monotonic()
        next_beat = 0.0
        try:
            while not await self._stopped(min(0.25, self.lease / 10)):
                if time.monotonic() < next_beat:
                    continue
                next_beat = time.monotonic() + self.lease / 3
                try:
                    beat = await leases.heartbeat(self.worker, lease=self.lease, now=self.clock.now())
                except HoldfastError as error:
                    log.warning("heartbeat failed", error=str(error))
                    next_beat = time.monotonic() + self.lease / 10
                    if time.monotonic() - self._renewed[place] > self.lease:
                        log.error("lease lost", reason="the store was out of reach for longer than the lease")
                        self._tell(self._lost)
                        return
                    continue
                self._renewed[place] = time.monotonic()
                if not beat.alive:
                    log.error("lease lost", reason="others took over")
                    self._tell(self._lost)
                    return
                self._tell(lambda beat=beat: heard(beat))
        finally:
            await leases.close_thread()

    async def _watching(self) -> None:
        while not await self._stopped(min(0.25, self.lease / 10)):
            self._watch()

    async def _stopped(self, pause: float) -> bool:
        if self._stop.is_set():
            return True
        await asyncio.sleep(pause)
        return self._stop.is_set()

    def _tell(self, what: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:
            # The loop has ended, and with it the need to tell it anything.
            self._stop.set()

    def _watch(self) -> None:
        """Ask the worker's loop for a sign of life, and say where it hangs if there is none."""
        now = time.monotonic()
        if self._asked and now - self._asked > BLOCKED_AFTER and self._asked > self._turned:
            frame = sys._current_frames().get(self._watched)  # pyright: ignore[reportPrivateUsage]
            stack = "".join(traceback.format_stack(frame)) if frame is not None else "unknown"
            log.warning("event loop blocked", seconds=round(now - self._asked, 1), stack=stack)
            self._turned = now
            self._asked = 0.0
        if not self._asked or self._turned >= self._asked:
            self._asked = now
            self._tell(self._turn)

    def _turn(self) -> None:
        self._turned = time.monotonic()
