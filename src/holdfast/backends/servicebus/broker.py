"""The `Broker` port on Azure Service Bus. A job is a message, its lease the message's lock; there is nothing else to look at."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from holdfast.backends.servicebus import address as urls
from holdfast.backends.servicebus import dead, listing
from holdfast.backends.servicebus.held import Held, Holdings
from holdfast.backends.servicebus.intake import Intake
from holdfast.backends.servicebus.ledger import Ledger
from holdfast.backends.servicebus.letters import letter_of
from holdfast.backends.servicebus.links import Links
from holdfast.backends.servicebus.settling import Settling
from holdfast.errors import LeaseLost, StoreError, UnsupportedError
from holdfast.ids import JobId, WorkerId
from holdfast.logs import get_logger
from holdfast.model.instance import WorkerView
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
from holdfast.ports import (
    CLIENT_CHANNEL,
    ELSEWHERE,
    JOB_CHANNEL,
    Beat,
    Enlistment,
    Store,
    Traits,
    WakeUp,
    inbox_channel,
)

log = get_logger("holdfast.servicebus")

RENEWAL = 0.3
"""Seconds between two looks for locks that are to be renewed."""


@dataclass(slots=True, eq=False)
class _Post:
    """A worker of this process."""

    enlisted: Enlistment
    until: float


class ServiceBusBroker:
    """Jobs in the queues of a namespace. Each process knows what it has locked itself, and nothing of others.

    With a store beside it, results are kept there, and jobs can be waited for, looked at and cancelled.
    """

    def __init__(self, url: str, *, beside: Store | None = None) -> None:
        self._address = urls.parse(url)
        self._ledger = None if beside is None else Ledger(beside)
        self._home: asyncio.AbstractEventLoop | None = None
        self._beside: dict[asyncio.AbstractEventLoop, Links] = {}
        self._posts: dict[WorkerId, _Post] = {}
        self._heard: defaultdict[str, list[WakeUp]] = defaultdict(list)
        self._begin()

    def _begin(self) -> None:
        self._links = Links(self._address)
        self._holdings = Holdings(self._jobs_lost)
        self._settling = Settling(self._links, self._holdings, self._ledger)
        self._intake = Intake(
            self._links, self._holdings, self._settling, self._ledger, arrived=lambda: self._wake(JOB_CHANNEL)
        )
        self._renewing: asyncio.Task[None] | None = None
        self._left = asyncio.Event()
        self._unlisten: Callable[[], Awaitable[None]] | None = None

    @property
    def home(self) -> Self:
        """Itself."""
        return self

    @property
    def traits(self) -> Traits:
        beside = None if self._ledger is None else self._ledger.store.traits
        return Traits(
            name="servicebus",
            notifies=beside is not None and beside.notifies,
            embedded=False,
            sees_changes=beside is not None and beside.sees_changes,
            ranks=False,
            finds_jobs=beside is not None,
            lists_all=False,
            knows_workers=False,
            prompt=False,
            pauses=False,
            gates=False,
            keys=True,
        )

    async def open(self, *, create: bool = True) -> None:
        self._home = asyncio.get_running_loop()
        self._begin()
        first = next(iter(self._address.queues))
        try:
            await self._links.outbox(self._address.entity(first)).open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._leave()
        await self._links.close()

    def abandon(self) -> None:
        self._beside.clear()
        self._posts.clear()
        self._unlisten = None
        self._begin()

    # --- clients

    async def send(self, jobs: Sequence[Job]) -> Sequence[JobId]:
        wanted = {job.id: job for job in reversed(jobs)}
        in_order = [wanted[id] for id in dict.fromkeys(job.id for job in jobs)]
        letters = [letter_of(job) for job in in_order]
        if self._ledger is not None:
            await self._ledger.expect(letters)
        await self._links.send(letters)
        # Which of them Service Bus has dropped as duplicates, it does not say.
        return [job.id for job in in_order]

    async def send_through(self, connection: Any, jobs: Sequence[Job]) -> None:
        raise UnsupportedError(
            "jobs lie in Service Bus, which takes no part in the transactions of a database: send them after the commit, or "
            "give tasks the database's own URL"
        )

    async def holders(self, unique: Sequence[str]) -> Mapping[str, JobId]:
        return {}

    async def look(self, ids: Sequence[JobId], *, waiter: str | None = None) -> Sequence[JobView]:
        if self._ledger is not None:
            return await self._ledger.look(ids, waiter=waiter)
        if waiter is not None:
            raise UnsupportedError(
                "Service Bus keeps no results and tells nobody of an end: give url= a database to keep them in, and "
                "tasks_url=servicebus://…"
            )
        return await listing.look(self._links, ids)

    async def find(self, filter: JobFilter) -> Sequence[JobView]:
        return await listing.find(self._links, filter)

    async def count(self, filter: JobFilter) -> int:
        return await listing.count(self._links, filter)

    async def cancel(self, ids: Sequence[JobId], *, now: float, keep_until: float | None) -> CancelledJobs:
        if self._ledger is not None:
            return await self._ledger.cancel(ids, now=now)
        raise UnsupportedError(
            "Service Bus gives out messages in their turn, and cannot remove one by its id: give url= a database, where is "
            "kept which ones are not wanted any more, or give them expires="
        )

    async def replay(self, ids: Sequence[JobId], *, now: float) -> Sequence[JobId]:
        async def send_again(found: Sequence[Held]) -> None:
            fresh = {"attempt": 1, "losses": 0, "error": None, "expires_at": None, "due_at": now}
            letters = [held.letter._replace(claims=held.job.claim, **fresh) for held in found]
            if self._ledger is not None:
                await self._ledger.expect(letters, again=True)
            await self._links.send(letters)

        return await dead.take(self._links, ids, send_again)

    async def purge(self, ids: Sequence[JobId]) -> Sequence[JobId]:
        async def let_be(found: Sequence[Held]) -> None:
            log.debug("dead letters purged", jobs=len(found))

        return await dead.take(self._links, ids, let_be)

    # --- queues

    async def pause(self, queues: Sequence[str], *, now: float) -> None:
        raise UnsupportedError(
            "Service Bus pauses a queue itself, for everybody: az servicebus queue update --name … --status ReceiveDisabled"
        )

    async def resume(self, queues: Sequence[str]) -> None:
        raise UnsupportedError(
            "Service Bus lets a queue go on itself: az servicebus queue update --name … --status Active"
        )

    async def paused(self) -> Mapping[str, float]:
        return {}

    async def depths(self, *, now: float, most: int) -> Sequence[QueueDepth]:
        return await listing.depths(self._links, now=now, most=min(most, listing.COUNTED))

    # --- workers

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, now: float) -> ClaimedJobs:
        self._check(worker)
        waiters = await self._intake.drop_recalled(queues, now)
        if self._ledger is not None and waiters:
            await self._ledger.store.notify({channel: "" for channel, _ in waiters})
        return await self._intake.claim(worker, queues=queues, room=room, now=now)

    async def admit(self, worker: WorkerId, jobs: Sequence[ClaimedJob], *, now: float) -> Sequence[JobId]:
        # Of each key there is one at a time: its session is held here.
        return [job.id for job in jobs]

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement]) -> SettledJobs:
        self._check(worker)
        return await self._settling.settle(worker, settlements)

    async def unwanted(self, worker: WorkerId, ids: Sequence[JobId]) -> Sequence[JobId]:
        def stands(id: JobId) -> bool:
            held = self._holdings.get(worker, id)
            return held is not None and not held.lost

        recalled = set[JobId]() if self._ledger is None else await self._ledger.recalled(ids)
        return [id for id in ids if id in recalled or not stands(id)]

    async def report(self, worker: WorkerId, progress: Mapping[JobId, bytes]) -> None:
        # A message that is sent does not change.
        if self._ledger is not None:
            await self._ledger.report({id: said for id, said in progress.items() if self._holdings.get(worker, id)})

    async def wait_for_jobs(self, worker: WorkerId, waits: bool) -> None:
        """Nothing is to be said: messages come to whoever has asked for some."""

    # --- leases

    async def enlist(self, worker: Enlistment) -> None:
        self._posts[worker.id] = _Post(worker, worker.now + worker.lease)
        if self._renewing is None or self._renewing.done():
            self._left = asyncio.Event()
            self._renewing = asyncio.create_task(self._renew(self._left), name="holdfast-renew-locks")
        if self._ledger is not None and self._unlisten is None:
            self._unlisten = await self._ledger.store.listen(inbox_channel(ELSEWHERE), self._recall_told)

    def _recall_told(self, *_: str) -> None:
        for worker in self._posts:
            self._wake(inbox_channel(worker))

    async def heartbeat(self, worker: WorkerId, *, lease: float, now: float) -> Beat:
        post = self._posts.get(worker)
        if post is not None:
            post.until = now + lease
            # In another thread, this keeps the locks while the event loop is blocked.
            await self._holdings.renew(self._beating())
        return Beat(alive=post is not None, workers=len(self._posts), idle_workers=0)

    def _beating(self) -> Links:
        loop = asyncio.get_running_loop()
        return self._links if loop is self._home else self._beside.setdefault(loop, Links(self._address))

    async def close_thread(self) -> None:
        links = self._beside.pop(asyncio.get_running_loop(), None)
        if links is not None:
            await links.close()

    async def retire(self, worker: WorkerId, *, now: float) -> None:
        self._posts.pop(worker, None)
        rest = self._holdings.of(worker)
        if not self._posts:
            rest += await self._leave()
        await self._settling.give_back(rest, now)

    async def _leave(self) -> list[Held]:
        """Receive and renew no more; what nobody had claimed."""
        self._left.set()
        if self._renewing is not None:
            await self._renewing
            self._renewing = None
        unlisten, self._unlisten = self._unlisten, None
        if unlisten is not None:
            await unlisten()
        return await self._intake.close()

    async def workers(self, *, now: float) -> Sequence[WorkerView]:
        return [
            WorkerView(
                id=id,
                host=post.enlisted.host,
                pid=post.enlisted.pid,
                queues=",".join(post.enlisted.queues),
                started_at=post.enlisted.now,
                expires_at=post.until,
                idle=not self._holdings.of(id),
                owned=len(self._holdings.of(id)),
                beat_at=post.until - post.enlisted.lease,
                version=post.enlisted.version,
            )
            for id, post in self._posts.items()
        ]

    def _check(self, worker: WorkerId) -> None:
        if worker not in self._posts:
            raise LeaseLost(f"worker {worker} has left its post; its jobs went back, enlist under a new id")

    async def _renew(self, left: asyncio.Event) -> None:
        """Renew until the last worker has left. It is not cancelled: the client may swallow that."""
        while not left.is_set():
            try:
                await self._holdings.renew(self._links)
            except StoreError as error:
                log.error("locks not renewed", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEWAL):
                    await left.wait()

    def _jobs_lost(self, worker: WorkerId) -> None:
        if self._home is not None:
            self._home.call_soon_threadsafe(self._wake, inbox_channel(worker))

    # --- words: within this process, and by way of the store beside for those who wait for results

    async def listen(self, channel: str, wake: WakeUp) -> Callable[[], Awaitable[None]]:
        if self._ledger is not None and channel.startswith(CLIENT_CHANNEL):
            return await self._ledger.store.listen(channel, wake)
        self._heard[channel].append(wake)

        async def stop() -> None:
            self._heard[channel].remove(wake)

        return stop

    async def notify(self, news: Mapping[str, str]) -> None:
        for channel, text in news.items():
            self._wake(channel, text)
        told = {channel: text for channel, text in news.items() if channel.startswith(CLIENT_CHANNEL)}
        if self._ledger is not None and told:
            await self._ledger.store.notify(told)

    def _wake(self, channel: str, text: str = "") -> None:
        for wake in list(self._heard.get(channel, ())):
            wake(channel, text)

    async def version(self) -> int | None:
        return None if self._ledger is None else await self._ledger.store.version()

    # --- upkeep

    async def lacks(self, *, keyed: Sequence[str]) -> Sequence[str]:
        found = await asyncio.gather(*[listing.lack_of_sessions(self._links, queue) for queue in dict.fromkeys(keyed)])
        return [words for words in found if words is not None]

    async def sweep_jobs(self, *, now: float, batch: int) -> int:
        return 0 if self._ledger is None else await self._ledger.sweep(now=now, batch=batch)
