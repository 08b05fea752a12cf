"""What workers do about leases, claims and inboxes, as functions of a session. Commits live next door."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence

from holdfast.backends.shared import as_call, as_claimed, as_delivery, as_step, as_worker
from holdfast.backends.sqlite.database import Session, as_json
from holdfast.backends.sqlite.gates import let_through
from holdfast.errors import LeaseLost
from holdfast.ids import WorkerId
from holdfast.model.instance import Claimed, Claims, Delivery, SpilledCall, Step, WorkerView
from holdfast.ports import Beat, Enlistment


def enlist(session: Session, worker: Enlistment) -> None:
    session.run(
        "enlist",
        worker=worker.id,
        host=worker.host,
        pid=worker.pid,
        queues=",".join(worker.queues),
        now=worker.now,
        expires_at=worker.now + worker.lease,
        lease=worker.lease,
        version=worker.version,
    )


def heartbeat(session: Session, worker: WorkerId, lease: float, now: float) -> Beat:
    alive = session.run("beat", worker=worker, expires_at=now + lease, lease=lease, now=now) > 0
    census = session.one("census", now=now)
    if census is not None and census["expired"]:
        relieve_expired(session, now)
        census = session.one("census", now=now)
    assert census is not None
    return Beat(alive=alive, workers=census["workers"], idle_workers=census["idle"])


def relieve_expired(session: Session, now: float) -> None:
    """End every expired lease and put back what it held."""
    with session.writing():
        for row in session.all("bury", now=now):
            session.run("recover_instances", worker=row["worker"], now=now)
            session.run("free_calls", worker=row["worker"], now=now)
            _recover_jobs(session, row["worker"], now, lost=1)


def retire(session: Session, worker: WorkerId, now: float) -> None:
    with session.writing():
        session.run("discharge", worker=worker)
        session.run("free_instances", worker=worker, now=now)
        session.run("free_calls", worker=worker, now=now)
        _recover_jobs(session, worker, now, lost=0)


def _recover_jobs(session: Session, worker: str, now: float, *, lost: int) -> None:
    rows = session.all("recover_jobs", worker=worker, now=now, lost=lost)
    let_through(session, Counter(row["gate"] for row in rows if row["gate"] is not None))


def idle(session: Session, worker: WorkerId, idle: bool) -> None:
    session.run("idle", worker=worker, idle=idle)


def workers(session: Session, now: float) -> list[WorkerView]:
    return [as_worker(row) for row in session.all("workers", now=now)]


def require_lease(session: Session, worker: WorkerId) -> None:
    """Raise `LeaseLost` unless `worker` still has its lease."""
    if session.one("lease", worker=worker) is None:
        raise LeaseLost.of(worker)


# --- claims


def claim(session: Session, worker: WorkerId, queues: Sequence[str], room: int, call_room: int, now: float) -> Claims:
    """Reads first, without any lock; takes the write lock only when something is due."""
    heads = session.all("lanes", worker=worker)
    if not any(head["kind"] == "lease" for head in heads):
        raise LeaseLost.of(worker)
    wanted = [head for head in heads if head["kind"] != "lease" and ("*" in queues or head["queue"] in queues)]
    due = [head for head in wanted if head["due_at"] <= now]
    instances: list[Claimed] = []
    calls: list[SpilledCall] = []
    if any((room if head["kind"] == "instance" else call_room) > 0 for head in due):
        with session.writing():
            require_lease(session, worker)
            due.sort(key=lambda head: (-head["priority"], head["due_at"]))
            instances = _claim_instances(session, worker, due, room, now)
            calls = _claim_calls(session, worker, due, call_room, now)
    next_due = _next_due(session, wanted, now, full=len(instances) >= room > 0)
    more_calls = len(calls) >= call_room and any(head["kind"] != "instance" for head in due)
    return Claims(instances=instances, calls=calls, next_due=next_due, more_calls=more_calls)


def _claim_instances(
    session: Session, worker: WorkerId, lanes: Sequence[sqlite3.Row], room: int, now: float
) -> list[Claimed]:
    rows: list[sqlite3.Row] = []
    for lane in lanes:
        if lane["kind"] == "instance" and len(rows) < room:
            taken = session.all(
                "claim_instances",
                worker=worker,
                queue=lane["queue"],
                priority=lane["priority"],
                now=now,
                room=room - len(rows),
            )
            rows += sorted(taken, key=lambda row: row["due_at"])
    if not rows:
        return []
    steps: dict[str, list[Step]] = defaultdict(list)
    for row in session.all("claimed_steps", ids=as_json(row["id"] for row in rows)):
        steps[row["instance"]].append(as_step(row))
    return [as_claimed(row, steps[row["id"]]) for row in rows]


def _claim_calls(
    session: Session, worker: WorkerId, lanes: Sequence[sqlite3.Row], room: int, now: float
) -> list[SpilledCall]:
    calls: list[SpilledCall] = []
    for lane in lanes:
        if lane["kind"] == "call" and len(calls) < room:
            taken = session.all(
                "claim_calls",
                worker=worker,
                queue=lane["queue"],
                priority=lane["priority"],
                now=now,
                room=room - len(calls),
            )
            calls += sorted(map(as_call, taken), key=lambda call: call.due_at)
    return calls


def _next_due(session: Session, lanes: Sequence[sqlite3.Row], now: float, *, full: bool) -> float | None:
    """The earliest moment of a lane that is not due. A worker whose room was filled comes back anyway."""
    moments = [lane["due_at"] for lane in lanes if lane["due_at"] > now]
    if not full:
        for lane in lanes:
            if lane["due_at"] <= now:
                row = session.one(f"next_{lane['kind']}", queue=lane["queue"], priority=lane["priority"], now=now)
                if row is not None and row["due_at"] is not None:
                    moments.append(row["due_at"])
    return min(moments, default=None)


# --- inbox


def take_inbox(session: Session, worker: WorkerId) -> list[Delivery]:
    return [as_delivery(row) for row in session.all("take_inbox", worker=worker)]


def held_calls(session: Session, worker: WorkerId, ids: Sequence[str]) -> list[str]:
    return [row["id"] for row in session.all("held_calls", worker=worker, ids=as_json(ids))]
