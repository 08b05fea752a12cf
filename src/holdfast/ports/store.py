"""The port of single-writer state: instances, their journals and inboxes, and the leases of those who own them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast.ids import InstanceId, ProgramHash, WorkerId
from holdfast.model.instance import (
    Claims,
    Commit,
    Committed,
    Delivery,
    Dismissal,
    InstanceFilter,
    InstanceView,
    ScheduleRow,
    SpilledCall,
    Start,
    Step,
    StoredProgram,
    WorkerView,
)
from holdfast.ports.broker import Broker


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreTraits:
    """What a store can do beyond the port; conformance tests and the runtime read it."""

    name: str
    notifies: bool
    """It pushes wake-ups between processes; where it does not, callers poll."""
    embedded: bool
    """It lives in this process's files: a caller without a worker may work itself."""
    sees_changes: bool = False
    """`version` tells when another process has written, so that callers may ask often; else they look now and then."""
    ephemeral: bool = False
    """It ends with this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The answer to a heartbeat."""

    alive: bool
    """False: the lease ended and others have taken this worker's instances."""
    workers: int
    """How many workers are alive, this one included."""
    idle_workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlistment:
    """How a worker presents itself to the store."""

    id: WorkerId
    host: str
    pid: int
    queues: Sequence[str]
    lease: float
    """Seconds without a heartbeat after which its work goes to others."""
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The outcome of one attempt of a spilled call, for the inbox of its instance."""

    call: SpilledCall
    delivery: Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a garbage collection removed."""

    instances: int = 0
    steps: int = 0
    partitions: int = 0


CLIENT_CHANNEL = "hf_c_"
"""What the channels of waiting clients begin with."""
WORK_CHANNEL = "hf_work"
"""Notified when there is claimable work and some worker is idle."""


def inbox_channel(worker: str) -> str:
    """Notified when an instance that `worker` owns has something in its inbox."""
    return f"hf_w_{worker}"


WakeUp = Callable[[str, str], None]
"""Called from the event loop with the name of the channel that was notified, and what was said there."""

NEWS_LIMIT = 4000
"""Bytes in UTF-8 of what is said on a channel, at most."""


