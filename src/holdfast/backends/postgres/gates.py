"""Gates on PostgreSQL: jobs pass them, or wait behind them, in transactions that lock them first. Wakes nobody."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from holdfast.backends.gates import Standing, pass_gates
from holdfast.backends.postgres.line import Transaction
from holdfast.errors import LeaseLost
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import ClaimedJob


async def lock(transaction: Transaction, gates: Collection[str]) -> None:
    """Nothing changes at these gates before this transaction ends."""
    if gates:
        await transaction.fetch("lock_gates", gates=sorted(set(gates)))


async def admit(transaction: Transaction, worker: WorkerId, jobs: Sequence[ClaimedJob], now: float) -> Sequence[JobId]:
    """Let held jobs through their gates; returns those that may run. The others are held no more."""
    gated = [(job, job.gate) for job in jobs if job.gate is not None]
    await lock(transaction, [gate.name for _, gate in gated])
    rows = await transaction.fetch(
        "at_gates",
        worker=worker,
        ids=[job.id for job, _ in gated],
        claims=[job.claim for job, _ in gated],
        gates=[gate.name for _, gate in gated],
        rooms=[gate.limit or 0 for _, gate in gated],
        now=now,
    )
    if not rows and not await transaction.fetch("has_lease", worker=worker):
        raise LeaseLost.of(worker)
    standings = {JobId(row["id"]): Standing(row["before"], row["gate_paid"], row["next_at"]) for row in rows}
    passages, rates = pass_gates(jobs, standings, now)
    passages.sort(key=lambda each: each.id)
    if passages:
        await transaction.fetch(
            "pass_gates",
            worker=worker,
            ids=[each.id for each in passages],
            due_ats=[each.due_at for each in passages],
            paid=[each.paid for each in passages],
        )
    if rates:
        names = sorted(rates)
        await transaction.fetch("keep_rates", names=names, next_ats=[rates[name] for name in names])
    return [each.id for each in passages if each.due_at is None]


async def let_through(transaction: Transaction, gates: Mapping[str, int]) -> bool:
    """Let as many jobs be claimed that wait behind these gates; whether there are any that somebody waits for."""
    if not gates:
        return False
    rows = await transaction.fetch("open_gates", gates=list(gates), counts=list(gates.values()))
    return any(row["waits"] for row in rows)
