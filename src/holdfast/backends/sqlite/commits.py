"""What an owner writes, as functions of a session: a whole batch or nothing, fenced by the lease row."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from holdfast.backends.shared import split_waiters
from holdfast.backends.sqlite.clients import put_deliveries, put_starts
from holdfast.backends.sqlite.database import Session, as_json
from holdfast.backends.sqlite.workers import require_lease
from holdfast.clock import SystemClock
from holdfast.ids import InstanceId, WorkerId
from holdfast.model.instance import Commit, Committed, Ending, Park, Release
from holdfast.ports import Settled


class _Repeated(Exception):
    """Some steps were in the journal already: this batch has been here before."""


def commit(session: Session, worker: WorkerId, commits: Sequence[Commit]) -> Committed:
    try:
        with session.writing():
            return _write(session, worker, commits, applied=frozenset())
    except _Repeated:
        with session.writing():
            return _write(session, worker, commits, applied=_applied(session, commits))


def _applied(session: Session, commits: Sequence[Commit]) -> frozenset[InstanceId]:
    """Those whose last step is in the journal. A commit is whole, so all the rest of it happened then."""
    return frozenset(
        each.instance
        for each in commits
        if each.steps and session.one("has_step", instance=each.instance, seq=each.steps[-1].seq) is not None
    )


def _write(session: Session, worker: WorkerId, commits: Sequence[Commit], applied: frozenset[InstanceId]) -> Committed:
    require_lease(session, worker)
    standing = {row["id"]: row for row in session.all("standing", ids=as_json(each.instance for each in commits))}
    owned = {
        each.instance
        for each in commits
        if (row := standing.get(each.instance)) is not None
        and row["owner"] == worker
        and each.claim in (None, row["claims"])
    }
    # An earlier try may have applied those whose instances have left since.
    applied |= _applied(session, [each for each in commits if each.instance not in owned])
    fresh = [each for each in commits if each.instance in owned and each.instance not in applied]

    _append_steps(session, fresh)
    session.many("consume", [(each.instance, id) for each in fresh for id in each.consumed])
    started = put_starts(session, [start for each in fresh for start in each.starts])
    spilled = _spill(session, fresh)
    session.many("recall", [(each.instance, id) for each in fresh for id in each.recalled])
    session.many("trim", [(each.instance, each.trim_below) for each in fresh if each.trim_below is not None])
    _end(session, fresh)
    _park(session, fresh)
    # After the endings: the dead receive nothing. Before the releases: who got something stays awake.
    taken = put_deliveries(session, [delivery for each in fresh for delivery in each.deliveries])
    _release(session, fresh)
    return Committed(
        kept=_kept(session, worker, [each for each in commits if each.instance in owned]),
        waiters=_waiters([each for each in commits if each.instance in owned | applied], standing),
        owners=sorted(taken.owners),
        parked=frozenset(taken.parked),
        started=bool(started) or spilled or taken.woken,
        lost=frozenset({each.instance for each in commits} - owned - applied),
    )


def _append_steps(session: Session, commits: Sequence[Commit]) -> None:
    rows = [(each.instance, step.seq, step.at, step.full, step.payload) for each in commits for step in each.steps]
    if session.many("append_step", rows) != len(rows):
        raise _Repeated
    session.many("rebase", [(step.seq, each.instance) for each in commits for step in each.steps if step.full])


def _spill(session: Session, commits: Sequence[Commit]) -> bool:
    rows = [
        (
            call.instance,
            call.id,
            call.call,
            call.name,
            call.queue,
            call.payload,
            call.due_at,
            call.priority,
            call.attempt,
        )
        for each in commits
        for call in each.spilled
    ]
    return session.many("spill", rows) > 0


def _end(session: Session, commits: Sequence[Commit]) -> None:
    ended = [(each, each.close) for each in commits if isinstance(each.close, Ending)]
    if not ended:
        return
    session.many(
        "end",
        [
            (close.status.value, close.payload, each.steps[-1].at if each.steps else _now(), each.instance)
            for each, close in ended
        ],
    )
    ids = as_json(each.instance for each, _ in ended)
    session.run("clear_inbox", ids=ids)
    session.run("clear_calls", ids=ids)


def _now() -> float:
    return SystemClock().now()


def _park(session: Session, commits: Sequence[Commit]) -> None:
    session.many("park", [(each.close.reason, each.instance) for each in commits if isinstance(each.close, Park)])


def _release(session: Session, commits: Sequence[Commit]) -> None:
    session.many("release", [(each.close.due_at, each.instance) for each in commits if isinstance(each.close, Release)])


def _kept(session: Session, worker: WorkerId, commits: Sequence[Commit]) -> frozenset[InstanceId]:
    released = [each.instance for each in commits if isinstance(each.close, Release)]
    if not released:
        return frozenset()
    return frozenset(row["id"] for row in session.all("owned_of", ids=as_json(released), worker=worker))


def _waiters(commits: Sequence[Commit], standing: Mapping[str, sqlite3.Row]) -> Sequence[tuple[str, InstanceId]]:
    return [
        (channel, each.instance)
        for each in commits
        if isinstance(each.close, Ending) and each.instance in standing
        for channel in split_waiters(standing[each.instance]["waiter"])
    ]


def settle(session: Session, worker: WorkerId, settled: Sequence[Settled]) -> Committed:
    with session.writing():
        require_lease(session, worker)
        held = [
            each
            for each in settled
            if session.run("settle", instance=each.call.instance, id=each.call.id, worker=worker)
        ]
        taken = put_deliveries(session, [each.delivery for each in held])
        return Committed(owners=sorted(taken.owners), started=taken.woken)
