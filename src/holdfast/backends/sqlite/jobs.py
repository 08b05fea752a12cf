"""What is done to jobs, as functions of a session. Opens no connection, wakes nobody."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.backends.gates import next_moment, openings, rule_of
from holdfast.backends.jobs import Kept, as_claimed_job, as_depths, as_job_view, by_urgency, job_filter_parts, kept
from holdfast.backends.shared import split_waiters
from holdfast.backends.sqlite import gates
from holdfast.backends.sqlite.database import Session, as_json, chosen
from holdfast.backends.sqlite.gates import let_through
from holdfast.backends.sqlite.workers import require_lease
from holdfast.errors import LeaseLost
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import ClaimedJob, ClaimedJobs, Job, JobFilter, JobView, QueueDepth, SettledJobs, Settlement

# --- clients


def send(session: Session, jobs: Sequence[Job]) -> list[JobId]:
    with session.writing():
        return put_jobs(session, jobs)


def put_jobs(session: Session, jobs: Sequence[Job]) -> list[JobId]:
    """Accept those that are new, inside the caller's transaction."""
    wanted = {job.id: job for job in reversed(jobs)}
    if not wanted:
        return []
    before = {row["id"] for row in session.all("known_jobs", ids=as_json(wanted))}
    new = [job for job in dict.fromkeys(wanted[job.id] for job in jobs) if job.id not in before]
    session.many("send", [_row(job) for job in new])
    if not any(job.unique is not None for job in new):
        return [job.id for job in new]
    after = {row["id"] for row in session.all("known_jobs", ids=as_json(job.id for job in new))}
    return [job.id for job in new if job.id in after]


def _row(job: Job) -> tuple[Any, ...]:
    return (
        job.id,
        job.name,
        job.payload,
        job.queue,
        job.priority,
        job.created_at,
        job.due_at,
        job.unique,
        job.expires_at,
        job.waiter,
        job.gate_name,
        rule_of(job.gate),
    )


def holders(session: Session, unique: Sequence[str]) -> Mapping[str, JobId]:
    return {row["unique_key"]: JobId(row["id"]) for row in session.all("job_holders", uniques=as_json(unique))}


def look(session: Session, ids: Sequence[JobId], waiter: str | None) -> list[JobView]:
    if waiter is not None:
        # First ask to be told, then look: an ending in between is seen, or told.
        session.run("await_job", ids=as_json(ids), waiter=waiter)
    return [as_job_view(row) for row in session.all("look_at_jobs", ids=as_json(ids))]


def find(session: Session, filter: JobFilter) -> list[JobView]:
    sql, parameters = chosen("find_jobs", job_filter_parts(filter), end="find_jobs_end")
    return [as_job_view(row) for row in session.text(sql, {**parameters, "limit": filter.limit}).fetchall()]


def count(session: Session, filter: JobFilter) -> int:
    return session.text(*chosen("count_jobs", job_filter_parts(filter))).fetchone()["number"]


def cancel(
    session: Session, ids: Sequence[JobId], now: float, keep_until: float | None
) -> tuple[list[sqlite3.Row], int]:
    """The rows that it has changed, and how many jobs can be claimed because of that."""
    with session.writing():
        rows = session.all("cancel_jobs", ids=as_json(ids), now=now, keep_until=keep_until)
        ended = Counter(row["gate"] for row in rows if row["owner"] is None and row["gate"] is not None)
        return rows, let_through(session, ended)


def replay(session: Session, ids: Sequence[JobId], now: float) -> list[JobId]:
    with session.writing():
        return [id for id in sorted(dict.fromkeys(ids)) if session.run("replay_job", id=id, now=now)]


def purge(session: Session, ids: Sequence[JobId]) -> list[JobId]:
    return [JobId(row["id"]) for row in session.all("purge_jobs", ids=as_json(ids))]


# --- queues


def pause(session: Session, queues: Sequence[str], now: float) -> None:
    session.run("pause_queues", queues=as_json(queues), now=now)


def resume(session: Session, queues: Sequence[str]) -> int:
    return session.run("resume_queues", queues=as_json(queues))


