"""Garbage collection: finished instances and old history by retention, and jobs whose results are kept no longer."""

from __future__ import annotations

import asyncio

from holdfast.clock import Clock
from holdfast.errors import StoreUnavailable
from holdfast.logs import get_logger
from holdfast.ports import Broker, Store, Swept
from holdfast.settings import Settings

log = get_logger("holdfast.sweeper")

RESULTS = 60.0
"""Seconds between two rounds that remove what remains of jobs whose time is over."""
RESULTS_BATCH = 1000
UPKEEP = 3600.0
"""Seconds between two rounds that only look after history, where instances are never collected."""


class Sweeper:
    """Cleans up in rounds, for as long as it runs."""

    def __init__(self, *, store: Store, clock: Clock, settings: Settings) -> None:
        self.store = store
        self.clock = clock
        self.settings = settings

    async def run(self) -> None:
        """A round now and then. Rounds of several workers do no harm to each other."""
        interval = self.settings.gc_interval_ms
        while True:
            await asyncio.sleep(UPKEEP if interval is None else interval / 1000)
            try:
                swept = await self.sweep()
            except StoreUnavailable as error:
                log.warning("could not clean up", error=str(error))
                continue
            if swept.instances or swept.steps or swept.partitions:
                log.info("cleaned up", instances=swept.instances, steps=swept.steps, partitions=swept.partitions)

    async def sweep(self) -> Swept:
        """One round, in batches of `gc_batch_size`, until nothing is left to remove."""
        now = self.clock.now()
        collects = self.settings.gc_interval_ms is not None
        ended_before = now - self.settings.gc_retention_seconds if collects else 0.0
        total = Swept()
        while True:
            swept = await self.store.sweep(
                ended_before=ended_before,
                history_before=now - self.settings.history_retention_seconds,
                now=now,
                batch=self.settings.gc_batch_size,
            )
            total = Swept(
                instances=total.instances + swept.instances,
                steps=total.steps + swept.steps,
                partitions=total.partitions + swept.partitions,
            )
            if swept.instances < self.settings.gc_batch_size:
                return total


class JobSweeper:
    """Removes what remains of jobs, each of which says itself for how long it is kept."""

    def __init__(self, *, broker: Broker, clock: Clock) -> None:
        self.broker = broker
        self.clock = clock

    async def run(self) -> None:
        """A round now and then."""
        while True:
            await asyncio.sleep(RESULTS)
            try:
                while await self.broker.sweep_jobs(now=self.clock.now(), batch=RESULTS_BATCH) >= RESULTS_BATCH:
                    await asyncio.sleep(0)
            except StoreUnavailable as error:
                log.warning("could not clean up jobs", error=str(error))
