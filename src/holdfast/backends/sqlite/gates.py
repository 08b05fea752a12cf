"""Gates on SQLite: jobs pass them, or wait behind them, inside the transaction of whoever asks. Wakes nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast.backends.gates import Standing, pass_gates
from holdfast.backends.sqlite.database import Session
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import ClaimedJob


def admit(session: Session, worker: WorkerId, jobs: Sequence[ClaimedJob], now: float) -> list[JobId]:
    """Let held jobs through their gates; returns those that may run. The others are held no more."""
    standings: dict[JobId, Standing] = {}
    for job in jobs:
        if job.gate is None:
            continue
        asked = {"id": job.id, "claim": job.claim, "gate": job.gate.name, "room": job.gate.limit or 0}
        found = session.one("at_gate", worker=worker, now=now, **asked)
        if found is not None:
            standings[job.id] = Standing(found["before"], bool(found["gate_paid"]), found["next_at"])
    passages, rates = pass_gates(jobs, standings, now)
    session.many("pass_gate", [{"worker": worker, **each._asdict()} for each in passages])
    session.many("keep_rate", [{"name": name, "next_at": next_at} for name, next_at in rates.items()])
    return [each.id for each in passages if each.due_at is None]


def let_through(session: Session, gates: Mapping[str, int]) -> int:
    """Let as many jobs be claimed that wait behind these gates; returns how many there were."""
    return sum(session.run("open_gate", gate=gate, count=count) for gate, count in gates.items())
