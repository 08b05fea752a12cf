"""What the first page shows: workers, queues, statuses and failures at one moment. Reads; changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.app import App
from holdfast.model.instance import InstanceFilter, Status, WorkerView
from holdfast.model.job import JobFilter, JobStatus, JobView, QueueDepth
from holdfast.observe.instances import Look, instance_facts, look_at
from holdfast.observe.jobs import job_facts
from holdfast.observe.moments import iso
from holdfast.observe.workers import worker_facts

MOST = 10_000
"""Jobs of a queue that are counted, at most."""
FAILURES = 8
"""Dead letters and failed instances that are shown, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How everything is at one moment (Unix seconds)."""

    at: float
    workers: Sequence[WorkerView]
    depths: Sequence[QueueDepth]
    """Also of queues that are empty and paused."""
    paused: Mapping[str, float]
    tally: Mapping[Status, int] | None
    """Instances by status; None where there are none to be had."""
    dead: Sequence[JobView] | None
    """The newest dead letters; None where there are too many to look through."""
    troubled: Sequence[Look]
    """Instances that failed or are parked."""

    @property
    def version(self) -> str:
        """A text that is another one when anything has changed but the time."""
        said = (self.workers, self.depths, self.paused, self.tally, self.dead, self.troubled)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """It as plain JSON values."""
        return {
            "at": iso(self.at),
            "workers": [worker_facts(view) for view in self.workers],
            "queues": [{**depth._asdict(), "paused_since": iso(self.paused.get(depth.queue))} for depth in self.depths],
            "instances": None if self.tally is None else {status.value: n for status, n in self.tally.items()},
            "dead_letters": [job_facts(view) for view in self.dead or ()],
            "failed_instances": [instance_facts(look) for look in self.troubled],
        }


async def take_snapshot(app: App) -> Snapshot:
    """Look at an App that is open. Raises StoreUnavailable."""
    now = app.clock.now()
    broker = app.tasks.broker
    paused = await broker.paused() if broker.home.traits.pauses else dict[str, float]()
    depths = list(await broker.depths(now=now, most=MOST))
    there = {depth.queue for depth in depths}
    depths += [QueueDepth(queue) for queue in paused if queue not in there]
    dead = None
    if broker.home.traits.lists_all or not any(depth.more for depth in depths):
        found = await broker.find(JobFilter(status=JobStatus.DEAD, limit=FAILURES))
        dead = sorted(found, key=lambda view: view.ended_at or 0.0, reverse=True)
    tally, troubled = None, list[Look]()
    if app.has_workflows:
        tally = await app.store.tally()
        views = [
            view
            for status in (Status.FAILED, Status.PARKED)
            # There is no index on what failed: where nothing did, all would be looked at.
            if tally.get(status)
            for view in await app.store.find(InstanceFilter(status=status, limit=FAILURES))
        ]
        views.sort(key=lambda view: view.created_at, reverse=True)
        troubled = await look_at(app.store, app.registry, views[:FAILURES], now=now)
    return Snapshot(
        at=now,
        workers=await app.workers(),
        depths=sorted(depths),
        paused=paused,
        tally=tally,
        dead=dead,
        troubled=troubled,
    )