class Store(Protocol):
    """Single-writer state of instances. All moments are Unix seconds in UTC, made by the caller.

    Every method may raise `StoreUnavailable`; then nothing is known to have happened, and the same call may be
    repeated: all of them are idempotent. Methods that act for a worker raise `LeaseLost` when its lease is gone.
    """

    @property
    def traits(self) -> StoreTraits: ...

    async def open(self, *, create: bool = True) -> None:
        """Connect, and create or migrate the schema (safe from many processes at once).

        Raises ConfigurationError where there can be no database, or with `create=False` where there is none.
        """
        ...

    async def close(self) -> None: ...

    def abandon(self) -> None:
        """Let go of what was opened in an event loop that has ended without closing it."""
        ...

    def broker(self) -> Broker:
        """The broker of jobs in the same database; it is open while this store is."""
        ...

    # --- programs

    async def save_programs(self, programs: Sequence[StoredProgram]) -> None:
        """Keep programs; those already there stay as they are."""
        ...

    async def load_programs(self, hashes: Sequence[ProgramHash]) -> Sequence[StoredProgram]: ...

    # --- clients

    async def start(self, starts: Sequence[Start]) -> Sequence[InstanceId]:
        """Create instances; return the ids that are new. Wakes an idle worker."""
        ...

    async def deliver(self, deliveries: Sequence[Delivery]) -> Sequence[InstanceId]:
        """Put into inboxes and wake the instances or their owners; return the ids that exist and have not ended."""
        ...

    async def view(self, ids: Sequence[InstanceId], *, waiter: str | None = None) -> Sequence[InstanceView]:
        """Instances with their outcomes. With `waiter`, unfinished ones notify that channel when they end."""
        ...

    async def find(self, filter: InstanceFilter) -> Sequence[InstanceView]:
        """Instances without their outcomes, newest first."""
        ...

    async def count(self, filter: InstanceFilter) -> int: ...

    async def history(self, id: InstanceId, *, after: int = -1, limit: int = 1000) -> Sequence[Step]:
        """Journal rows with seq > `after`, in order. The oldest kept row is a full one."""
        ...

    async def latest_steps(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Sequence[Step]]:
        """Journal rows from the latest full one on, in order: where instances stand. Those without any are left out."""
        ...

    async def family(self, ids: Sequence[InstanceId]) -> Sequence[InstanceView]:
        """These instances and all that descend from them, without their outcomes."""
        ...

    async def resume(self, ids: Sequence[InstanceId], *, now: float) -> Sequence[InstanceId]:
        """Make parked instances claimable again; return those that were parked."""
        ...

    async def dismiss(self, dismissals: Sequence[Dismissal]) -> Committed:
        """End instances that nobody owns, parked or not, in one transaction.

        Those that somebody owns, that have gone on or have ended, or that do not exist are `lost`.
        """
        ...

    async def delete(self, ids: Sequence[InstanceId]) -> Sequence[InstanceId]:
        """Remove ended instances with their journals; return those removed."""
        ...

    # --- wake-ups

    async def listen(self, channel: str, wake: WakeUp) -> Callable[[], Awaitable[None]]:
        """Call `wake` when `channel` is notified; return the way to stop. Where `traits.notifies` is False, does nothing."""
        ...

    async def notify(self, news: Mapping[str, str]) -> None:
        """Wake those who listen on these channels; with each comes what they are told, of `NEWS_LIMIT` bytes at most."""
        ...

    async def version(self) -> int | None:
        """A number that is another one whenever another process has written since; cheap. None where that is not known."""
        ...

    # --- workers

    async def enlist(self, worker: Enlistment) -> None:
        """Take a lease, under an id that no worker had before: no old commit may pass for a new worker's."""
        ...

    async def heartbeat(self, worker: WorkerId, *, lease: float, now: float) -> Beat:
        """Renew the lease and free what dead workers held. Safe to call from another thread's event loop."""
        ...

    async def close_thread(self) -> None:
        """Close what `heartbeat` opened for the running loop, before that loop ends."""
        ...

    async def idle(self, worker: WorkerId, idle: bool) -> None:
        """Say whether this worker has room and nothing to do; starters notify only then."""
        ...

    async def retire(self, worker: WorkerId, *, now: float) -> None:
        """End the lease and free everything it held, at once."""
        ...

    async def workers(self, *, now: float) -> Sequence[WorkerView]: ...

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, call_room: int, now: float) -> Claims:
        """Own up to `room` due instances and `call_room` spilled calls of these queues ("*" means all)."""
        ...

    async def take_inbox(self, worker: WorkerId) -> Sequence[Delivery]:
        """All inbox rows of instances that this worker owns, oldest first.

        They stay, and come again, until a commit consumes them; no release happens while one is there.
        """
        ...

    async def commit(self, worker: WorkerId, commits: Sequence[Commit]) -> Committed:
        """Write all of it in one transaction, if the worker's lease still stands.

        Repeating a commit whose answer was lost changes nothing and answers the same, as far as that is still
        true: one with steps is known by its last step. An instance may be claimed again between a release and
        its repetition; it is reported as kept then, besides being in that claim.
        """
        ...

    async def settle(self, worker: WorkerId, settled: Sequence[Settled]) -> Committed:
        """Report outcomes of claimed spilled calls; those this worker no longer holds are dropped in silence."""
        ...

    async def held_calls(self, worker: WorkerId, ids: Sequence[str]) -> Sequence[str]:
        """Which of these claimed spilled calls are still wanted (not recalled)."""
        ...

    # --- schedules

    async def save_schedule(self, row: ScheduleRow, *, replace: bool) -> bool:
        """Create, or replace where `replace`; False when it existed and was left alone."""
        ...

    async def delete_schedule(self, id: str) -> bool: ...

    async def schedules(self) -> Sequence[ScheduleRow]: ...

    async def fire(self, row: ScheduleRow, *, starts: Sequence[Start], expect_version: int) -> bool:
        """Advance a schedule to `row` and start its instances in one transaction, if its version is as expected."""
        ...

    # --- upkeep

    async def sweep(self, *, ended_before: float, history_before: float, now: float, batch: int) -> Swept:
        """Remove instances that ended before, and history older than, these moments; keep what recovery needs."""
        ...
