"""What an owner writes: a whole batch in one statement, fenced by the lease row. Notifies nobody."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.backends.postgres.batch import Batch, Change, assemble
from holdfast.backends.postgres.clients import delivery_columns, owners_of, told_columns, woken_among
from holdfast.backends.postgres.line import Line
from holdfast.backends.shared import Row, split_waiters
from holdfast.errors import LeaseLost
from holdfast.ids import InstanceId, WorkerId
from holdfast.model.instance import Commit, Committed
from holdfast.ports import Settled


async def commit(line: Line, worker: WorkerId, commits: Sequence[Commit]) -> Committed:
    batch = assemble(commits)
    rows = await line.fetch(batch.statement, worker=worker, **batch.values)
    if not rows:
        raise LeaseLost.of(worker)
    changed = {row["id"]: row for row in rows if row["id"] is not None}
    doubtful = await _look_up(line, commits, batch, changed)
    kept, waiters = _closed(worker, batch, changed, doubtful)
    told = [row for id, row in changed.items() if batch.changes[id].told_at is not None]
    return Committed(
        kept=frozenset(kept),
        waiters=waiters,
        owners=sorted(owners_of(told)),
        parked=frozenset(InstanceId(row["id"]) for row in told if row["status"] == "parked"),
        started=woken_among(told) or any(each.starts or each.spilled for each in commits),
        lost=frozenset(
            InstanceId(id)
            for id, row in doubtful.items()
            if not row["applied"] and not _holds(worker, batch.changes[InstanceId(id)], row)
        ),
    )


async def _look_up(
    line: Line, commits: Sequence[Commit], batch: Batch, changed: dict[InstanceId, Row]
) -> dict[InstanceId, Row]:
    """Commits that changed nothing: an earlier try had applied them, or their instance has another owner."""
    missing = [id for id, change in batch.changes.items() if change.mine and not (id in changed and changed[id]["own"])]
    if not missing:
        return {}
    last = {each.instance: each.steps[-1].seq for each in commits if each.steps}
    rows = await line.fetch("doubtful", ids=missing, seqs=[last.get(id) for id in missing])
    return {row["id"]: row for row in rows}


def _closed(
    worker: WorkerId, batch: Batch, changed: dict[InstanceId, Row], doubtful: dict[InstanceId, Row]
) -> tuple[set[InstanceId], list[tuple[str, InstanceId]]]:
    """Whose release did not happen, and whom to tell of endings."""
    kept: set[InstanceId] = set()
    waiters: list[tuple[str, InstanceId]] = []
    for id, change in batch.changes.items():
        row = doubtful.get(id) or changed.get(id)
        if row is None or not change.mine:
            continue
        if change.close == "release" and _holds(worker, change, row):
            kept.add(id)
        if change.close == "end" and (row["applied"] if id in doubtful else row["own"]):
            waiters += [(channel, id) for channel in split_waiters(row["waiter"])]
    return kept, waiters


def _holds(worker: WorkerId, change: Change, row: Row) -> bool:
    """Whether the worker owns it still, by the claim that the change names."""
    return row["owner"] == worker and change.claim in (None, row["claims"])


async def settle(line: Line, worker: WorkerId, settled: Sequence[Settled]) -> Committed:
    if not settled:
        return Committed()
    deliveries = [each.delivery for each in settled]
    rows = await line.fetch(
        "settle",
        worker=worker,
        call_instances=[each.call.instance for each in settled],
        call_ids=[each.call.id for each in settled],
        **told_columns(deliveries),
        **delivery_columns(deliveries),
    )
    if not rows:
        raise LeaseLost.of(worker)
    told = [row for row in rows if row["id"] is not None]
    return Committed(owners=sorted(owners_of(told)), started=woken_among(told))
