"""Readings: how one worker process is at a moment, as plain data that another process can be told. Judges nothing."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from holdfast.errors import DecodeError
from holdfast.runtime.counting import Numbers
from holdfast.runtime.worker import Worker

PULSE = 0.5
"""Seconds between two signs of life of an event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One worker process at one moment. Durations are in seconds."""

    pid: int
    ready: bool
    """It is enlisted and takes work."""
    draining: bool
    """It was asked to end."""
    turned: float
    """How long ago its event loop was known to turn."""
    renewed: float | None
    """How long ago the lease was renewed that was renewed longest ago; None: it has none."""
    lease: float
    """For how long its leases stand without being renewed."""
    busy: float = 0.0
    """How much of its room is in use, or of a processor if that is more; about 1 where all is."""
    pressed: bool = False
    """Something waits for it to have room."""
    pressed_at: float = 0.0
    """When it last knew that something did, by the monotonic clock."""
    numbers: Numbers = field(default_factory=dict[str, Any])


class Pulse:
    """Whether an event loop turns: seen from outside, by how late it is with what it does every half second."""

    def __init__(self) -> None:
        self._turned = time.monotonic()
        self._late = 0.0
        self.processor = 0.0
        """How much of a processor this process used between the last two beats."""

    async def beat(self) -> None:
        """Give signs of life, for as long as this runs."""
        while True:
            asked, used = time.monotonic(), time.process_time()
            await asyncio.sleep(PULSE)
            self._turned = time.monotonic()
            self._late = max(0.0, self._turned - asked - PULSE)
            self.processor = (time.process_time() - used) / (self._turned - asked)

    @property
    def age(self) -> float:
        """How many seconds ago it was known to turn. Safe to read from any thread, as is `lag`."""
        return time.monotonic() - self._turned

    @property
    def lag(self) -> float:
        """By how many seconds it is late now, or was the last time."""
        return max(self._late, self.age - PULSE)


def take_reading(worker: Worker, pulse: Pulse) -> Reading:
    """How a worker is now. Safe to call from any thread."""
    heart, executor = worker.heart, worker.executor
    load = len(executor.running) / max(1, executor.room) if executor is not None else 0.0
    pressed, pressed_at = _pressure(worker)
    return Reading(
        pid=os.getpid(),
        ready=worker.ready.is_set(),
        draining=worker.stopping,
        turned=pulse.age,
        renewed=None if heart is None else heart.age,
        lease=worker.settings.lease_seconds,
        busy=max(load, pulse.processor),
        pressed=pressed,
        pressed_at=pressed_at,
        numbers=_numbers(worker, pulse),
    )


def _pressure(worker: Worker) -> tuple[bool, float]:
    """Whether something waits for room, and when that was last known."""
    executor, owner, consumer = worker.executor, worker.owner, worker.consumer
    if executor is not None and executor.waiting:
        return True, time.monotonic()
    claims = [claims for claims in (consumer, owner.claiming if owner is not None else None) if claims is not None]
    return any(each.left_behind for each in claims), max((each.left_behind_at for each in claims), default=0.0)


def _numbers(worker: Worker, pulse: Pulse) -> Numbers:
    if worker.counts is None:
        return {}
    gauges = {"holdfast_event_loop_lag_seconds": pulse.lag}
    # Each may be gone a moment later: the worker's lease may end at any time.
    heart, owner, consumer, executor = worker.heart, worker.owner, worker.consumer, worker.executor
    if heart is not None:
        gauges["holdfast_heartbeat_age_seconds"] = heart.age
    if owner is not None:
        gauges["holdfast_instances_resident"] = len(owner.residents)
    if consumer is not None:
        gauges["holdfast_jobs_held"] = consumer.held
    if executor is not None:
        gauges["holdfast_attempts_running"] = len(executor.running)
        gauges["holdfast_attempts_waiting"] = len(executor.waiting)
        gauges["holdfast_room"] = executor.room
        gauges["holdfast_threads_stuck"] = executor.stuck
    numbers = worker.counts.numbers()
    numbers.update({name: {(): [value]} for name, value in gauges.items()})
    return numbers


def write_reading(reading: Reading) -> bytes:
    """A reading as one line of JSON, without its end."""
    tree: dict[str, Any] = {name: getattr(reading, name) for name in Reading.__dataclass_fields__}
    tree["numbers"] = {name: list(series.items()) for name, series in reading.numbers.items()}
    return orjson.dumps(tree)


def read_reading(line: bytes) -> Reading:
    """What `write_reading` wrote. Raises DecodeError: a worker of another release may tell other things."""
    try:
        tree = orjson.loads(line)
        numbers = {
            name: {tuple(labels): values for labels, values in series} for name, series in tree.pop("numbers").items()
        }
        return Reading(**tree, numbers=numbers)
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise DecodeError(f"this is no reading of a worker: {error}") from error
