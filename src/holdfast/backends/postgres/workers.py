"""What workers do about leases, claims and inboxes. Remembers only what a broken connection left in doubt."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from holdfast.backends.postgres.clients import CLOCK_SLACK
from holdfast.backends.postgres.gates import let_through, lock
from holdfast.backends.postgres.line import Line, Transaction
from holdfast.backends.shared import Row, as_call, as_claimed, as_delivery, as_step, as_worker
from holdfast.errors import LeaseLost, StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.model.instance import Claimed, Claims, Delivery, SpilledCall, Step, WorkerView
from holdfast.ports import Beat, Enlistment


async def enlist(line: Line, worker: Enlistment) -> None:
    await line.fetch(
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


async def heartbeat(line: Line, worker: WorkerId, lease: float, now: float) -> Beat:
    values = {"worker": worker, "expires_at": now + lease, "lease": lease, "now": now}
    [row] = await line.fetch("beat", **values)
    if row["expired"]:
        await relieve_expired(line, now)
        [row] = await line.fetch("beat", **values)
    return Beat(alive=row["alive"] > 0, workers=row["workers"], idle_workers=row["idle"])


async def relieve_expired(line: Line, now: float) -> None:
    """End every expired lease and put back what it held."""

    async def work(transaction: Transaction) -> None:
        for row in await transaction.fetch("bury", now=now):
            await transaction.fetch("recover_instances", worker=row["worker"], now=now)
            await transaction.fetch("free_calls", worker=row["worker"], now=now)
            await _recover_jobs(transaction, row["worker"], now, lost=1)

    await line.transact(work)


async def retire(line: Line, worker: WorkerId, now: float) -> None:
    async def work(transaction: Transaction) -> None:
        # The statements after this one see what a commit wrote that this one had to wait for.
        await transaction.fetch("discharge", worker=worker)
        await transaction.fetch("free_instances", worker=worker, now=now)
        await transaction.fetch("free_calls", worker=worker, now=now)
        await _recover_jobs(transaction, worker, now, lost=0)

    await line.transact(work)


async def _recover_jobs(transaction: Transaction, worker: str, now: float, *, lost: int) -> None:
    # Gates before jobs, as everywhere: its lease is gone, so that it comes to hold no others.
    await lock(transaction, [row["gate"] for row in await transaction.fetch("gates_held", worker=worker)])
    # First what may become rows of its own meanwhile: the statement after it finds those.
    await transaction.fetch("recover_bundles", worker=worker, now=now, lost=lost)
    rows = await transaction.fetch("recover_jobs", worker=worker, now=now, lost=lost)
    await let_through(transaction, Counter(row["gate"] for row in rows if row["gate"] is not None))


async def idle(line: Line, worker: WorkerId, idle: bool) -> None:
    await line.fetch("idle", worker=worker, idle=idle)


async def workers(line: Line, now: float) -> list[WorkerView]:
    return [as_worker(row) for row in await line.fetch("workers", now=now)]


async def take_inbox(line: Line, worker: WorkerId) -> list[Delivery]:
    return [as_delivery(row) for row in await line.fetch("take_inbox", worker=worker)]


async def held_calls(line: Line, worker: WorkerId, ids: Sequence[str]) -> list[str]:
    return [row["id"] for row in await line.fetch("held_calls", worker=worker, ids=list(ids))]


class Claiming:
    """Claims of the workers of one store. A claim whose answer got lost is found again by its ticket."""

    def __init__(self) -> None:
        self._doubtful: dict[WorkerId, list[int]] = defaultdict(list)

    async def claim(
        self, line: Line, worker: WorkerId, *, queues: Sequence[str], room: int, call_room: int, now: float
    ) -> Claims:
        for last in (False, True):
            try:
                if self._doubtful[worker] and (found := await self._recall(line, worker)) is not None:
                    return found
                return await self._claim(line, worker, queues, room, call_room, now)
            except StoreUnavailable:
                if last:
                    raise
            except LeaseLost:
                del self._doubtful[worker]
                raise
        raise AssertionError("unreachable")

    async def _claim(
        self, line: Line, worker: WorkerId, queues: Sequence[str], room: int, call_room: int, now: float
    ) -> Claims:
        ticket = random.getrandbits(62)
        self._doubtful[worker].append(ticket)
        values = {
            "worker": worker,
            "ticket": ticket,
            "any_queue": "*" in queues,
            "queues": list(queues),
            "now": now,
        }
        rows = await line.fetch_once("claim", room=room, **values)
        if not rows:
            raise LeaseLost.of(worker)
        calls: list[SpilledCall] = []
        moments = [rows[0]["next_due"]]
        if call_room > 0 and rows[0]["calls"]:
            call_rows = await line.fetch_once("claim_calls", room=call_room, **values)
            if not call_rows:
                raise LeaseLost.of(worker)
            calls = [as_call(row) for row in call_rows if row["id"] is not None]
            moments.append(call_rows[0]["next_due"])
        taken = [row for row in rows if row["id"] is not None]
        instances = await _with_steps(line, taken, {row["id"]: row for row in taken if row["at"] is not None})
        self._doubtful[worker].remove(ticket)
        return Claims(
            instances=instances,
            calls=sorted(calls, key=lambda call: (-call.priority, call.due_at)),
            next_due=min((moment for moment in moments if moment is not None), default=None),
            more_calls=bool(rows[0]["calls"]) and len(calls) >= call_room,
        )

    async def _recall(self, line: Line, worker: WorkerId) -> Claims | None:
        """What earlier claims took although their answer did not arrive; None if they took nothing."""
        tickets = list(self._doubtful[worker])
        rows = await line.fetch("claimed_under", worker=worker, tickets=tickets)
        calls = [as_call(row) for row in await line.fetch("calls_under", worker=worker, tickets=tickets)]
        instances = await _with_steps(line, rows, {})
        self._doubtful[worker] = [each for each in self._doubtful[worker] if each not in tickets]
        return Claims(instances=instances, calls=calls) if instances or calls else None


async def _with_steps(line: Line, rows: Sequence[Row], first: dict[str, Row]) -> list[Claimed]:
    """Claimed instances, the most urgent first. `first`: those whose only step came with the claim."""
    rows = sorted(rows, key=lambda row: (-row["priority"], row["due_at"]))
    steps: dict[str, dict[int, Step]] = defaultdict(dict)
    others = [row for row in rows if row["id"] not in first]
    if others:
        found = await line.fetch(
            "claimed_steps",
            ids=[row["id"] for row in others],
            base_seqs=[row["base_seq"] for row in others],
            since=[row["base_at"] - CLOCK_SLACK for row in others],
        )
        for row in found:
            steps[row["instance"]][row["seq"]] = as_step(row)
    for id, row in first.items():
        steps[id][0] = Step(seq=0, at=row["at"], payload=row["payload"], full=True)
    return [as_claimed(row, [step for _, step in sorted(steps[row["id"]].items())]) for row in rows]
