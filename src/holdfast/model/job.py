"""A job: one requested call of an action or task, and what becomes of it. Data only."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from holdfast.codec import (
    decode,
    decode_exception,
    describe_error,
    describe_type,
    loads,
    show_remote_tracebacks,
    stored_traceback,
)
from holdfast.errors import TaskFailed, WorkflowFailed
from holdfast.ids import JobId


class JobStatus(enum.StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    """It is due, or will be at its time."""
    RUNNING = "running"
    """A worker holds it."""
    DONE = "done"
    FAILED = "failed"
    """It failed for good, and asked not to be kept among the dead letters."""
    DEAD = "dead"
    """It failed for good, and is among the dead letters until it is replayed or purged; `reason` says why."""
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more, unless somebody replays it."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


class Reason(enum.StrEnum):
    """Why a job failed for good."""

    FAILED = "failed"
    """Its last attempt raised."""
    EXPIRED = "expired"
    """Nobody had begun it in time."""
    UNKNOWN = "unknown"
    """No worker that took it knows a task of its name."""
    UNREADABLE = "unreadable"
    """Its message cannot be read."""
    LOST = "lost"
    """Worker after worker was lost while it ran."""


class Gate(NamedTuple):
    """What a job passes before it runs. Behind it jobs wait in order: the more urgent first, else as they were sent."""

    name: str
    limit: int | None = None
    """How many jobs of this gate run at once."""
    interval: float | None = None
    """Seconds from one beginning to the next, on average."""
    burst: int = 1
    """How many may begin at once after a pause."""


class Job(NamedTuple):
    """A request for a call. Sending twice with one id makes one job."""

    id: JobId
    name: str
    """The task's name, `module:function` unless it was named otherwise."""
    payload: bytes
    created_at: float
    due_at: float
    queue: str = "default"
    priority: int = 0
    """Higher goes first."""
    unique: str | None = None
    """While a job with this text has not ended, no other is accepted."""
    expires_at: float | None = None
    """Not begun after that moment (Unix seconds)."""
    waiter: str | None = None
    """The notification channel of a client that waits for the outcome, if one does."""
    gate: Gate | None = None
    plain: bool = False
    """Its id was made for this sending alone, and no result is kept: hardly anyone asks for it while it runs.

    A broker may forget that it knows the id once the job is claimed.
    """

    @property
    def gate_name(self) -> str | None:
        """The gate that it is to pass, if there is one."""
        return None if self.gate is None else self.gate.name


class ClaimedJob(NamedTuple):
    """A job this worker now holds, for one attempt."""

    id: JobId
    name: str
    payload: bytes
    queue: str
    attempt: int
    """From 1."""
    claim: int
    """The number of this claim among all of this job: an earlier one can settle nothing."""
    losses: int = 0
    """How often in a row the worker that held it was lost."""
    expires_at: float | None = None
    gate: Gate | None = None
    """It may not run before `Broker.admit` has let it through."""
    receipt: tuple[int, ...] | None = None
    """What its broker wants back with the settlement, if anything; of meaning to that one alone."""

    @property
    def gate_name(self) -> str | None:
        """The gate that it has passed, if it has one."""
        return None if self.gate is None else self.gate.name

    def settled(self, outcome: Outcome, follow: Sequence[Job] = ()) -> Settlement:
        """That this became of it."""
        return Settlement(self.id, self.claim, outcome, follow, self.gate_name, self.receipt)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedJobs:
    """The answer to a claim of jobs."""

    jobs: Sequence[ClaimedJob] = ()
    """The most urgent first."""
    next_due: float | None = None
    """When the next one becomes due (Unix seconds), as far as is known."""


class Done(NamedTuple):
    """The call returned. Without `keep_until` nothing remains of the job."""

    result: bytes
    """Encoded, as it is stored; `value` is the result itself."""
    ended_at: float
    keep_until: float | None = None

    @property
    def value(self) -> Any:
        """What the call returned. Raises DecodeError."""
        return decode(loads(self.result))


class Again(NamedTuple):
    """The attempt failed; there is another one at `due_at`."""

    due_at: float
    error: bytes
    """Encoded, as it is stored; `exception` is the error itself."""

    @property
    def exception(self) -> BaseException:
        """What the attempt raised, with its cause, and its traceback as a note; a TaskFailed where that cannot be made here."""
        return _exception_in(self.error)


