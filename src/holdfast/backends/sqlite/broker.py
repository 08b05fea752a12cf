"""The `Broker` port on SQLite, beside the store in one file: a verb runs one function in the database's thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from holdfast.backends.callers import SQLITE, execute
from holdfast.backends.gates import rule_of
from holdfast.backends.jobs import as_cancelled
from holdfast.backends.sqlite import jobs as on_session
from holdfast.backends.sqlite.database import STATEMENTS
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
from holdfast.ports import JOB_CHANNEL, Store


class SqliteBroker:
    """Jobs in one SQLite file. Opens and closes nothing: `do` runs a function in the store's database."""

    def __init__(self, store: Store, do: Callable[..., Awaitable[Any]]) -> None:
        self._store = store
        self._do = do

    @property
    def home(self) -> Store:
        return self._store

    # --- clients

    async def send(self, jobs: Sequence[Job]) -> Sequence[JobId]:
        new = await self._do(on_session.send, jobs)
        if new:
            await self._store.notify({JOB_CHANNEL: ""})
        return new

    async def send_through(self, connection: Any, jobs: Sequence[Job]) -> None:
        for job in {job.id: job for job in jobs}.values():
            gate = {"gate": job.gate_name, "gate_rule": rule_of(job.gate)}
            await execute(connection, SQLITE, STATEMENTS["send_one"], {**job._asdict(), **gate})

    async def holders(self, unique: Sequence[str]) -> Mapping[str, JobId]:
        return await self._do(on_session.holders, unique)

    async def look(self, ids: Sequence[JobId], *, waiter: str | None = None) -> Sequence[JobView]:
        return await self._do(on_session.look, ids, waiter)

    async def find(self, filter: JobFilter) -> Sequence[JobView]:
        return await self._do(on_session.find, filter)

    async def count(self, filter: JobFilter) -> int:
        return await self._do(on_session.count, filter)

    async def cancel(self, ids: Sequence[JobId], *, now: float, keep_until: float | None) -> CancelledJobs:
        rows, through = await self._do(on_session.cancel, ids, now, keep_until)
        answer, news = as_cancelled(rows)
        await self._store.notify({**news, JOB_CHANNEL: ""} if through else news)
        return answer

    async def replay(self, ids: Sequence[JobId], *, now: float) -> Sequence[JobId]:
        replayed = await self._do(on_session.replay, ids, now)
        if replayed:
            await self._store.notify({JOB_CHANNEL: ""})
        return replayed

    async def purge(self, ids: Sequence[JobId]) -> Sequence[JobId]:
        return await self._do(on_session.purge, ids)

    # --- queues

    async def pause(self, queues: Sequence[str], *, now: float) -> None:
        await self._do(on_session.pause, queues, now)

    async def resume(self, queues: Sequence[str]) -> None:
        if await self._do(on_session.resume, queues):
            await self._store.notify({JOB_CHANNEL: ""})

    async def paused(self) -> Mapping[str, float]:
        return await self._do(on_session.paused)

    async def depths(self, *, now: float, most: int) -> Sequence[QueueDepth]:
        return await self._do(on_session.depths, now, most)

    # --- workers

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, now: float) -> ClaimedJobs:
        return await self._do(on_session.claim, worker, queues, room, now)

    async def admit(self, worker: WorkerId, jobs: Sequence[ClaimedJob], *, now: float) -> Sequence[JobId]:
        return await self._do(on_session.admit, worker, jobs, now)

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement]) -> SettledJobs:
        if not settlements:
            return SettledJobs()
        answer, claimable = await self._do(on_session.settle, worker, settlements)
        if claimable:
            await self._store.notify({JOB_CHANNEL: ""})
        return answer

    async def unwanted(self, worker: WorkerId, ids: Sequence[JobId]) -> Sequence[JobId]:
        return await self._do(on_session.unwanted, worker, ids)

    async def report(self, worker: WorkerId, progress: Mapping[JobId, bytes]) -> None:
        await self._do(on_session.report, worker, progress)

    async def wait_for_jobs(self, worker: WorkerId, waits: bool) -> None:
        await self._do(on_session.wait_for_jobs, worker, waits)

    # --- upkeep

    async def lacks(self, *, keyed: Sequence[str]) -> Sequence[str]:
        return []

    async def sweep_jobs(self, *, now: float, batch: int) -> int:
        return await self._do(on_session.sweep, now, batch)
