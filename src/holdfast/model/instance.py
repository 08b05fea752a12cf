"""An instance: one durable run of a workflow, and the records by which it is started, stepped, and told things."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from holdfast.ids import InstanceId, ProgramHash


class Status(enum.StrEnum):
    """Where an instance stands. `pending` and `parked` and all after them are what a person sees."""

    PENDING = "pending"
    """Runnable or running, or asleep until something happens."""
    PARKED = "parked"
    """It cannot go on until a person does something; `reason` says what."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will ever change any more."""
        return self in (Status.DONE, Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProgram:
    """A compiled program as it is kept: its hash, its text form, and the signature over it if one is required."""

    hash: ProgramHash
    name: str
    text: str
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A request for a new instance. Asking twice with one id makes one instance."""

    id: InstanceId
    name: str
    """The workflow's name, `module:Class` unless it was named otherwise."""
    program: ProgramHash
    input: bytes
    """Step 0 of its journal: a full state made from the arguments."""
    created_at: float
    due_at: float
    queue: str = "default"
    priority: int = 0
    """Higher goes first."""
    parent: InstanceId | None = None
    parent_call: str | None = None
    """The call in the parent that waits for this one's outcome; None when nobody does."""
    waiter: str | None = None
    """The notification channel of a client that waits for the outcome, if one does."""
    tags: str = ""
    """Who asked: the schedule's tick, the parent, the fork's origin, as `key=value` words for people."""


class Step(NamedTuple):
    """One row of an instance's journal. `full` rows hold a whole state, others what changed since the row before.

    `at` is never less than that of the step before it, whatever a new owner's clock says.
    """

    seq: int
    at: float
    payload: bytes
    full: bool = False


class DeliveryKind(enum.StrEnum):
    """What an inbox row brings."""

    MESSAGE = "message"
    CANCEL = "cancel"
    RESULT = "result"
    """The outcome of a call that ran elsewhere: a job, or a child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Something for an instance's inbox. Delivering twice with one id delivers once."""

    id: str
    instance: InstanceId
    kind: DeliveryKind
    key: str
    """MESSAGE: its name or type; RESULT: the call's id; CANCEL: empty, or `parent:call` of a call that was given up."""
    payload: bytes
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an instance ended: its status and the outcome's payload (a value, or an exception)."""

    status: Status
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The owner lets go: the instance waits until `due_at` (Unix seconds; None: until something is delivered).

    It does not happen while something is in the inbox that was not consumed: nobody sleeps on unread mail.
    """

    due_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """The owner lets go and nobody may claim it until a person acts."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpilledCall:
    """A call handed to other workers: a Job whose outcome goes to the instance's inbox."""

    id: str
    instance: InstanceId
    call: str
    name: str
    queue: str
    payload: bytes
    due_at: float
    priority: int = 0
    attempt: int = 1


class Commit(NamedTuple):
    """All that one instance produced since its last commit; applied whole or not at all."""

    instance: InstanceId
    steps: Sequence[Step] = ()
    close: Ending | Release | Park | None = None
    consumed: Sequence[str] = ()
    """Ids of the inbox rows folded into these steps."""
    starts: Sequence[Start] = ()
    deliveries: Sequence[Delivery] = ()
    spilled: Sequence[SpilledCall] = ()
    recalled: Sequence[str] = ()
    """Ids of spilled calls nobody wants any more."""
    trim_below: int | None = None
    """Journal rows with a lower seq are no longer needed for recovery or retention and may be deleted."""
    claim: int | None = None
    """The `Claimed.claim` under which this was produced: a later one, though by the same worker, refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismissal:
    """The end of an instance in which nothing runs, given to it from outside."""

    instance: InstanceId
    step: Step
    """The row that ends its journal; it must follow the last one there is."""
    ending: Ending
    reason: str
    deliveries: Sequence[Delivery] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What the owner learns from a commit."""

    kept: frozenset[InstanceId] = frozenset()
    """Instances whose Release did not happen, because of something unread in their inbox."""
    waiters: Sequence[tuple[str, InstanceId]] = ()
    """(channel, instance) to notify of endings."""
    owners: Sequence[str] = ()
    """Workers (ids) that own instances which got deliveries; they should look into their inbox."""
    parked: frozenset[InstanceId] = frozenset()
    """Instances that got deliveries and are parked, so that nobody will look into their inbox."""
    started: bool = False
    """Whether new claimable work came into being (children, spilled calls, deliveries to unowned instances)."""
    lost: frozenset[InstanceId] = frozenset()
    """Instances this worker does not own any more, or owns by a later claim: nothing of their commits was written."""


class Claimed(NamedTuple):
    """An instance this worker now owns, with what is needed to go on."""

    id: InstanceId
    name: str
    program: ProgramHash
    queue: str
    created_at: float
    parent: InstanceId | None
    parent_call: str | None
    recoveries: int
    """How often in a row it was taken over from a lost worker, without a step in between."""
    claim: int = 0
    """The number of this claim among all of this instance."""
    told: bool = True
    """Whether anything may be in its inbox."""
    steps: Sequence[Step] = ()
    """From the latest full row on, in order; the last one is where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The answer to a claim."""

    instances: Sequence[Claimed] = ()
    calls: Sequence[SpilledCall] = ()
    next_due: float | None = None
    """When the next sleeping instance or delayed call becomes due (Unix seconds), as far as is known."""
    more_calls: bool = False
    """Spilled calls may be left, for want of room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """What a person or client sees of an instance."""

    id: InstanceId
    name: str
    program: ProgramHash
    status: Status
    queue: str
    priority: int
    created_at: float
    ended_at: float | None
    due_at: float | None
    """When it is to be claimed; None while a worker has it, and where nothing but mail wakes it."""
    owner: str | None
    parent: InstanceId | None
    reason: str | None
    tags: str
    outcome: bytes | None = None
    parent_call: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A live worker as the store knows it."""

    id: str
    host: str
    pid: int
    queues: str
    started_at: float
    expires_at: float
    idle: bool
    owned: int = 0
    """Instances and jobs that it holds."""
    beat_at: float | None = None
    """When its last sign of life came (Unix seconds)."""
    version: str = ""
    """Its release of Holdfast; "" where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFilter:
    """Which instances to list; every field given must hold."""

    name: str | None = None
    """The workflow's whole name, or its class alone."""
    status: Status | None = None
    parent: InstanceId | None = None
    tag: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    limit: int = 50
    before: tuple[float, str] | None = None
    """Continue a listing: (created_at, id) of the last row seen; the newest come first."""
    ids: Sequence[InstanceId] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A stored schedule. `spec` is its JSON description, `next_at` its next tick (Unix seconds)."""

    id: str
    spec: bytes
    next_at: float | None
    paused: bool = False
    last_at: float | None = None
    """The last tick that started an instance."""
    skipped: int = 0
    """How many ticks started nothing because of an instance that ran."""
    version: int = 0