def paused(session: Session) -> Mapping[str, float]:
    return {row["queue"]: row["since"] for row in session.all("paused_queues")}


def depths(session: Session, now: float, most: int) -> list[QueueDepth]:
    return as_depths(session.all("depths", now=now, most=most), most)


# --- workers


def claim(session: Session, worker: WorkerId, queues: Sequence[str], room: int, now: float) -> ClaimedJobs:
    """Reads first, without any lock; takes the write lock only when something is due."""
    heads = session.all("job_lanes", worker=worker)
    if not any(head["kind"] == "lease" for head in heads):
        raise LeaseLost.of(worker)
    lanes = [head for head in heads if head["kind"] == "job" and ("*" in queues or head["queue"] in queues)]
    due = by_urgency([lane for lane in lanes if lane["due_at"] <= now])
    rows: list[sqlite3.Row] = []
    moments = [lane["due_at"] for lane in lanes if lane["due_at"] > now]
    if due and room > 0:
        # All in one transaction: after it nothing may fail, or nobody would know of what was claimed.
        with session.writing():
            require_lease(session, worker)
            for lane in due:
                if len(rows) < room:
                    rows += session.all(
                        "claim_jobs",
                        worker=worker,
                        queue=lane["queue"],
                        priority=lane["priority"],
                        now=now,
                        room=room - len(rows),
                    )
            for lane in due if len(rows) < room else ():
                found = session.one("next_job", queue=lane["queue"], priority=lane["priority"], now=now)
                if found is not None and found["due_at"] is not None:
                    moments.append(found["due_at"])
    jobs = [as_claimed_job(row) for row in by_urgency(rows)]
    return ClaimedJobs(jobs=jobs, next_due=next_moment(min(moments, default=None)))


def admit(session: Session, worker: WorkerId, jobs: Sequence[ClaimedJob], now: float) -> list[JobId]:
    with session.writing():
        require_lease(session, worker)
        return gates.admit(session, worker, jobs, now)


def settle(session: Session, worker: WorkerId, settlements: Sequence[Settlement]) -> tuple[SettledJobs, bool]:
    """The answer, and whether anything new is there to be claimed."""
    wanted = {each.id: each for each in settlements}
    with session.writing():
        require_lease(session, worker)
        held = {row["id"]: row for row in session.all("held_jobs", worker=worker, ids=as_json(wanted))}
        mine = [each for each in wanted.values() if each.id in held and held[each.id]["claims"] == each.claim]
        rows = {each.id: kept(each.outcome) for each in mine}
        session.many("settle_gone", [(id,) for id, row in rows.items() if row is None])
        session.many("settle_kept", [{**row._asdict(), "id": id} for id, row in rows.items() if row is not None])
        followed = put_jobs(session, [job for each in mine for job in each.follow])
        through = let_through(session, openings(mine))
    ended = [id for id, row in rows.items() if _ends(row, held[id])]
    answer = SettledJobs(
        lost=frozenset(wanted) - rows.keys(),
        waiters=[(channel, id) for id in ended for channel in split_waiters(held[id]["waiter"])],
    )
    return answer, bool(followed) or through > 0 or len(ended) < len(rows)


def _ends(row: Kept | None, before: sqlite3.Row) -> bool:
    return row is None or row.status != "queued" or bool(before["cancelled"])


def unwanted(session: Session, worker: WorkerId, ids: Sequence[JobId]) -> list[JobId]:
    held = {row["id"] for row in session.all("held_jobs", worker=worker, ids=as_json(ids)) if not row["cancelled"]}
    return [id for id in ids if id not in held]


def report(session: Session, worker: WorkerId, progress: Mapping[JobId, bytes]) -> None:
    session.many("report", [{"id": id, "worker": worker, "progress": said} for id, said in progress.items()])


def wait_for_jobs(session: Session, worker: WorkerId, waits: bool) -> None:
    session.run("wait_for_jobs", worker=worker, waits=waits)


# --- upkeep


def sweep(session: Session, now: float, batch: int) -> int:
    session.run("sweep_gates", now=now, batch=batch)
    return session.run("sweep_jobs", now=now, batch=batch)
