"""Fires schedules when they are due. Every worker tries; the store lets one of them win each tick."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from holdfast.clock import Clock
from holdfast.errors import CompileError, DecodeError, StoreUnavailable
from holdfast.ids import InstanceId
from holdfast.logs import get_logger
from holdfast.model.instance import InstanceView, ScheduleRow, Start, Status
from holdfast.ports import Store
from holdfast.registry import Registry
from holdfast.runtime import dismissing
from holdfast.runtime.resident import start_row
from holdfast.schedules.spec import Firing, Overlap, Spec, instance_id
from holdfast.workflow import WORKFLOWS, definition_of

log = get_logger("holdfast.schedules")

REFRESH = 5.0
"""Seconds after which a schedule that another process has made or changed is noticed, or an end that a tick waits for."""


class Rest:
    """Waiting for a tick."""

    def __init__(self, clock: Clock) -> None:
        self.asleep = False
        """Whether somebody waits here, with nothing to do before."""
        self._clock = clock

    async def until(self, moment: float | None) -> None:
        """Return at `moment` (Unix seconds), but look around now and then."""
        woken = asyncio.Event()

        def wake() -> None:
            self.asleep = False
            woken.set()

        cancel = self._clock.call_at(moment, wake) if moment is not None else None
        self.asleep = True
        try:
            async with asyncio.timeout(REFRESH):
                await woken.wait()
        except TimeoutError:
            return
        finally:
            self.asleep = False
            if cancel is not None:
                cancel()


class Ticker:
    """Watches the stored schedules, for as long as it runs."""

    def __init__(self, *, store: Store, registry: Registry, clock: Clock) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self._rest = Rest(clock)
        self._complained: set[str] = set()

    @property
    def asleep(self) -> bool:
        """Whether it waits for a tick, with nothing to do before."""
        return self._rest.asleep

    async def run(self) -> None:
        """Fire what is due, and sleep until the next tick, but look around now and then."""
        while True:
            next_at: float | None = None
            try:
                next_at = await self.tick()
            except StoreUnavailable as error:
                log.warning("schedules out of reach", error=str(error))
            await self._rest.until(next_at)

    async def tick(self) -> float | None:
        """Fire everything that is due now; returns when the next tick comes (Unix seconds)."""
        soonest: float | None = None
        for row in await self.store.schedules():
            if row.paused or row.next_at is None:
                continue
            after: float | None = row.next_at
            if row.next_at <= self.clock.now():
                try:
                    after = await self._fire(row)
                except StoreUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - one schedule's trouble must not be another's
                    self._complain(row.id, f"{type(error).__name__}: {error}")
                    continue
            if after is not None and (soonest is None or after < soonest):
                soonest = after
        return soonest

    async def _fire(self, row: ScheduleRow) -> float | None:
        """Start what is due of one schedule; returns its next tick."""
        assert row.next_at is not None
        try:
            spec = Spec.load(row.spec)
        except DecodeError as error:
            self._complain(row.id, str(error))
            return None
        cls = WORKFLOWS.get(spec.workflow)
        if cls is None:
            self._complain(row.id, f"no workflow {spec.workflow!r} is defined here; another worker may have it")
            return None
        try:
            definition = definition_of(cls)
        except CompileError as error:
            self._complain(row.id, str(error))
            return None
        now = self.clock.now()
        last = await self._last(row)
        running = last is not None and last.status is Status.PENDING
        firing = spec.firing(row.next_at, now, running=running)
        if firing.next_at == row.next_at:
            return now + REFRESH
        starts = [
            start_of(row.id, spec, definition.hash, tick, due_at=tick + spec.delay(row.id, tick), now=now)
            for tick in firing.ticks
        ]
        await self.store.save_programs([self.registry.stored(definition)])
        advanced = replace(
            row,
            next_at=firing.next_at,
            last_at=firing.ticks[-1] if firing.ticks else row.last_at,
            skipped=row.skipped + firing.skipped,
            version=row.version + 1,
        )
        won = await self.store.fire(advanced, starts=starts, expect_version=row.version)
        if won:
            await self._fired(row.id, spec, firing, last)
        return firing.next_at

    async def _fired(self, id: str, spec: Spec, firing: Firing, last: InstanceView | None) -> None:
        log.info("schedule fired", schedule=id, started=len(firing.ticks))
        if firing.skipped:
            log.warning("ticks skipped", schedule=id, skipped=firing.skipped, running=None if last is None else last.id)
        if last is None or not firing.ticks:
            return
        if last.status is Status.PARKED:
            log.warning("instance of the tick before is parked", schedule=id, instance=last.id, reason=last.reason)
        if spec.overlap is Overlap.CANCEL and not last.status.ended:
            await dismissing.cancel(self.store, [last.id], now=self.clock.now())

    async def _last(self, row: ScheduleRow) -> InstanceView | None:
        """The instance of the last tick that started one."""
        if row.last_at is None:
            return None
        for view in await self.store.view([InstanceId(instance_id(row.id, row.last_at))]):
            return view
        return None

    def _complain(self, schedule: str, reason: str) -> None:
        if schedule not in self._complained:
            self._complained.add(schedule)
            log.warning("schedule cannot fire here", schedule=schedule, reason=reason)


def start_of(schedule: str, spec: Spec, program: str, tick: float, *, due_at: float, now: float) -> Start:
    """The start of a tick's instance."""
    return Start(
        id=InstanceId(instance_id(schedule, tick)),
        name=spec.workflow,
        program=program,  # type: ignore[arg-type]
        input=start_row(spec.inputs),
        created_at=now,
        due_at=due_at,
        queue=spec.queue,
        tags=f"schedule={schedule}",
    )
