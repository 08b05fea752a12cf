"""Short ways to write instances, steps and workers in tests of stores."""

from __future__ import annotations

import time
from typing import Any

from holdfast.ids import InstanceId, JobId, ProgramHash, WorkerId
from holdfast.model.instance import (
    Claims,
    Commit,
    Delivery,
    DeliveryKind,
    Dismissal,
    Ending,
    Release,
    SpilledCall,
    Start,
    Status,
    Step,
)
from holdfast.model.job import Job
from holdfast.ports import Enlistment

NOW = float(int(time.time()))
DAY = 86400.0


def start(id: str, **fields: Any) -> Start:
    defaults: dict[str, Any] = {
        "name": "app:Greeting",
        "program": ProgramHash("p1"),
        "input": b"input of " + id.encode(),
        "created_at": NOW,
        "due_at": NOW,
    }
    return Start(id=InstanceId(id), **(defaults | fields))


def step(seq: int, at: float = NOW, full: bool = False) -> Step:
    return Step(seq=seq, at=at, payload=f"step {seq}".encode(), full=full)


def commit(id: str, *steps: Step, **fields: Any) -> Commit:
    return Commit(instance=InstanceId(id), steps=steps, **fields)


def ending(payload: bytes = b"42", status: Status = Status.DONE) -> Ending:
    return Ending(status=status, payload=payload)


def asleep(until: float | None = None) -> Release:
    return Release(due_at=until)


def message(id: str, instance: str, at: float = NOW, kind: DeliveryKind = DeliveryKind.MESSAGE) -> Delivery:
    return Delivery(
        id=id,
        instance=InstanceId(instance),
        kind=kind,
        key="greeting",
        payload=b"hello " + id.encode(),
        at=at,
    )


def call(id: str, instance: str, **fields: Any) -> SpilledCall:
    defaults: dict[str, Any] = {
        "call": "c1",
        "name": "app:send",
        "queue": "default",
        "payload": b"{}",
        "due_at": NOW,
    }
    return SpilledCall(id=id, instance=InstanceId(instance), **(defaults | fields))


def job(id: str, **fields: Any) -> Job:
    defaults: dict[str, Any] = {
        "name": "app:send",
        "payload": b"payload of " + id.encode(),
        "created_at": NOW,
        "due_at": NOW,
    }
    return Job(id=JobId(id), **(defaults | fields))


async def enlist(store: Any, id: str, now: float = NOW, lease: float = 10.0) -> WorkerId:
    worker = WorkerId(id)
    await store.enlist(Enlistment(id=worker, host="host", pid=1, queues=["*"], lease=lease, now=now, version="1.2"))
    return worker


async def claim(store: Any, worker: str, *, now: float = NOW, **fields: Any) -> Claims:
    return await store.claim(WorkerId(worker), **({"queues": ["*"], "room": 100, "call_room": 100} | fields), now=now)


def ids(claims: Claims) -> list[str]:
    return [each.id for each in claims.instances]


async def owned(store: Any, worker: str, *names: str, **fields: Any) -> None:
    """Start these instances and let `worker` claim them."""
    await enlist(store, worker)
    await store.start([start(name, **fields) for name in names])
    assert set(ids(await claim(store, worker))) >= set(names)


async def look(store: Any, id: str) -> Any:
    [view] = await store.view([InstanceId(id)])
    return view


def dismissal(id: str, seq: int, **fields: Any) -> Dismissal:
    defaults: dict[str, Any] = {
        "step": step(seq, at=NOW + 7),
        "ending": ending(b"gone", Status.CANCELLED),
        "reason": "nobody wants it",
    }
    return Dismissal(instance=InstanceId(id), **(defaults | fields))
