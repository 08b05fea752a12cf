"""The port of single-writer state: instances, their journals and inboxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Status,
    Step,
    StoredProgram,
)
from holdfast.ports.backend import Backend
from holdfast.ports.broker import Broker
from holdfast.ports.results import Results


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


WORK_CHANNEL = "hf_work"
"""Notified when there is claimable work and some worker is idle."""


class Store(Backend, Protocol):
    """Single-writer state of instances. All moments are Unix seconds in UTC, made by the caller.

    Every method may raise `StoreUnavailable`; then nothing is known to have happened, and the same call may be
    repeated: all of them are idempotent. Methods that act for a worker raise `LeaseLost` when its lease is gone.
    """

    def broker(self) -> Broker:
        """The broker of jobs in the same database; it is open while this store is."""
        ...

    def results(self) -> Results:
        """Where what became of jobs elsewhere is kept in the same database; it is open while this store is."""
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

    async def tally(self) -> Mapping[Status, int]:
        """How many instances there are of each status, those with none left out. Looks at all of them."""
        ...

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

    # --- workers

    async def idle(self, worker: WorkerId, idle: bool) -> None:
        """Say whether this worker has room and nothing to do; starters notify only then."""
        ...

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
