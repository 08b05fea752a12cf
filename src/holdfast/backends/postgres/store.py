"""The `Store` port on PostgreSQL: which connection a verb uses, and who hears of what it did.

At most three connections a process: for writes; for claims, reads and notifications; for a heartbeat thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from holdfast.backends.postgres import address, clients, dismissing, upkeep, workers
from holdfast.backends.postgres import commits as owners
from holdfast.backends.postgres.broker import PostgresBroker
from holdfast.backends.postgres.clients import Taken
from holdfast.backends.postgres.elsewhere import PostgresResults
from holdfast.backends.postgres.line import Line, Tally
from holdfast.clock import SystemClock
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
    Start,
    Status,
    Step,
    StoredProgram,
    WorkerView,
)
from holdfast.ports import (
    CLIENT_CHANNEL,
    WORK_CHANNEL,
    Beat,
    Enlistment,
    Settled,
    Swept,
    Traits,
    WakeUp,
    inbox_channel,
)


class PostgresStore:
    """Instances in a PostgreSQL database, shared by any number of processes of any number of machines."""

    def __init__(self, url: str) -> None:
        self._address = address.parse(url)
        self._tally = Tally()
        self._beside: dict[asyncio.AbstractEventLoop, Line] = {}
        self._home: asyncio.AbstractEventLoop | None = None
        self._writer = self._line()
        self._reader = self._line()
        self._claiming = workers.Claiming()

    @property
    def traits(self) -> Traits:
        return Traits(name="postgres", notifies=not self._address.pgbouncer, embedded=False)

    @property
    def statements(self) -> int:
        """How many statements were sent so far."""
        return self._tally.statements

    def _line(self) -> Line:
        return Line(self._address, self._tally)

    async def open(self, *, create: bool = True) -> None:
        # A database of a server is made by people, so that there is nothing to create but the schema.
        self._home = asyncio.get_running_loop()
        self._writer, self._reader = self._line(), self._line()
        try:
            await upkeep.migrate(self._reader, self._address.schema, SystemClock().now())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    def abandon(self) -> None:
        """Let go of what was opened in an event loop that has ended: its sockets went with it."""
        self._beside.clear()
        self._writer, self._reader = self._line(), self._line()

    async def close_thread(self) -> None:
        """Close what `heartbeat` opened for the running loop."""
        line = self._beside.pop(asyncio.get_running_loop(), None)
        if line is not None:
            await line.close()

    def broker(self) -> PostgresBroker:
        """The broker of jobs in the same database; it is open while this store is."""
        return PostgresBroker(
            self, writer=lambda: self._writer, reader=lambda: self._reader, schema=self._address.schema
        )

    def results(self) -> PostgresResults:
        """Where what became of jobs elsewhere is kept."""
        return PostgresResults(lambda: self._writer)

    # --- programs

    async def save_programs(self, programs: Sequence[StoredProgram]) -> None:
        await clients.save_programs(self._writer, programs, SystemClock().now())

    async def load_programs(self, hashes: Sequence[ProgramHash]) -> Sequence[StoredProgram]:
        return await clients.load_programs(self._reader, hashes)

    # --- clients

    async def start(self, starts: Sequence[Start]) -> Sequence[InstanceId]:
        return await clients.start(self._writer, starts)

    async def deliver(self, deliveries: Sequence[Delivery]) -> Sequence[InstanceId]:
        return await self._tell(await clients.deliver(self._writer, deliveries))

    async def _tell(self, taken: Taken) -> Sequence[InstanceId]:
        """Notify after the write: a notification in it would make all commits wait for each other."""
        news = {inbox_channel(owner): "" for owner in sorted(taken.owners)}
        if taken.woken and taken.idle:
            news[WORK_CHANNEL] = ""
        await self.notify(news)
        return taken.ids

    async def view(self, ids: Sequence[InstanceId], *, waiter: str | None = None) -> Sequence[InstanceView]:
        if self._address.pgbouncer and waiter is not None and waiter.startswith(CLIENT_CHANNEL):
            # Behind a pooler no client can be told. Others' words are no channels: the worker that ends it reads them.
            waiter = None
        # First ask to be told, then look: an ending in between is seen, or told.
        if waiter is not None and await clients.await_ending(self._reader, ids, waiter):
            await self.notify({WORK_CHANNEL: ""})
        return await clients.view(self._reader, ids)

    async def find(self, filter: InstanceFilter) -> Sequence[InstanceView]:
        return await clients.find(self._reader, filter)

    async def count(self, filter: InstanceFilter) -> int:
        return await clients.count(self._reader, filter)

    async def tally(self) -> Mapping[Status, int]:
        return await clients.tally(self._reader)

    async def history(self, id: InstanceId, *, after: int = -1, limit: int = 1000) -> Sequence[Step]:
        return await clients.history(self._reader, id, after, limit)

    async def latest_steps(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Sequence[Step]]:
        return await clients.latest_steps(self._reader, ids)

    async def family(self, ids: Sequence[InstanceId]) -> Sequence[InstanceView]:
        return await clients.family(self._reader, ids)

    async def resume(self, ids: Sequence[InstanceId], *, now: float) -> Sequence[InstanceId]:
        return await self._tell(await clients.resume(self._writer, ids, now))

    async def dismiss(self, dismissals: Sequence[Dismissal]) -> Committed:
        return await dismissing.dismiss(self._writer, dismissals)

    async def delete(self, ids: Sequence[InstanceId]) -> Sequence[InstanceId]:
        return (await clients.delete(self._writer, ids))[0]

    # --- wake-ups

    async def listen(self, channel: str, wake: WakeUp) -> Callable[[], Awaitable[None]]:
        if self._address.pgbouncer:
            return _nothing
        return await self._reader.listen(channel, wake)

    async def notify(self, news: Mapping[str, str]) -> None:
        if news and not self._address.pgbouncer:
            await self._reader.fetch("notify", channels=list(news), texts=list(news.values()))

    async def version(self) -> int | None:
        return None

    # --- workers

    async def enlist(self, worker: Enlistment) -> None:
        await workers.enlist(self._writer, worker)

    async def heartbeat(self, worker: WorkerId, *, lease: float, now: float) -> Beat:
        return await workers.heartbeat(self._heartbeat_line(), worker, lease, now)

    def _heartbeat_line(self) -> Line:
        loop = asyncio.get_running_loop()
        if loop is self._home:
            return self._reader
        return self._beside.setdefault(loop, self._line())

    async def idle(self, worker: WorkerId, idle: bool) -> None:
        await workers.idle(self._reader, worker, idle)

    async def retire(self, worker: WorkerId, *, now: float) -> None:
        await workers.retire(self._writer, worker, now)
        await self.notify({WORK_CHANNEL: ""})

    async def workers(self, *, now: float) -> Sequence[WorkerView]:
        return await workers.workers(self._reader, now)

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, call_room: int, now: float) -> Claims:
        return await self._claiming.claim(self._reader, worker, queues=queues, room=room, call_room=call_room, now=now)

    async def take_inbox(self, worker: WorkerId) -> Sequence[Delivery]:
        return await workers.take_inbox(self._reader, worker)

    async def commit(self, worker: WorkerId, commits: Sequence[Commit]) -> Committed:
        return await owners.commit(self._writer, worker, commits)

    async def settle(self, worker: WorkerId, settled: Sequence[Settled]) -> Committed:
        return await owners.settle(self._writer, worker, settled)

    async def held_calls(self, worker: WorkerId, ids: Sequence[str]) -> Sequence[str]:
        return await workers.held_calls(self._reader, worker, ids)

    # --- schedules

    async def save_schedule(self, row: ScheduleRow, *, replace: bool) -> bool:
        return await upkeep.save_schedule(self._writer, row, replace)

    async def delete_schedule(self, id: str) -> bool:
        return await upkeep.delete_schedule(self._writer, id)

    async def schedules(self) -> Sequence[ScheduleRow]:
        return await upkeep.schedules(self._reader)

    async def fire(self, row: ScheduleRow, *, starts: Sequence[Start], expect_version: int) -> bool:
        fired, tell = await upkeep.fire(self._writer, row, starts, expect_version)
        if tell:
            await self.notify({WORK_CHANNEL: ""})
        return fired

    # --- upkeep

    async def sweep(self, *, ended_before: float, history_before: float, now: float, batch: int) -> Swept:
        return await upkeep.sweep(
            self._reader, ended_before=ended_before, history_before=history_before, now=now, batch=batch
        )


async def _nothing() -> None:
    """What there is to stop where nothing was listened to."""
