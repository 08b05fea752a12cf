"""The `Store` port on SQLite: a verb runs one function in the database's thread. Wakes only this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import ParamSpec, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from holdfast.backends.sqlite import clients, dismissing, upkeep, workers
from holdfast.backends.sqlite import commits as owners
from holdfast.backends.sqlite.broker import SqliteBroker
from holdfast.backends.sqlite.database import Database, Session
from holdfast.backends.sqlite.elsewhere import SqliteResults
from holdfast.backends.sqlite.places import refuse_absent, refuse_unfit
from holdfast.clock import SystemClock
from holdfast.errors import ConfigurationError, StoreUnavailable
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
from holdfast.ports import WORK_CHANNEL, Beat, Enlistment, Settled, Swept, Traits, WakeUp, inbox_channel

P = ParamSpec("P")
T = TypeVar("T")

_Listener = tuple[asyncio.AbstractEventLoop, WakeUp]


class SqliteStore:
    """Instances in one SQLite file, shared by the processes of a machine; or in memory, for one process."""

    def __init__(self, url: str) -> None:
        path, synchronous = _parse(url)
        self._path = path
        self._memory = path == ":memory:"
        self._database = Database(path, synchronous=synchronous)
        self._beside: dict[asyncio.AbstractEventLoop, Database] = {}
        self._new_beside = partial(Database, path, synchronous=synchronous)
        self._home: asyncio.AbstractEventLoop | None = None
        self._listeners: dict[str, list[_Listener]] = {}
        self._untold: list[tuple[WorkerId, Claims]] = []
        self._spent = 0

    @property
    def traits(self) -> Traits:
        return Traits(name="sqlite", notifies=False, embedded=True, sees_changes=True, ephemeral=self._memory)

    @property
    def statements(self) -> int:
        """How many statements were sent so far."""
        return self._spent + self._database.statements + sum(each.statements for each in self._beside.values())

    async def open(self, *, create: bool = True) -> None:
        self._home = asyncio.get_running_loop()
        if not (create or self._memory):
            refuse_absent(self._path)
        try:
            await self._database.open()
            await self._do(upkeep.migrate, SystemClock().now())
        except BaseException as error:
            await self.close()
            if isinstance(error, StoreUnavailable):
                refuse_unfit(self._path, error)
            raise

    async def close(self) -> None:
        await self._database.close()
        for beside in [self._beside.pop(loop) for loop in list(self._beside)]:
            await beside.close()

    def abandon(self) -> None:
        """Let go of what was opened in an event loop that has ended without closing it. What is in memory stays there."""
        self._listeners.clear()
        if self._memory:
            return
        for database in (self._database, *self._beside.values()):
            database.abandon()
        self._beside.clear()

    async def close_thread(self) -> None:
        """Close what `heartbeat` opened for the running loop."""
        beside = self._beside.pop(asyncio.get_running_loop(), None)
        if beside is not None:
            await beside.close()
            self._spent += beside.statements

    async def _do(self, function: Callable[..., T], *arguments: object) -> T:
        def work(session: Session) -> T:
            return function(session, *arguments)

        return await self._database.run(work)

    def broker(self) -> SqliteBroker:
        """The broker of jobs in the same file; it is open while this store is."""
        return SqliteBroker(self, self._do)

    def results(self) -> SqliteResults:
        """Where what became of jobs elsewhere is kept."""
        return SqliteResults(self._do)

    # --- programs

    async def save_programs(self, programs: Sequence[StoredProgram]) -> None:
        await self._do(clients.save_programs, programs, SystemClock().now())

    async def load_programs(self, hashes: Sequence[ProgramHash]) -> Sequence[StoredProgram]:
        return await self._do(clients.load_programs, hashes)

    # --- clients

    async def start(self, starts: Sequence[Start]) -> Sequence[InstanceId]:
        new = await self._do(clients.start, starts)
        if new:
            await self.notify({WORK_CHANNEL: ""})
        return new

    async def deliver(self, deliveries: Sequence[Delivery]) -> Sequence[InstanceId]:
        taken = await self._do(clients.deliver, deliveries)
        await self.notify({inbox_channel(owner): "" for owner in taken.owners})
        if taken.woken:
            await self.notify({WORK_CHANNEL: ""})
        return taken.ids

    async def view(self, ids: Sequence[InstanceId], *, waiter: str | None = None) -> Sequence[InstanceView]:
        return await self._do(clients.view, ids, waiter)

    async def find(self, filter: InstanceFilter) -> Sequence[InstanceView]:
        return await self._do(clients.find, filter)

    async def count(self, filter: InstanceFilter) -> int:
        return await self._do(clients.count, filter)

    async def tally(self) -> Mapping[Status, int]:
        return await self._do(clients.tally)

    async def history(self, id: InstanceId, *, after: int = -1, limit: int = 1000) -> Sequence[Step]:
        return await self._do(clients.history, id, after, limit)

    async def latest_steps(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, Sequence[Step]]:
        return await self._do(clients.latest_steps, ids)

    async def family(self, ids: Sequence[InstanceId]) -> Sequence[InstanceView]:
        return await self._do(clients.family, ids)

    async def resume(self, ids: Sequence[InstanceId], *, now: float) -> Sequence[InstanceId]:
        resumed = await self._do(clients.resume, ids, now)
        if resumed:
            await self.notify({WORK_CHANNEL: ""})
        return resumed

    async def dismiss(self, dismissals: Sequence[Dismissal]) -> Committed:
        return await self._do(dismissing.dismiss, dismissals)

    async def delete(self, ids: Sequence[InstanceId]) -> Sequence[InstanceId]:
        return await self._do(clients.delete, ids)

    # --- wake-ups

    async def listen(self, channel: str, wake: WakeUp) -> Callable[[], Awaitable[None]]:
        listener = (asyncio.get_running_loop(), wake)
        self._listeners.setdefault(channel, []).append(listener)

        async def stop() -> None:
            if listener in self._listeners.get(channel, ()):
                self._listeners[channel].remove(listener)

        return stop

    async def notify(self, news: Mapping[str, str]) -> None:
        for channel, text in news.items():
            for loop, wake in self._listeners.get(channel, ()):
                loop.call_soon_threadsafe(wake, channel, text)

    async def version(self) -> int | None:
        return 0 if self._memory else await self._do(Session.version)

    # --- workers

    async def enlist(self, worker: Enlistment) -> None:
        await self._do(workers.enlist, worker)

    async def heartbeat(self, worker: WorkerId, *, lease: float, now: float) -> Beat:
        database = await self._heartbeat_database()
        return await database.run(lambda session: workers.heartbeat(session, worker, lease, now))

    async def _heartbeat_database(self) -> Database:
        loop = asyncio.get_running_loop()
        # A database in memory belongs to its one connection, which any loop may use through its thread.
        if loop is self._home or self._memory:
            return self._database
        if loop not in self._beside:
            self._beside[loop] = self._new_beside()
        await self._beside[loop].open()
        return self._beside[loop]

    async def idle(self, worker: WorkerId, idle: bool) -> None:
        await self._do(workers.idle, worker, idle)

    async def retire(self, worker: WorkerId, *, now: float) -> None:
        await self._do(workers.retire, worker, now)
        await self.notify({WORK_CHANNEL: ""})

    async def workers(self, *, now: float) -> Sequence[WorkerView]:
        return await self._do(workers.workers, now)

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, call_room: int, now: float) -> Claims:
        for untold in [each for each in self._untold if each[0] == worker]:
            self._untold.remove(untold)
            return untold[1]
        claiming = self._database.submit(lambda session: workers.claim(session, worker, queues, room, call_room, now))
        try:
            return await asyncio.wrap_future(claiming)
        except asyncio.CancelledError:
            # The thread may have claimed all the same: whoever claims next is told.
            claiming.add_done_callback(partial(self._keep_untold, worker))
            raise

    def _keep_untold(self, worker: WorkerId, claiming: Future[Claims]) -> None:
        if not claiming.cancelled() and claiming.exception() is None:
            claims = claiming.result()
            if claims.instances or claims.calls:
                self._untold.append((worker, claims))

    async def take_inbox(self, worker: WorkerId) -> Sequence[Delivery]:
        return await self._do(workers.take_inbox, worker)

    async def commit(self, worker: WorkerId, commits: Sequence[Commit]) -> Committed:
        return await self._do(owners.commit, worker, commits)

    async def settle(self, worker: WorkerId, settled: Sequence[Settled]) -> Committed:
        return await self._do(owners.settle, worker, settled)

    async def held_calls(self, worker: WorkerId, ids: Sequence[str]) -> Sequence[str]:
        return await self._do(workers.held_calls, worker, ids)

    # --- schedules

    async def save_schedule(self, row: ScheduleRow, *, replace: bool) -> bool:
        return await self._do(upkeep.save_schedule, row, replace)

    async def delete_schedule(self, id: str) -> bool:
        return await self._do(upkeep.delete_schedule, id)

    async def schedules(self) -> Sequence[ScheduleRow]:
        return await self._do(upkeep.schedules)

    async def fire(self, row: ScheduleRow, *, starts: Sequence[Start], expect_version: int) -> bool:
        fired = await self._do(upkeep.fire, row, starts, expect_version)
        if fired and starts:
            await self.notify({WORK_CHANNEL: ""})
        return fired

    # --- upkeep

    async def sweep(self, *, ended_before: float, history_before: float, now: float, batch: int) -> Swept:
        instances = steps = 0
        while (swept := await self._do(upkeep.sweep_instances, ended_before, batch)).instances:
            instances += swept.instances
            steps += swept.steps
        place: int | None = 0
        while place is not None:
            place, dropped = await self._do(upkeep.sweep_history, history_before, place, batch)
            steps += dropped
        return Swept(instances=instances, steps=steps)


def _parse(url: str) -> tuple[str, str]:
    """The path and the synchronous mode in `url`."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    synchronous = options.pop("synchronous", "full").lower()
    if synchronous not in ("full", "normal"):
        raise ConfigurationError(f"{url!r}: synchronous is full (the default) or normal, not {synchronous!r}")
    if options:
        raise ConfigurationError(f"{url!r}: SQLite stores know no option {', '.join(sorted(options))}")
    if parts.netloc == ":memory:" or parts.path == "/:memory:":
        return ":memory:", synchronous
    path = unquote(parts.path.removeprefix("/"))
    if parts.netloc or not path:
        raise ConfigurationError(
            f"{url!r} names no file: write sqlite:///relative.db, sqlite:////absolute/path.db or sqlite://:memory:"
        )
    return path, synchronous
