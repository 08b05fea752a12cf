"""Writing: what instances produce, committed in groups. One writer a worker; takes no turn itself, begins nothing.

It never waits on a timer to fill a batch: what came in while one commit was under way makes the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from holdfast.clock import Clock
from holdfast.errors import LeaseLost, StoreError
from holdfast.ids import InstanceId, WorkerId
from holdfast.logs import get_logger
from holdfast.model.instance import Commit, Committed, Park
from holdfast.ports import Settled, Store
from holdfast.runtime.counting import Counts
from holdfast.runtime.patience import patiently
from holdfast.runtime.resident import Resident
from holdfast.runtime.turns import Begun

log = get_logger("holdfast.worker")

COMMIT_LIMIT = 500
"""Instances in one commit: enough to amortise it, few enough that the others need not wait long."""
PORTION = 50
"""Turns taken at a stretch while a group is being written, so that its end is noticed in time."""


Written = tuple[Resident, Commit, Sequence[Begun]]
"""A resident with what it produced, and the commands that wait for that to be durable."""


@dataclass(slots=True)
class Group:
    """What is written together."""

    settled: list[Settled] = field(default_factory=list[Settled])
    commits: list[Commit] = field(default_factory=list[Commit])
    """Of instances that are given up: how they leave."""
    written: list[Written] = field(default_factory=list[Written])
    held: set[InstanceId] = field(default_factory=set[InstanceId])

    def __bool__(self) -> bool:
        return bool(self.settled or self.commits or self.written)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written, and the store's answer."""

    committed: Committed
    commits: Sequence[Commit]
    written: Sequence[Written]

    @property
    def leaving(self) -> Sequence[Commit]:
        """The commits of those that are no residents."""
        if len(self.commits) == len(self.written):
            return ()
        residents = {commit.instance for _, commit, _ in self.written}
        return [commit for commit in self.commits if commit.instance not in residents]


class Holder(Protocol):
    """Who holds the residents, as the writer sees it."""

    def turn(self, resident: Resident, now: float) -> Written | None:
        """Let it take its turn; None if there is nothing to write."""
        ...

    def abandon(self, resident: Resident, reason: str) -> None:
        """Let go of it, and park it."""
        ...

    def forget(self, resident: Resident) -> None:
        """Let go of it."""
        ...

    async def prepare(self) -> None:
        """Store what must be there before the next commit."""
        ...

    def announce(self, committed: Committed) -> None:
        """Tell whoever waits for what a commit did."""
        ...

    async def conclude(self, receipt: Receipt) -> None:
        """A group is durable: what it asked for begins."""
        ...


