"""What every SQL broker does alike: jobs as columns, rows as jobs. Knows no driver and no statement's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from holdfast.backends.gates import gate_of, shown_due
from holdfast.backends.shared import Row, split_waiters
from holdfast.ids import JobId
from holdfast.model.job import (
    Again,
    Cancelled,
    CancelledJobs,
    ClaimedJob,
    Done,
    Failed,
    JobFilter,
    JobStatus,
    JobView,
    Outcome,
    QueueDepth,
    Returned,
)
from holdfast.ports import inbox_channel


class Kept(NamedTuple):
    """What a settled job's row becomes."""

    status: str
    due_at: float | None = None
    failed: int = 0
    """Whether an attempt was spent, as a number to be added."""
    ended_at: float | None = None
    keep_until: float | None = None
    reason: str | None = None
    outcome: bytes | None = None


def kept(outcome: Outcome) -> Kept | None:
    """The row of a job with this outcome; None where nothing remains of it."""
    match outcome:
        case Done(result, ended_at, keep_until):
            if keep_until is None:
                return None
            return Kept("done", ended_at=ended_at, keep_until=keep_until, outcome=result)
        case Again(due_at, error):
            return Kept("queued", due_at, failed=1, outcome=error)
        case Failed(reason, error, ended_at, dead, keep_until):
            if dead:
                return Kept("dead", ended_at=ended_at, reason=reason.value, outcome=error)
            if keep_until is None:
                return None
            return Kept("failed", ended_at=ended_at, keep_until=keep_until, reason=reason.value, outcome=error)
        case Cancelled(ended_at, keep_until):
            return None if keep_until is None else Kept("cancelled", ended_at=ended_at, keep_until=keep_until)
        case Returned(due_at):
            return Kept("queued", due_at)


def as_claimed_job(row: Row, receipt: tuple[int, ...] | None = None) -> ClaimedJob:
    return ClaimedJob(
        row["id"],
        row["name"],
        row["payload"],
        row["queue"],
        row["attempt"],
        row["claims"],
        row["losses"],
        row["expires_at"],
        gate_of(row["gate"], row["gate_rule"]),
        receipt,
    )


def as_job_view(row: Row) -> JobView:
    status = JobStatus(row["status"])
    return JobView(
        id=JobId(row["id"]),
        name=row["name"],
        status=JobStatus.RUNNING if status is JobStatus.QUEUED and row["owner"] is not None else status,
        queue=row["queue"],
        priority=row["priority"],
        attempt=row["attempt"],
        created_at=row["created_at"],
        due_at=shown_due(row["due_at"], row["created_at"]),
        ended_at=row["ended_at"],
        owner=row["owner"],
        reason=row["reason"],
        payload=row["payload"],
        outcome=row["outcome"],
        progress=row["progress"],
    )


def as_depths(rows: Sequence[Row], most: int) -> list[QueueDepth]:
    """The depths of queues, from how many jobs of a kind there are in each; `queued` are those that wait or are delayed."""
    found: dict[str, dict[str, int]] = {}
    sums: Counter[str] = Counter()
    for row in rows:
        found.setdefault(row["queue"], {})[row["kind"]] = row["number"]
        sums[row["kind"]] += row["number"]
    return [
        QueueDepth(
            queue,
            waiting=kinds.get("queued", 0) - kinds.get("delayed", 0),
            delayed=kinds.get("delayed", 0),
            running=kinds.get("running", 0),
            dead=kinds.get("dead", 0),
            # Of those that run and the dead, so many were looked at over all queues.
            more=kinds.get("queued", 0) >= most
            or any(kinds.get(kind) and sums[kind] >= most for kind in ("running", "dead")),
        )
        for queue, kinds in sorted(found.items())
    ]


def as_cancelled(rows: Sequence[Row]) -> tuple[CancelledJobs, dict[str, str]]:
    """The answer to a request to cancel, from the rows it has changed, and who is to be told, by channel."""
    ended = [row for row in rows if row["owner"] is None]
    asked = [row for row in rows if row["owner"] is not None]
    news = {inbox_channel(row["owner"]): "" for row in asked}
    news |= {channel: "" for row in ended for channel in split_waiters(row["waiter"])}
    answer = CancelledJobs(
        ended=[JobId(row["id"]) for row in ended],
        asked=[JobId(row["id"]) for row in asked],
    )
    return answer, news


def by_urgency(rows: Sequence[Row]) -> list[Row]:
    """Claimed rows, the most urgent first."""
    return sorted(rows, key=lambda row: (-row["priority"], row["due_at"]))


def job_filter_parts(filter: JobFilter) -> Iterator[tuple[str, dict[str, Any]]]:
    """The `.sql` fragments (`jobs_…`) this filter needs, with their parameters."""
    if filter.name is not None:
        function, inner = filter.name_endings
        yield "jobs_by_name", {"name": filter.name, "function": function, "inner": inner}
    if filter.queue is not None:
        yield "jobs_by_queue", {"queue": filter.queue}
    match filter.status:
        case None:
            pass
        case JobStatus.QUEUED:
            yield "jobs_that_wait", {}
        case JobStatus.RUNNING:
            yield "jobs_that_run", {}
        case ended:
            yield "jobs_by_end", {"status": ended.value}
    if filter.reason is not None:
        yield "jobs_by_reason", {"reason": filter.reason.value}
    if filter.before is not None:
        yield "jobs_by_page", {"page_at": filter.before[0], "page_id": filter.before[1]}
    if filter.ids:
        yield "jobs_by_ids", {"ids": list(filter.ids)}
