"""The `Broker` port on Redis: a verb is one script, which the server runs as a whole. It lies beside no store."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self

import orjson

from holdfast.backends.redis import address as urls
from holdfast.backends.redis import listing
from holdfast.backends.redis.connection import Argument
from holdfast.backends.redis.line import Line
from holdfast.backends.redis.listener import Listener
from holdfast.backends.redis.nodes import Nodes
from holdfast.backends.redis.opening import prepare
from holdfast.backends.redis.rows import CANCELLED_KEPT, as_arguments, back_of, claimed, ended_of, fence
from holdfast.errors import LeaseLost, StoreUnavailable, UnsupportedError
from holdfast.ids import JobId, WorkerId
from holdfast.model.instance import WorkerView
from holdfast.model.job import (
    Again,
    CancelledJobs,
    ClaimedJob,
    ClaimedJobs,
    Job,
    JobFilter,
    JobView,
    QueueDepth,
    Returned,
    SettledJobs,
    Settlement,
)
from holdfast.ports import JOB_CHANNEL, Beat, Enlistment, Traits, WakeUp, inbox_channel

DOUBT = 60.0
"""Seconds for which a claim is asked after whose answer did not arrive."""


class RedisBroker:
    """Jobs in a Redis, Valkey or Redis Cluster, shared by any number of processes of any number of machines.

    A process has two connections: for commands, and for what is pushed; a worker has a third for its heartbeat.
    """

    def __init__(self, url: str) -> None:
        self._address = urls.parse(url)
        self._nodes = Nodes(self._address)
        self._home: asyncio.AbstractEventLoop | None = None
        self._beside: dict[asyncio.AbstractEventLoop, Line] = {}
        self._line = Line(self._nodes)
        self._listener = Listener(self._nodes)
        self._doubtful: dict[WorkerId, dict[str, float]] = defaultdict(dict)
        """Tickets of claims whose answers may have got lost, and until when, by the monotonic clock."""
        self._jobs = self._address.channel(JOB_CHANNEL)

    @property
    def home(self) -> Self:
        """Itself."""
        return self

    @property
    def traits(self) -> Traits:
        return Traits(name="redis", notifies=True, embedded=False)

    @property
    def statements(self) -> int:
        """How many commands were sent so far, but for those of listening and heartbeats; a script is one."""
        return self._line.commands

    async def open(self, *, create: bool = True) -> None:
        self._home = asyncio.get_running_loop()
        self._line, self._listener = Line(self._nodes), Listener(self._nodes)
        try:
            await prepare(self._line, self._address)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._listener.close()
        await self._line.close()

    def abandon(self) -> None:
        self._beside.clear()
        self._line, self._listener = Line(self._nodes), Listener(self._nodes)

    # --- clients

    async def send(self, jobs: Sequence[Job]) -> Sequence[JobId]:
        wanted = {job.id: job for job in reversed(jobs)}
        if not wanted:
            return []
        in_order = [wanted[id] for id in dict.fromkeys(job.id for job in jobs)]
        new = await self._line.run("send", self._jobs, *[each for job in in_order for each in as_arguments(job)])
        return [JobId(id.decode()) for id in new]

    async def send_through(self, connection: Any, jobs: Sequence[Job]) -> None:
        raise UnsupportedError(
            "jobs lie in Redis, which takes no part in the transactions of a database: send them after the commit, or give "
            "tasks the database's own URL"
        )

    async def holders(self, unique: Sequence[str]) -> Mapping[str, JobId]:
        if not unique:
            return {}
        marked = [f"={text}" for text in unique]
        found = await self._line.ask("HMGET", f"{self._address.key}:unique", *marked)
        return {text: JobId(id.decode()) for text, id in zip(unique, found, strict=True) if id is not None}

    async def look(self, ids: Sequence[JobId], *, waiter: str | None = None) -> Sequence[JobView]:
        return await listing.look(self._line, ids, waiter)

    async def find(self, filter: JobFilter) -> Sequence[JobView]:
        return await listing.find(self._line, self._address.key, filter)

    async def count(self, filter: JobFilter) -> int:
        return await listing.count(self._line, filter)

    async def cancel(self, ids: Sequence[JobId], *, now: float, keep_until: float | None) -> CancelledJobs:
        keep = "" if keep_until is None else repr(keep_until)
        prefix, inbox = self._address.channel(""), self._address.channel(inbox_channel(""))
        ended, asked = await self._line.run("cancel", repr(now), keep, prefix, inbox, self._jobs, *dict.fromkeys(ids))
        return CancelledJobs(ended=_ids(ended), asked=_ids(asked))

    async def replay(self, ids: Sequence[JobId], *, now: float) -> Sequence[JobId]:
        return _ids(await self._line.run("replay", repr(now), self._jobs, *dict.fromkeys(ids)))

    async def purge(self, ids: Sequence[JobId]) -> Sequence[JobId]:
        return _ids(await self._line.run("purge", *dict.fromkeys(ids)))

    # --- queues

    async def pause(self, queues: Sequence[str], *, now: float) -> None:
        await self._line.run("pause", repr(now), *queues)

    async def resume(self, queues: Sequence[str]) -> None:
        await self._line.run("resume", self._jobs, *queues)

    async def paused(self) -> Mapping[str, float]:
        found = await self._line.ask("HGETALL", f"{self._address.key}:paused")
        pairs = zip(found[::2], found[1::2], strict=True)
        return {queue.decode(): float(since) for queue, since in sorted(pairs)}

    async def depths(self, *, now: float, most: int) -> Sequence[QueueDepth]:
        names, rows = await self._line.run("depths", repr(now), min(most, listing.COUNTED))
        found = [QueueDepth(name.decode(), *row[:4], more=bool(row[4])) for name, row in zip(names, rows, strict=True)]
        return sorted(found)

    # --- workers

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, now: float) -> ClaimedJobs:
        if self._doubtful[worker] and (found := await self._recall(worker)):
            # What else is due was not looked at.
            return _claimed(found, next_due=now)
        ticket = f"{random.getrandbits(62):x}"
        try:
            answer = await self._line.run("claim", worker, ticket, repr(now), room, *queues, once=True)
        except BaseException as error:
            if isinstance(error, StoreUnavailable) or not isinstance(error, Exception):
                # It may have happened: the next claim asks.
                self._doubtful[worker][ticket] = time.monotonic() + DOUBT
            raise
        if answer is None:
            del self._doubtful[worker]
            raise LeaseLost.of(worker)
        next_due, *rows = answer
        return _claimed(rows, next_due=None if next_due is None else float(next_due))

    async def _recall(self, worker: WorkerId) -> Sequence[Any] | None:
        """What earlier claims took although their answers did not arrive; None if they took nothing."""
        doubtful, now = self._doubtful[worker], time.monotonic()
        *rows, tickets = await self._line.run("recall", worker, *doubtful)
        for ticket in {each.decode() for each in tickets}:
            doubtful.pop(ticket, None)
        # One that took nothing may still be on its way to the server.
        for ticket in [each for each, until in doubtful.items() if until < now]:
            del doubtful[ticket]
        return rows if tickets else None

    async def admit(self, worker: WorkerId, jobs: Sequence[ClaimedJob], *, now: float) -> Sequence[JobId]:
        held = [part for job in jobs if job.gate is not None for part in (job.id, fence(job.claim, worker))]
        answer = await self._line.run("admit", worker, repr(now), *held)
        if answer is None:
            raise LeaseLost.of(worker)
        return _ids(answer)

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement]) -> SettledJobs:
        wanted = {each.id: each for each in settlements}
        if not wanted:
            return SettledJobs()
        answer = await self._line.run("settle", worker, self._jobs, *_settlement(worker, list(wanted.values())))
        if answer is None:
            raise LeaseLost.of(worker)
        lost, ids, channels = answer
        pairs = zip(ids, channels, strict=True)
        return SettledJobs(
            lost=frozenset(_ids(lost)),
            waiters=[(each, JobId(id.decode())) for id, told in pairs for each in told.decode().split(" ")],
        )

    async def unwanted(self, worker: WorkerId, ids: Sequence[JobId]) -> Sequence[JobId]:
        return _ids(await self._line.run("unwanted", worker, *ids))

    async def report(self, worker: WorkerId, progress: Mapping[JobId, bytes]) -> None:
        await self._line.run("report", worker, *(part for pair in progress.items() for part in pair))

    async def wait_for_jobs(self, worker: WorkerId, waits: bool) -> None:
        await self._line.run("wait", worker, int(waits))

    # --- leases

    async def enlist(self, worker: Enlistment) -> None:
        said = orjson.dumps(
            [worker.host, worker.pid, ",".join(worker.queues), worker.now, worker.version, worker.lease]
        )
        await self._line.run("enlist", worker.id, repr(worker.now + worker.lease), said)

    async def heartbeat(self, worker: WorkerId, *, lease: float, now: float) -> Beat:
        prefix = self._address.channel("")
        alive, workers, idle = await self._beating().run(
            "heartbeat", worker, repr(now + lease), repr(now), repr(now + CANCELLED_KEPT), prefix, self._jobs
        )
        return Beat(alive=bool(alive), workers=workers, idle_workers=idle)

    def _beating(self) -> Line:
        loop = asyncio.get_running_loop()
        return self._line if loop is self._home else self._beside.setdefault(loop, Line(self._nodes))

    async def close_thread(self) -> None:
        line = self._beside.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.close()

    async def retire(self, worker: WorkerId, *, now: float) -> None:
        keep, prefix = repr(now + CANCELLED_KEPT), self._address.channel("")
        await self._line.run("retire", worker, repr(now), keep, prefix, self._jobs)

    async def workers(self, *, now: float) -> Sequence[WorkerView]:
        rows = zip(*await self._line.run("workers"), strict=True)
        return [_worker(*row) for row in rows]

    # --- words

    async def listen(self, channel: str, wake: WakeUp) -> Callable[[], Awaitable[None]]:
        return await self._listener.listen(channel, wake)

    async def notify(self, news: Mapping[str, str]) -> None:
        await asyncio.gather(
            *[self._line.ask("PUBLISH", self._address.channel(channel), text) for channel, text in news.items()]
        )

    async def version(self) -> int | None:
        return None

    # --- upkeep

    async def lacks(self, *, keyed: Sequence[str]) -> Sequence[str]:
        return []

    async def sweep_jobs(self, *, now: float, batch: int) -> int:
        return await self._line.run("sweep", repr(now), batch)


def _ids(answer: Sequence[bytes]) -> list[JobId]:
    return [JobId(id.decode()) for id in answer]


def _claimed(rows: Sequence[Any], *, next_due: float | None) -> ClaimedJobs:
    jobs = [claimed(id.decode(), blob, past) for id, blob, past in zip(*rows, strict=True)]
    return ClaimedJobs(jobs=jobs, next_due=next_due)


def _settlement(worker: WorkerId, settlements: Sequence[Settlement]) -> list[Argument]:
    """What the script takes: those of which nothing remains, those that are kept, those that go back, what follows."""
    gone: list[Argument] = []
    kept: list[Argument] = []
    back: list[Argument] = []
    follow = {job.id: (each.id, job) for each in settlements for job in each.follow}
    for id, claim, outcome, *_ in settlements:
        if isinstance(outcome, Again | Returned):
            back += (id, fence(claim, worker), *back_of(outcome, id))
        elif (row := ended_of(outcome, id)) is None:
            gone += (id, fence(claim, worker))
        else:
            kept += (id, fence(claim, worker), *row)
    sources = [source for source, _ in follow.values()]
    sent = [each for _, job in follow.values() for each in as_arguments(job)]
    return [len(gone) // 2, len(kept) // 5, len(back) // 6, len(follow), *gone, *kept, *back, *sources, *sent]


def _worker(id: bytes, ends: bytes, said: bytes | None, holds: int, waits: int) -> WorkerView:
    # Workers of an earlier release said less of themselves.
    host, pid, queues, since, *more = orjson.loads(said or b'["?",0,"",0.0]')
    version, lease = more or ("", None)
    return WorkerView(
        id=id.decode(),
        host=host,
        pid=pid,
        queues=queues,
        started_at=since,
        expires_at=float(ends),
        idle=bool(waits),
        owned=holds,
        beat_at=None if lease is None else float(ends) - lease,
        version=version,
    )
