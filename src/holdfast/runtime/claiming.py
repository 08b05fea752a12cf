"""Claiming: take from the store what there is room for, and rest while there is nothing. Runs none of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence, Sized

from holdfast.clock import Clock
from holdfast.ids import WorkerId
from holdfast.model.instance import Claimed, Claims, SpilledCall
from holdfast.ports import Store
from holdfast.runtime.counting import Counts
from holdfast.runtime.executor import Executor
from holdfast.runtime.patience import patiently
from holdfast.runtime.sharing import serves
from holdfast.settings import Settings

COURTESY = 0.3
"""Seconds by which a worker that holds back comes later than others to what gets due."""
HELD_BACK = 60.0
"""Seconds for which it does."""
CLAIM_LIMIT = 500
"""Instances in one claim: as many as are written together, so that claims and commits take turns."""
FULL_POLL = 1.0
"""Seconds between two looks into the inboxes by a worker that is full, and is told of what comes."""
GLANCE = 0.01
"""Seconds between two questions whether another process has written, to a store that knows; each costs microseconds."""


class Claiming:
    """The loop by which one worker comes by its work.

    `adopt` is given the instances, `take` each call of another's instance; `mail` is called when inboxes may have changed,
    `mail_looks` says how often anybody did so, `stirred` is called when another process has written anything at all, to a
    store that knows.
    """

    def __init__(
        self,
        worker: WorkerId,
        *,
        store: Store,
        clock: Clock,
        settings: Settings,
        executor: Executor,
        residents: Sized,
        adopt: Callable[[Sequence[Claimed]], Awaitable[None]],
        take: Callable[[SpilledCall], None],
        mail: Callable[[], None],
        mail_looks: Callable[[], int],
        stirred: Callable[[], None] = lambda: None,
        counts: Counts | None = None,
    ) -> None:
        self.queues = settings.queue_names
        self._worker = worker
        self._store = store
        self._clock = clock
        self._settings = settings
        self._executor = executor
        self._residents = residents
        self._adopt = adopt
        self._take = take
        self._mail = mail
        self._mail_looks = mail_looks
        self._stirred = stirred
        self._counts = counts
        self._poll = settings.poll_interval_ms / 1000
        self._notifies = store.traits.notifies
        self._glances = not store.traits.notifies and store.traits.sees_changes
        self._version: int | None = None
        self.left_behind = False
        """Whether the last claim saw more than it took."""
        self.left_behind_at = 0.0
        """When one did so last, by the monotonic clock."""
        self._look = asyncio.Event()
        """There may be something to claim."""
        self._hungry = True
        """The last claim may have left something behind, for want of room."""
        self._idle = False
        """Whether the store was told that this worker has nothing to do."""
        self._napping = False
        self._holds_back_until = 0.0
        self._ending = False

    def look(self, *_: str) -> None:
        """There may be work to claim."""
        self._look.set()

    def made_room(self) -> None:
        """An instance has left: look for others, if some may be waiting or nobody announces them."""
        if self._hungry or not (self._residents or self._idle):
            self._look.set()

    def hold_back(self) -> None:
        """There are instances that this worker cannot run: for a while, let others be first when something gets due."""
        self._holds_back_until = time.monotonic() + HELD_BACK

    def serves(self, queue: str) -> bool:
        """Whether this worker takes work of that queue."""
        return serves(self.queues, queue)

    def end(self) -> None:
        """Claim nothing more."""
        self._ending = True
        self._look.set()

    @property
    def at_rest(self) -> bool:
        """Whether it claims nothing until time passes or somebody calls `look`."""
        return self._napping and not self._look.is_set()

    async def claim(self) -> None:
        """Claim what there is room for, until `end` is called."""
        nap = self._poll
        while not self._ending:
            self._look.clear()
            left = self._settings.max_instances - len(self._residents)
            room = max(0, min(left, CLAIM_LIMIT))
            call_room = self._call_room()
            if self._is_full(left) and call_room == 0:
                await self._until_room()
                continue
            claims = await self._claim_once(room, call_room)
            if claims.instances or claims.calls:
                nap = self._poll
                if len(claims.instances) >= CLAIM_LIMIT:
                    await asyncio.sleep(0)
                    continue
            elif not self._residents and not self._idle:
                # Once more after saying so: what was started before that was not announced.
                await self._say_idle(True)
                continue
            elif not self._residents:
                nap = min(max(nap * 2, self._poll), 1.0) if self._notifies else self._poll
            elif self._idle and len(self._residents) > CLAIM_LIMIT:
                await self._say_idle(False)
            await self._nap(nap, claims.next_due)

    async def _claim_once(self, room: int, call_room: int) -> Claims:
        heard = self._mail_looks()
        claims = await patiently(
            lambda: self._store.claim(
                self._worker, queues=self.queues, room=room, call_room=call_room, now=self._clock.now()
            )
        )
        if self._counts is not None:
            self._counts.claimed("instance", len(claims.instances))
        self._hungry = len(claims.instances) >= room
        self.left_behind = claims.more_calls or len(claims.instances) >= room > 0
        if self.left_behind:
            self.left_behind_at = time.monotonic()
        self._executor.freed = self.look if claims.more_calls else None
        for call in claims.calls:
            self._take(call)
        if claims.instances:
            await self._adopt(claims.instances)
            # What came since the claim was announced to one who had no such residents yet.
            if any(one.told for one in claims.instances) or self._mail_looks() != heard:
                self._mail()
        return claims

    async def _say_idle(self, idle: bool) -> None:
        await patiently(lambda: self._store.idle(self._worker, idle))
        self._idle = idle

    def _call_room(self) -> int:
        room = max(0, self._executor.room - self._executor.load)
        return room if self._settings.batch_size is None else min(room, self._settings.batch_size)

    def _is_full(self, room: int) -> bool:
        # A claim for a few is not worth its statement, and what nothing here can run is better left to others.
        return room < min(CLAIM_LIMIT, self._settings.max_instances) // 4 + 1 or self._executor.room == 0

    async def _until_room(self) -> None:
        """Wait until an instance has left or an action has ended. Claims nothing meanwhile."""
        self._executor.freed = self.look
        # What it does not ask for now may be there: who leaves makes room for that.
        self._hungry = True
        try:
            # What other processes write into the inboxes of its instances may be seen by looking only.
            await self._nap(FULL_POLL if self._notifies else self._poll, None)
        finally:
            self._executor.freed = None

    async def _changed(self) -> bool:
        """Whether another process has written since the last time, as far as the store knows."""
        before, self._version = self._version, await patiently(self._store.version)
        return self._version is None or self._version != before

    async def _nap(self, nap: float, next_due: float | None) -> None:
        """Wait until something may have changed: told so, a moment has come, or another process has written."""
        begin = time.monotonic()
        if next_due is not None and begin < self._holds_back_until:
            next_due += COURTESY
        deadline = begin + (min(nap, GLANCE) if self._glances else nap)
        cancel = self._clock.call_at(next_due, self.look) if next_due is not None else None
        self._napping = True
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0 and (not self._glances or await self._changed()):
                    if self._residents:
                        self._mail()
                    if self._glances:
                        self._stirred()
                    return
                if left <= 0:
                    # The longer nothing happens, the longer the pauses, up to the poll interval.
                    idle = time.monotonic() - begin
                    deadline = time.monotonic() + min(nap, max(GLANCE, idle / 20))
                    continue
                try:
                    async with asyncio.timeout(left):
                        await self._look.wait()
                    return
                except TimeoutError:
                    continue
        finally:
            self._napping = False
            if cancel is not None:
                cancel()
