"""Jobs as the server keeps them: a line of JSON for what scripts read, and after it the bytes that only we read.

What changes is kept apart from what was sent: `past` of those that were claimed before, `ended` of those that ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from holdfast.backends.redis.connection import Argument
from holdfast.errors import StoreError
from holdfast.ids import JobId
from holdfast.model.job import (
    Again,
    Cancelled,
    ClaimedJob,
    Done,
    Failed,
    Gate,
    Job,
    JobStatus,
    JobView,
    Outcome,
    Returned,
)

LARGEST = 64 * 1024 * 1024
"""Bytes of a message or outcome, at most: the server would break the connection at 512 MB, and stand still before."""
CANCELLED_KEPT = 3600.0
"""Seconds for which a job is kept that was cancelled while nobody could say for how long."""


class Sent(NamedTuple):
    """What of a job is written once."""

    lane: str
    """Its priority and queue."""
    name: str
    created_at: float
    due_at: float
    expires_at: float | None
    unique: str | None
    payload: bytes
    gate: Gate | None = None

    @property
    def queue(self) -> str:
        return self.lane.partition(":")[2]

    @property
    def priority(self) -> int:
        return int(self.lane.partition(":")[0])


class Past(NamedTuple):
    """What has become of a job so far."""

    claims: int = 0
    attempt: int = 1
    losses: int = 0
    due_at: float | None = None
    replayed: bool = False
    """It does not expire any more."""
    error: bytes | None = None


class Ended(NamedTuple):
    """How a job ended."""

    status: JobStatus
    ended_at: float
    reason: str | None
    outcome: bytes | None


# --- writing


def lane_of(queue: str, priority: int) -> str:
    return f"{priority}:{queue}"


def as_arguments(job: Job) -> Sequence[Argument]:
    """What `send` and `settle` take for one job. Raises StoreError for one that cannot be kept."""
    lane = lane_of(job.queue, job.priority)
    head: list[Any] = [lane, job.name, job.created_at, job.due_at, job.expires_at, job.unique]
    gate = None if job.gate is None else _gate(job, job.gate)
    if gate is not None:
        head.append(gate)
    blob = _packed(head, job.payload, f"the message of job {job.id}")
    # A mark before them tells an empty text from none.
    unique = "" if job.unique is None else f"={job.unique}"
    passes = b"" if gate is None else orjson.dumps(gate)
    return (_told(job.id), blob, lane, job.priority, repr(job.due_at), unique, job.waiter or "", passes)


def _gate(job: Job, gate: Gate) -> list[Any]:
    """A gate as it is kept; it begins with the job's place there: the more urgent are first, else those sent earlier."""
    place = f"{2**31 - job.priority:010d} {job.created_at:018.6f} {job.id}"
    return [place, gate.limit, gate.interval, gate.burst, gate.name]


def ended_of(outcome: Outcome, id: JobId) -> tuple[str, str, bytes] | None:
    """Status, until when it is kept ("" for ever) and the row of a job that ended so; None where nothing remains of it."""
    match outcome:
        case Done(result, ended_at, keep_until):
            status, reason, kept = "done", None, result
        case Failed(reason_why, error, ended_at, dead, keep_until):
            status, reason, kept = ("dead" if dead else "failed"), reason_why.value, error
            keep_until = keep_until if not dead else None
        case Cancelled(ended_at, keep_until):
            status, reason, kept = "cancelled", None, b""
        case _:
            raise AssertionError("it has not ended")
    if keep_until is None and status != "dead":
        return None
    return status, _moment(keep_until), _packed([status, ended_at, reason], kept, f"the outcome of job {id}")


def back_of(outcome: Again | Returned, id: JobId) -> Sequence[Argument]:
    """When it is due, whether an attempt was spent, until when it is kept if it was cancelled, and its error."""
    again = isinstance(outcome, Again)
    error = outcome.error if again else b""
    _check_size(error, f"the error of job {id}")
    return (repr(outcome.due_at), int(again), repr(outcome.due_at + CANCELLED_KEPT), b"=" + error if again else b"")


def _packed(head: list[Any], rest: bytes, what: str) -> bytes:
    _check_size(rest, what)
    try:
        return orjson.dumps(head) + b"\n" + rest
    except orjson.JSONEncodeError as error:
        raise StoreError(f"{what} cannot be kept: its names are no text ({error})") from error


def _check_size(data: bytes, what: str) -> None:
    if len(data) > LARGEST:
        raise StoreError(
            f"{what} has {len(data):,} bytes, and Redis takes {LARGEST:,} at most: keep it elsewhere, and send its name"
        )


def _moment(moment: float | None) -> str:
    return "" if moment is None else repr(moment)


def _told(id: str) -> str:
    try:
        id.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"the id {id!r} is no text: {error}") from error
    return id


# --- reading


def read_sent(blob: bytes) -> Sent:
    head, _, payload = blob.partition(b"\n")
    lane, name, created_at, due_at, expires_at, unique, *more = orjson.loads(head)
    gate = None
    if more:
        _, limit, interval, burst, at = more[0]
        gate = Gate(at, limit, interval, burst)
    return Sent(lane, name, created_at, due_at, expires_at, unique, payload, gate)


def read_past(row: bytes | None) -> Past:
    if row is None:
        return Past()
    head, _, error = row.partition(b"\n")
    claims, attempt, losses, due_at, replayed = head.split(b" ")
    return Past(int(claims), int(attempt), int(losses), float(due_at), replayed == b"1", error[1:] if error else None)


def read_ended(row: bytes) -> Ended:
    head, _, outcome = row.partition(b"\n")
    status, ended_at, reason = orjson.loads(head)
    return Ended(JobStatus(status), ended_at, reason, outcome if status != "cancelled" or outcome else None)


def claimed(id: str, blob: bytes, row: bytes | None) -> ClaimedJob:
    """A job that was just claimed."""
    sent, past = read_sent(blob), read_past(row)
    expires_at = None if past.replayed else sent.expires_at
    return ClaimedJob(
        JobId(id),
        sent.name,
        sent.payload,
        sent.queue,
        past.attempt,
        past.claims + 1,
        past.losses,
        expires_at,
        sent.gate,
    )


def as_view(
    id: str, blob: bytes, row: bytes | None, held: bytes | None, ended: bytes | None, progress: bytes | None = None
) -> JobView:
    sent, past = read_sent(blob), read_past(row)
    end = None if ended is None else read_ended(ended)
    standing = JobStatus.QUEUED if held is None else JobStatus.RUNNING
    return JobView(
        id=JobId(id),
        name=sent.name,
        status=standing if end is None else end.status,
        queue=sent.queue,
        priority=sent.priority,
        attempt=past.attempt,
        created_at=sent.created_at,
        due_at=sent.due_at if past.due_at is None else past.due_at,
        ended_at=None if end is None else end.ended_at,
        owner=None if held is None else owner_of(held),
        reason=None if end is None else end.reason,
        payload=sent.payload,
        outcome=past.error if end is None or end.outcome is None else end.outcome,
        progress=progress,
    )


def fence(claim: int, worker: str) -> str:
    """What begins the row of a job that is held under this claim."""
    return f"{claim} {worker} "


def owner_of(held: bytes) -> str:
    return held.decode().split(" ", 1)[1].rpartition(" ")[0]