class Writer:
    """Has residents take their turns, and writes what they produce."""

    def __init__(
        self, worker: WorkerId, holder: Holder, *, store: Store, clock: Clock, counts: Counts | None = None
    ) -> None:
        self.commits = 0
        """How many groups it has sent."""
        self._worker = worker
        self._holder = holder
        self._store = store
        self._clock = clock
        self._counts = counts
        self._stirred: dict[InstanceId, Resident] = {}
        self._later: dict[InstanceId, Resident] = {}
        """Those whose last turn is not written yet: their next one waits for that."""
        self._leaving: list[Commit] = []
        self._settled: list[Settled] = []
        self._coming = Group()
        self._sending: asyncio.Future[list[Receipt]] | None = None
        self._held: set[InstanceId] = set()
        """Of the groups that are being written, or were and are not concluded."""
        self._wake = asyncio.Event()
        self._wrote = asyncio.Event()
        self._writing = False

    # --- what is to be written

    def stir(self, resident: Resident) -> None:
        """Something happened to it: it takes its turn with the next commit."""
        if resident.gone:
            return
        if resident.id in self._held or resident.id in self._coming.held:
            self._later[resident.id] = resident
        else:
            self._stirred[resident.id] = resident
            self._wake.set()

    def give_up(self, commit: Commit) -> None:
        """An instance that is no resident leaves: it is parked, or ends."""
        self._leaving.append(commit)
        self._wake.set()

    def settle(self, settled: Settled) -> None:
        """A call of another's instance has its outcome."""
        self._settled.append(settled)
        self._wake.set()

    def forget(self, id: InstanceId) -> None:
        """This instance takes no turn any more."""
        self._stirred.pop(id, None)
        self._later.pop(id, None)

    def forget_all(self) -> None:
        """Write nothing of what came before."""
        self._stirred.clear()
        self._later.clear()
        self._settled.clear()
        self._leaving.clear()
        self._coming = Group()

    def is_stirred(self, id: InstanceId) -> bool:
        """Whether its turn is to come."""
        return id in self._stirred or id in self._later

    @property
    def busy(self) -> bool:
        """Whether anything is being written, or waits for that."""
        return bool(self._writing or self._stirred or self._later or self._leaving or self._settled or self._coming)

    async def wrote(self) -> None:
        """Return when, from now on, everything has been written once."""
        self._wrote.clear()
        await self._wrote.wait()

    # --- writing it

    async def write(self) -> None:
        """Commit what instances produce, in groups, for as long as this runs."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._writing = True
                await self._write_all()
                self._writing = False
                self._wrote.set()
        finally:
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.gather(self._sending, return_exceptions=True)

    async def _write_all(self) -> None:
        """Write until nothing is left. While one group is written, the next one is made."""
        self._gather(COMMIT_LIMIT)
        group = self._dispatch()
        while group is not None:
            receipts = await self._until_sent()
            # A large group goes first, so that the store has work while this process begins what the last one allows.
            following = self._dispatch() if len(self._coming.written) >= PORTION else None
            for receipt in receipts:
                self._holder.announce(receipt.committed)
                await self._holder.conclude(receipt)
            self._bring_forward(group)
            if following is None:
                self._gather(COMMIT_LIMIT)
                following = self._dispatch()
            group = following

    def _bring_forward(self, group: Group) -> None:
        """The turns that waited for this group to be written can be taken now."""
        self._held -= group.held
        for id in self._later.keys() & group.held:
            self.stir(self._later.pop(id))

    def _gather(self, most: int) -> None:
        """Let up to `most` of those to whom something happened take their turn, for the group that comes next."""
        coming = self._coming
        coming.settled += self._settled
        self._settled = []
        coming.commits += self._leaving
        self._leaving = []
        now = self._clock.now()
        turn, written, held, stirred = self._holder.turn, coming.written, coming.held, self._stirred
        most = min(most, COMMIT_LIMIT - len(written))
        for resident in list(islice(stirred.values(), most)):
            id = resident.id
            if stirred.pop(id, None) is not resident:
                continue
            try:
                produced = turn(resident, now)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - one instance's trouble must never be another's
                self._holder.abandon(resident, f"its turn failed here: {type(error).__name__}: {error}")
                continue
            if produced is not None:
                held.add(id)
                written.append(produced)
        if stirred and len(written) < COMMIT_LIMIT:
            # There is room for more: in the next portion.
            self._wake.set()

    def _dispatch(self) -> Group | None:
        """Send the group that was made; None where there is none."""
        group, self._coming = self._coming, Group()
        if not group:
            self._sending = None
            return None
        self._held |= group.held
        self._sending = asyncio.ensure_future(self._send(group))
        self._sending.add_done_callback(lambda _: self._wake.set())
        return group

    async def _until_sent(self) -> list[Receipt]:
        """What became of the group that was sent, and meanwhile the turns of those whom it does not concern."""
        sending = self._sending
        assert sending is not None
        while not sending.done():
            await self._wake.wait()
            self._wake.clear()
            if not sending.done():
                self._gather(PORTION)
                await asyncio.sleep(0)
        return sending.result()

    async def _send(self, group: Group) -> list[Receipt]:
        if group.settled:
            self._holder.announce(await patiently(lambda: self._store.settle(self._worker, group.settled)))
        # Those given up since they took their turn stay where they were: a park follows, or has come before.
        written = [each for each in group.written if not each[0].gone]
        commits = [*group.commits, *(commit for _, commit, _ in written)]
        if not commits:
            return []
        await self._holder.prepare()
        self.commits += 1
        try:
            committed = await self._commit(commits)
        except LeaseLost:
            raise
        except StoreError as error:
            log.error("group refused", error=str(error), hint="its instances are written one by one")
            return await self._one_by_one(commits, written)
        return [Receipt(committed, commits, written)]

    async def _one_by_one(self, commits: Sequence[Commit], written: Sequence[Written]) -> list[Receipt]:
        """Write a refused group instance by instance, and park whichever the store refuses."""
        owned = {commit.instance: (resident, commit, commands) for resident, commit, commands in written}
        receipts: list[Receipt] = []
        for commit in commits:
            mine = [owned[commit.instance]] if commit.instance in owned else []
            try:
                committed = await self._commit([commit])
            except LeaseLost:
                raise
            except StoreError as error:
                words = f"the store refuses what it did: {error}"
                reason = words.encode("ascii", "replace").decode().replace("\0", "?")
                park = Commit(instance=commit.instance, close=Park(reason=reason[:1000]), claim=commit.claim)
                for resident, _, _ in mine:
                    self._holder.forget(resident)
                receipts.append(Receipt(await self._commit([park]), [park], []))
                continue
            receipts.append(Receipt(committed, [commit], mine))
        return receipts

    async def _commit(self, commits: Sequence[Commit]) -> Committed:
        begin = time.monotonic()
        committed = await patiently(lambda: self._store.commit(self._worker, commits))
        if self._counts is not None:
            self._counts.committed("instance", len(commits), time.monotonic() - begin)
        return committed
