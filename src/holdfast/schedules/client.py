"""Making schedules and acting on them, from any process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from holdfast.clock import Clock, as_seconds
from holdfast.codec import encode_start
from holdfast.errors import ConfigurationError, HoldfastError
from holdfast.ids import InstanceId
from holdfast.model.instance import ScheduleRow
from holdfast.ports import Store
from holdfast.registry import Registry
from holdfast.schedules.spec import CatchUp, Overlap, Spec, instance_id
from holdfast.schedules.ticker import start_of
from holdfast.workflow import WORKFLOWS, Run, definition_of


class ScheduleHandle:
    """A stored schedule."""

    def __init__(self, id: str, *, reach: Callable[[], Awaitable[Store]], registry: Registry, clock: Clock) -> None:
        self.id = id
        self._reach = reach
        """Gives the store, open."""
        self._registry = registry
        self._clock = clock

    async def row(self) -> ScheduleRow:
        """It as stored. Raises HoldfastError if it does not exist."""
        for row in await (await self._reach()).schedules():
            if row.id == self.id:
                return row
        raise HoldfastError(f"there is no schedule {self.id!r}; `holdfast schedules list` shows all")

    async def pause(self) -> None:
        """Let no tick start anything until resumed."""
        await (await self._reach()).save_schedule(replace(await self.row(), paused=True), replace=True)

    async def resume(self) -> None:
        """Tick again, from the next tick after now on."""
        row = await self.row()
        after = Spec.load(row.spec).next_after(self._clock.now())
        await (await self._reach()).save_schedule(replace(row, paused=False, next_at=after), replace=True)

    async def trigger(self) -> str:
        """Start an instance now, besides the ticks, and also while paused; returns its id."""
        row = await self.row()
        spec = Spec.load(row.spec)
        cls = WORKFLOWS.get(spec.workflow)
        if cls is None:
            raise HoldfastError(f"no workflow {spec.workflow!r} is defined here; import its module, or give --app")
        definition = definition_of(cls)
        await (await self._reach()).save_programs([self._registry.stored(definition)])
        now = self._clock.now()
        start = start_of(self.id, spec, definition.hash, now, due_at=now, now=now)
        await (await self._reach()).start([start])
        return start.id

    async def delete(self) -> None:
        """Forget it; what it started goes on."""
        if not await (await self._reach()).delete_schedule(self.id):
            raise HoldfastError(f"there is no schedule {self.id!r}")

    async def last_instance(self) -> InstanceId | None:
        """The instance of its last tick."""
        row = await self.row()
        return None if row.last_at is None else InstanceId(instance_id(self.id, row.last_at))


async def make_schedule(
    run: Run[Any],
    *,
    id: str,
    cron: str | None,
    every: timedelta | float | None,
    timezone: str,
    jitter: timedelta | float,
    overlap: Overlap | str,
    catch_up: CatchUp | str,
    reach: Callable[[], Awaitable[Store]],
    registry: Registry,
    clock: Clock,
) -> ScheduleHandle:
    """Create the schedule `id`, or give it this form where it exists. Ticks already fired stay fired."""
    run.unused = False
    now = clock.now()
    for given, policy in ((overlap, Overlap), (catch_up, CatchUp)):
        if given not in set(policy):
            raise ConfigurationError(f"{given!r} is none of {', '.join(repr(one.value) for one in policy)}")
    spec = Spec(
        workflow=run.workflow,
        cron=cron,
        every=None if every is None else as_seconds(every, "every="),
        timezone=timezone,
        jitter=as_seconds(jitter, "jitter="),
        inputs=encode_start(cast("dict[str, Any]", vars(run.instance)), run.bound, "workflow", run.workflow),
        overlap=Overlap(overlap),
        catch_up=CatchUp(catch_up),
        queue=run.options.get("queue", "default"),
        anchor=now,
    )
    spec.check()
    definition, store = definition_of(run.cls), await reach()
    await store.save_programs([registry.stored(definition)])
    handle = ScheduleHandle(id, reach=reach, registry=registry, clock=clock)
    existing: Sequence[ScheduleRow] = [row for row in await store.schedules() if row.id == id]
    if existing:
        before = Spec.load(existing[0].spec)
        if replace(before, anchor=0.0) == replace(spec, anchor=0.0):
            return handle
        changed = replace(existing[0], spec=spec.dump(), next_at=spec.next_after(now))
        await store.save_schedule(changed, replace=True)
    else:
        row = ScheduleRow(id=id, spec=spec.dump(), next_at=spec.next_after(now))
        await store.save_schedule(row, replace=False)
    return handle
