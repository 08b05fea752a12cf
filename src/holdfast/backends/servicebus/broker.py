"""The `Broker` port on Azure Service Bus. A job is a message, its lease the message's lock; there is nothing else to look at.

What follows from a job, and its next attempt, is sent before its own message goes: a crash between leaves both, never none.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from holdfast.backends.servicebus import address as urls
from holdfast.backends.servicebus import dead, listing
from holdfast.backends.servicebus.deaths import described
from holdfast.backends.servicebus.held import Held, Holdings
from holdfast.backends.servicebus.inbox import Inbox
from holdfast.backends.servicebus.ledger import Ledger
from holdfast.backends.servicebus.letters import Letter, as_message, letter_of
from holdfast.backends.servicebus.links import Links
from holdfast.errors import LeaseLost, StoreError, UnsupportedError
from holdfast.ids import JobId, WorkerId
from holdfast.logs import get_logger
from holdfast.model.instance import WorkerView
from holdfast.model.job import (
    Again,
    Cancelled,
    CancelledJobs,
    ClaimedJob,
    ClaimedJobs,
    Failed,
    Job,
    JobFilter,
    JobView,
    QueueDepth,
    Returned,
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

CANCELLED_KEPT = 3600.0
"""Seconds for which it is known of a job that it was dropped before it began."""
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
        self._inboxes: dict[str, Inbox] = {}
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
        self._begin()

    # --- clients

    async def send(self, jobs: Sequence[Job]) -> Sequence[JobId]:
        wanted = {job.id: job for job in reversed(jobs)}
        in_order = [wanted[id] for id in dict.fromkeys(job.id for job in jobs)]
        letters = [letter_of(job) for job in in_order]
        if self._ledger is not None:
            await self._ledger.expect(letters)
        await self._send(letters)
        # Which of them Service Bus has dropped as duplicates, it does not say.
        return [job.id for job in in_order]

    async def _send(self, letters: Sequence[Letter]) -> None:
        letters_by_entity: defaultdict[str, list[Letter]] = defaultdict(list)
        for letter in letters:
            letters_by_entity[self._address.entity(letter.queue)].append(letter)
        ways = [(self._links.outbox(entity), some) for entity, some in letters_by_entity.items()]
        await asyncio.gather(*[outbox.send([as_message(letter) for letter in some]) for outbox, some in ways])

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
            await self._send(letters)

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
        inboxes = [self._inbox(queue) for queue in self._served(queues)]
        if self._ledger is not None:
            await self._drop_recalled(self._ledger, inboxes, now)
        found: list[Held] = []
        for inbox in inboxes:
            found += inbox.take(worker, room - len(found))
        rest = room - len(found)
        for inbox in inboxes:
            inbox.want(-(-rest // len(inboxes)))
        return ClaimedJobs(jobs=[held.job for held in found])

    async def _drop_recalled(self, ledger: Ledger, inboxes: Sequence[Inbox], now: float) -> None:
        """End what waits here and is not wanted any more."""
        waiting = [held for inbox in inboxes for held in inbox.waiting]
        recalled = await ledger.recalled([held.job.id for held in waiting])
        if not recalled:
            return
        end = Cancelled(now, now + CANCELLED_KEPT)
        ended = [(Settlement(held.job.id, held.job.claim, end), held) for held in waiting if held.job.id in recalled]
        waiters = await ledger.conclude(ended)
        await self._settle(ended)
        for inbox in inboxes:
            inbox.waiting = [held for held in inbox.waiting if not held.settled]
        self._holdings.forget(held for _, held in ended)
        await ledger.store.notify({channel: "" for channel, _ in waiters})

    def _served(self, queues: Sequence[str]) -> Sequence[str]:
        """The queues one by one: all that the URL names, if all are meant."""
        return list(self._address.queues) if "*" in queues else list(dict.fromkeys(queues))

    def _inbox(self, queue: str) -> Inbox:
        if queue not in self._inboxes:
            entity = self._address.entity(queue)
            self._inboxes[queue] = Inbox(
                self._links, self._holdings, queue=queue, entity=entity, arrived=lambda: self._wake(JOB_CHANNEL)
            )
        return self._inboxes[queue]

    async def admit(self, worker: WorkerId, jobs: Sequence[ClaimedJob], *, now: float) -> Sequence[JobId]:
        # None of them has a gate.
        return [job.id for job in jobs]

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement]) -> SettledJobs:
        self._check(worker)
        held = {each.id: self._holdings.get(worker, each.id) for each in settlements}
        mine: list[tuple[Settlement, Held]] = []
        for each in {each.id: each for each in settlements}.values():
            one = held[each.id]
            if one is not None and one.job.claim == each.claim and not one.lost:
                mine.append((each, one))
        lost = len(held) - len(mine)
        waiters: Sequence[tuple[str, JobId]] = [] if self._ledger is None else await self._ledger.conclude(mine)
        await self._send_after(mine)
        lost += await self._settle(mine)
        self._holdings.forget(one for one in held.values() if one is not None and (one.settled or one.lost))
        return SettledJobs(lost=lost, waiters=waiters)

    async def _send_after(self, settled: Sequence[tuple[Settlement, Held]]) -> None:
        """Send what follows from these, and their next attempts. Raises StoreError for what cannot be sent."""
        rest = [(each, held) for each, held in settled if not held.copied]
        try:
            letters = {job.id: letter_of(job) for each, _ in rest for job in each.follow}
        except UnsupportedError as error:
            raise StoreError(f"what follows cannot be sent: {error}") from error
        again = [letter for each, held in rest if (letter := _next_letter(each, held)) is not None]
        if self._ledger is not None:
            await self._ledger.expect(list(letters.values()))
        await self._send([*letters.values(), *again])
        for _, held in rest:
            held.copied = True

    async def _settle(self, settled: Sequence[tuple[Settlement, Held]]) -> int:
        """Have the messages removed, or put among the dead; how many were not ours any more."""
        gone: defaultdict[str, list[UUID]] = defaultdict(list)
        lost = 0
        for each, held in settled:
            if held.settled:
                continue
            if isinstance(each.outcome, Failed) and each.outcome.dead:
                desk = self._links.desk(held.entity)
                lost += not await desk.bury(held.token, each.outcome.reason.value, described(each.outcome))
                held.settled = True
            else:
                gone[held.entity].append(held.token)
        by_token = {held.token: held for _, held in settled}
        for entity, tokens in gone.items():
            lost += len(await self._links.desk(entity).complete(tokens))
            for token in tokens:
                by_token[token].settled = True
        return lost

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
        await self._give_back([held for held in rest if not held.lost], now)
        self._holdings.forget(rest)

    async def _leave(self) -> list[Held]:
        """Receive and renew no more; what nobody had claimed."""
        self._left.set()
        if self._renewing is not None:
            await self._renewing
            self._renewing = None
        unlisten, self._unlisten = self._unlisten, None
        if unlisten is not None:
            await unlisten()
        inboxes, self._inboxes = list(self._inboxes.values()), {}
        await asyncio.gather(*[inbox.close() for inbox in inboxes])
        return [held for inbox in inboxes for held in inbox.waiting]

    async def _give_back(self, rest: Sequence[Held], now: float) -> None:
        """Send these again as they were, and remove them: to be let go would count as a lost worker."""
        returned = [(Settlement(held.job.id, held.job.claim, Returned(now)), held) for held in rest]
        await self._send_after(returned)
        await self._settle(returned)

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

    async def sweep_jobs(self, *, now: float, batch: int) -> int:
        return 0 if self._ledger is None else await self._ledger.sweep(now=now, batch=batch)


def _next_letter(settlement: Settlement, held: Held) -> Letter | None:
    """The message that takes this one's place."""
    letter, job = held.letter, held.job
    match settlement.outcome:
        case Again(due_at, error):
            return letter._replace(attempt=job.attempt + 1, claims=job.claim, losses=0, due_at=due_at, error=error)
        case Returned(due_at):
            return letter._replace(claims=job.claim, losses=job.losses, due_at=due_at)
        case _:
            return None