class Failed(NamedTuple):
    """It failed for good. As a dead letter it stays until a person acts, else until `keep_until`."""

    reason: Reason
    error: bytes
    """Encoded, as it is stored; `exception` is the error itself."""
    ended_at: float
    dead: bool = True
    keep_until: float | None = None

    @property
    def exception(self) -> BaseException:
        """What the last attempt raised, with its cause, and its traceback as a note; a TaskFailed where that cannot be made
        here, and a HoldfastError that says why where it was not run.
        """
        return _exception_in(self.error)


def _exception_in(error: bytes) -> BaseException:
    tree = loads(error)
    found = decode_exception(tree)
    kind = describe_type(tree)
    if found is None or (type(found) is WorkflowFailed and found.original_type == kind):
        made = TaskFailed(describe_error(tree), original_type=kind, traceback_text=stored_traceback(tree))
        made.__cause__ = found
        return made
    show_remote_tracebacks(found, "Where it was raised")
    return found


class Cancelled(NamedTuple):
    """Somebody asked it to end, and it has."""

    ended_at: float
    keep_until: float | None = None


class Returned(NamedTuple):
    """It goes back as it was: the attempt did not count, and ends no row of losses."""

    due_at: float


Outcome = Done | Again | Failed | Cancelled | Returned


class Settlement(NamedTuple):
    """What became of a claimed job, and the jobs that follow from that."""

    id: JobId
    claim: int
    outcome: Outcome
    follow: Sequence[Job] = ()
    gate: str | None = None
    """The gate that it had passed."""
    receipt: tuple[int, ...] | None = None
    """That of the claimed job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledJobs:
    """The answer to settlements."""

    lost: frozenset[JobId] = frozenset()
    """These were not this worker's any more; nothing of them was written."""
    waiters: Sequence[tuple[str, JobId]] = ()
    """(channel, job) to notify of endings."""

    @classmethod
    def of(cls, answers: Sequence[SettledJobs]) -> SettledJobs:
        """One answer to what was settled in parts."""
        lost = frozenset[JobId]().union(*[answer.lost for answer in answers])
        return cls(lost=lost, waiters=[pair for answer in answers for pair in answer.waiters])


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelledJobs:
    """The answer to a request to cancel."""

    ended: Sequence[JobId] = ()
    """These were waiting, and are cancelled now."""
    asked: Sequence[JobId] = ()
    """These run; their workers are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """What a person or client sees of a job."""

    id: JobId
    name: str
    status: JobStatus
    queue: str
    priority: int
    attempt: int
    created_at: float
    due_at: float
    ended_at: float | None
    owner: str | None
    reason: str | None
    payload: bytes
    outcome: bytes | None
    """Of a job that is done its result, else its last error."""
    progress: bytes | None = None
    """How far it is, as its task has said last."""

    @property
    def task(self) -> str:
        """The task's name."""
        return self.name


class QueueDepth(NamedTuple):
    """How many jobs are in a queue, by where they stand."""

    queue: str
    waiting: int = 0
    """Due, or behind a gate; nobody holds them."""
    delayed: int = 0
    """Due later."""
    running: int | None = 0
    """Held by workers. None where a broker cannot tell: then they are among those that wait."""
    dead: int = 0
    more: bool = False
    """Counting ended before all were seen: there are at least so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list; every field given must hold."""

    name: str | None = None
    """The whole name of a task, or that of its function alone."""
    queue: str | None = None
    status: JobStatus | None = None
    reason: Reason | None = None
    limit: int = 50
    before: tuple[float, str] | None = None
    """Continue a listing: (created_at, id) of the last row seen; the newest come first."""
    ids: Sequence[JobId] = field(default_factory=tuple)

    @property
    def name_endings(self) -> tuple[str, str]:
        """With what the whole names end of the functions that `name` may be: they are `module:Outer.function`."""
        return f":{self.name}", f".{self.name}"

    def wants_name(self, name: str) -> bool:
        """Whether the task of this whole name is wanted."""
        return self.name is None or name == self.name or name.endswith(self.name_endings)
