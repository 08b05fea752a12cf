"""The port of competing consumers: jobs that any worker may claim, run and settle, and the dead letters among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from holdfast.ids import JobId, WorkerId
from holdfast.model.job import (
    CancelledJobs,
    ClaimedJob,
    ClaimedJobs,
    Job,
    JobFilter,
    JobView,
    QueueDepth,
    SettledJobs,
    Settlement,
)
from holdfast.ports.backend import Backend

JOB_CHANNEL = "hf_jobs"
"""Notified when there are jobs to claim and some worker waits for them."""


class Broker(Protocol):
    """Jobs, each held by one worker at a time. All moments are Unix seconds in UTC, made by the caller.

    A job is delivered at least once: what a lost worker held is claimed again. Every method may raise
    `StoreUnavailable`; then nothing is known to have happened, and the same call may be repeated. Methods that act for
    a worker raise `LeaseLost` when its lease is gone.
    """

    @property
    def home(self) -> Backend:
        """Where its jobs lie: a store, or itself. That is opened and closed, holds leases and carries words for it."""
        ...

    # --- clients

    async def send(self, jobs: Sequence[Job]) -> Sequence[JobId]:
        """Accept jobs; return the ids that are new. Wakes a worker that waits for jobs."""
        ...

    async def send_through(self, connection: Any, jobs: Sequence[Job]) -> None:
        """Accept jobs in the transaction of a connection of the caller's own: with its commit they are there, or never.

        Raises UnsupportedError where jobs do not lie in an SQL database, ConfigurationError for a connection elsewhere.
        """
        ...

    async def holders(self, unique: Sequence[str]) -> Mapping[str, JobId]:
        """The jobs that have these unique texts now."""
        ...

    async def look(self, ids: Sequence[JobId], *, waiter: str | None = None) -> Sequence[JobView]:
        """Jobs with their outcomes. With `waiter`, unfinished ones notify that channel when they end."""
        ...

    async def find(self, filter: JobFilter) -> Sequence[JobView]:
        """Jobs, newest first."""
        ...

    async def count(self, filter: JobFilter) -> int: ...

    async def cancel(self, ids: Sequence[JobId], *, now: float, keep_until: float | None) -> CancelledJobs:
        """End those that wait, and have the workers told that hold the others."""
        ...

    async def replay(self, ids: Sequence[JobId], *, now: float) -> Sequence[JobId]:
        """Queue ended jobs again, as they were sent; return those that are queued now.

        A job whose unique text another one has by now stays where it is.
        """
        ...

    async def purge(self, ids: Sequence[JobId]) -> Sequence[JobId]:
        """Remove ended jobs; return those removed."""
        ...

    # --- queues

    async def pause(self, queues: Sequence[str], *, now: float) -> None:
        """From now on no worker claims jobs of these queues, until they are resumed. What runs goes on."""
        ...

    async def resume(self, queues: Sequence[str]) -> None:
        """Let jobs of these queues be claimed again. Wakes workers that wait for jobs."""
        ...

    async def paused(self) -> Mapping[str, float]:
        """The queues that are paused, and since when (Unix seconds)."""
        ...

    async def depths(self, *, now: float, most: int) -> Sequence[QueueDepth]:
        """Queues in which there are jobs, by name. Of each kind about `most` jobs of a queue are looked at, and no more."""
        ...

    # --- workers, under the lease that they hold with its home

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, now: float) -> ClaimedJobs:
        """Hold up to `room` due jobs of these queues ("*" means all), those of the highest priority first."""
        ...

    async def admit(self, worker: WorkerId, jobs: Sequence[ClaimedJob], *, now: float) -> Sequence[JobId]:
        """Let held jobs through their gates, as far as these have room; return those that may run.

        The others are held no more: they come again when jobs before them have ended, or at their moment.
        """
        ...

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement]) -> SettledJobs:
        """Write what became of jobs, send what follows, and let the next ones at their gates be claimed.

        Only who holds a job can settle it.
        """
        ...

    async def unwanted(self, worker: WorkerId, ids: Sequence[JobId]) -> Sequence[JobId]:
        """Which of these jobs somebody asked to cancel, or this worker does not hold any more."""
        ...

    async def report(self, worker: WorkerId, progress: Mapping[JobId, bytes]) -> None:
        """Keep how far these jobs are. Those that this worker does not hold are left as they are."""
        ...

    async def wait_for_jobs(self, worker: WorkerId, waits: bool) -> None:
        """Say whether this worker waits for jobs; senders notify only then."""
        ...

    # --- upkeep

    async def lacks(self, *, keyed: Sequence[str]) -> Sequence[str]:
        """What is missing for jobs with a key in these queues, each in words that say what to do; nothing: they can be sent."""
        ...

    async def sweep_jobs(self, *, now: float, batch: int) -> int:
        """Remove ended jobs that need not be kept any longer; return how many."""
        ...
