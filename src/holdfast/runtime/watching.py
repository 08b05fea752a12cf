"""Watching: wait for what ends elsewhere. Told of ends where that is announced, and looking now and then in any case."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar, cast
from weakref import WeakValueDictionary

from holdfast.errors import HoldfastError, StoreError, StoreUnavailable, WaitTimeout
from holdfast.ids import uuid7
from holdfast.logs import get_logger
from holdfast.ports import CLIENT_CHANNEL, Announcements
from holdfast.runtime.announcing import read_ended
from holdfast.runtime.patience import patiently

log = get_logger("holdfast")

Id = TypeVar("Id", bound=str)
View = TypeVar("View")

FALLBACK_POLL = 2.0
"""Seconds after which a waiting client looks for itself, in case an announcement was lost."""
GLANCE = 0.02
"""Seconds between two questions whether another process has written, to a store that knows."""
FIRST_LOOK = 1.0
"""Seconds that whoever has waited long enough waits for the first look, if that has not been answered yet."""
CHECK_LIMIT = 500
"""Things looked at in one statement."""


class Expectation:
    """That the end of something will be announced, since it has the watch's channel from its start."""

    __slots__ = ("__weakref__", "told")

    def __init__(self) -> None:
        self.told = False
        """Whether it may have been announced already."""


class Watch(Generic[Id, View]):
    """What one process waits for, of one kind.

    `look` gives the views of what exists, and with a channel has their ends announced there. `ended` says whether a view
    is one to wait no longer for, `missing` what to raise for an id without one.
    """

    def __init__(
        self,
        announcements: Announcements,
        *,
        kind: str,
        poll_interval: float,
        look: Callable[[Sequence[Id], str | None], Awaitable[Mapping[Id, View]]],
        ended: Callable[[View], bool],
        missing: Callable[[Id], Exception],
    ) -> None:
        self.announcements = announcements
        self.channel = f"{CLIENT_CHANNEL}{uuid7()}"
        self._kind = kind
        self._poll_interval = poll_interval
        self._look = look
        self._has_ended = ended
        self._missing = missing
        self._waiting: dict[Id, list[asyncio.Future[View]]] = {}
        self._unseen: list[Id] = []
        """Those that have just begun to be waited for, and who do not know of it."""
        self._looks: asyncio.Future[None] | None = None
        """Done when they have been looked at."""
        self._expected: WeakValueDictionary[Id, Expectation] = WeakValueDictionary()
        self._told: list[str] = []
        """Those that are said to have ended."""
        self._any_ended = False
        """Whether others may have ended as well."""
        self._version: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """The one in which it watches."""
        self._woken = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], Awaitable[None]] | None = None
        self._beginning = asyncio.Lock()

    async def listen(self) -> None:
        """Begin to watch, so that whatever is started from now on can be given the channel."""
        loop = self._come_home()
        if self._watcher is not None and not self._watcher.done():
            return
        async with self._beginning:
            if self._unlisten is None:
                self._unlisten = await self.announcements.listen(self.channel, self._announce)
            if self._watcher is None or self._watcher.done():
                self._watcher = loop.create_task(self._watch())
                self._watcher.add_done_callback(self._died)

    def _come_home(self) -> asyncio.AbstractEventLoop:
        """An App may be used in one event loop after the other: nothing of the last one serves in this."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._woken, self._beginning = loop, asyncio.Event(), asyncio.Lock()
            self._watcher = self._unlisten = None
            self._waiting.clear()
            self._looks = None
            self._doubt()
        return loop

    def tell(self, id: Id, view: View) -> bool:
        """This process itself has seen its end: True if somebody here waited for it."""
        futures = self._waiting.pop(id, None)
        if futures is None:
            return False
        for future in futures:
            if not future.done():
                future.set_result(view)
        return True

    def look_again(self, id: Id) -> None:
        """This process itself knows that something happened to it."""
        if id in self._waiting:
            self._unseen.append(id)
            self._woken.set()

    def expect(self, id: Id) -> Expectation:
        """Call this before starting something with the channel: what is announced before it is waited for is not missed."""
        return self._expected.setdefault(id, Expectation())

    async def outcome(self, id: Id, *, timeout: float | None = None, expected: Expectation | None = None) -> View:
        """The view of it once it has ended. `expected`: it has had the channel from its start. Raises WaitTimeout.

        What has ended already is told however short the time is.
        """
        await self.listen()
        future: asyncio.Future[View] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, []).append(future)
        looks: asyncio.Future[None] | None = None
        if expected is None or expected.told:
            # From here on its end is announced; if it has ended already, this says so.
            looks = self._ask(id, self._unseen if expected is None else self._told)
        try:
            if timeout is None:
                return await future
            await asyncio.wait([future], timeout=timeout)
            if not future.done():
                # The announcement of what was expected may be on its way.
                looks = looks or self._ask(id, self._told)
                await asyncio.wait([future, looks], timeout=FIRST_LOOK, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            raise WaitTimeout(f"{self._kind} {id} has not ended within {timeout:g} seconds; it goes on")
        finally:
            waiting = self._waiting.get(id)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiting[id]

    def _ask(self, id: Id, among: list[Id] | list[str]) -> asyncio.Future[None]:
        """Have it looked at with those; done when that has been."""
        among.append(id)
        self._looks = self._looks or asyncio.get_running_loop().create_future()
        self._woken.set()
        return self._looks

    async def close(self) -> None:
        """Stop watching."""
        self._come_home()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(StoreUnavailable("the App was closed while its result was waited for"))
        self._waiting.clear()
        if self._unlisten is not None:
            await self._unlisten()
            self._unlisten = None

    def _died(self, watcher: asyncio.Task[None]) -> None:
        """Nobody would look any more: whoever waits hears why."""
        error = None if watcher.cancelled() else watcher.exception()
        if error is None:
            return
        log.error("watching ended", kind=self._kind, error=str(error), exc_info=error)
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        self._waiting.clear()

    # --- watching

    async def _watch(self) -> None:
        """Look at what is waited for, when told so and now and then."""
        notifies = self.announcements.traits.notifies
        nap = FALLBACK_POLL if notifies else self._poll_interval
        if not notifies and self.announcements.traits.sees_changes:
            nap = min(nap, GLANCE)
        while True:
            unseen: list[Id] = []
            seen: list[Id] = []
            looks: asyncio.Future[None] | None = None
            try:
                async with asyncio.timeout(nap):
                    await self._woken.wait()
                self._woken.clear()
                unseen, self._unseen = self._unseen, []
                looks, self._looks = self._looks, None
                told, self._told = set(self._told), []
                seen = [id for id in self._waiting if self._any_ended or id in told]
                self._any_ended = False
            except TimeoutError:
                if notifies:
                    # Announcements are rarely lost: the oldest few are looked at in turn, and told again who waits.
                    unseen = list(self._waiting)[:CHECK_LIMIT]
                elif self._waiting and await self._changed():
                    seen = list(self._waiting)
            for ids, waiter in ((unseen, self.channel), (seen, None)):
                for i in range(0, len(ids), CHECK_LIMIT):
                    await self._patiently_check(ids[i : i + CHECK_LIMIT], waiter)
                    await asyncio.sleep(0)
            if looks is not None and not looks.done():
                looks.set_result(None)

    async def _changed(self) -> bool:
        """Whether another process has written since the last time, as far as the store knows."""
        try:
            before, self._version = self._version, await self.announcements.version()
        except HoldfastError:
            # Out of reach for the moment; the next look says more.
            return True
        return self._version is None or self._version != before

    async def _patiently_check(self, ids: list[Id], waiter: str | None) -> None:
        async def check() -> None:
            try:
                await self._check(ids, waiter)
            except StoreError:
                # What is announced during an outage is lost, so that all are looked at after it.
                self._announce()
                raise

        # Nobody else would look for those who wait, so that whatever the store says, this goes on.
        try:
            await patiently(check, first=1.0, longest=1.0, trouble=StoreError)
        except Exception as error:  # noqa: BLE001 - what cannot be read keeps nobody else waiting
            for future in [future for id in ids for future in self._waiting.pop(id, ())]:
                if not future.done():
                    future.set_exception(error)

    def _announce(self, channel: str = "", text: str = "") -> None:
        ended = read_ended(text)
        if ended is None:
            self._any_ended = True
            self._doubt()
        else:
            self._told += ended
            for expectation in [self._expected[id] for id in cast("list[Id]", ended) if id in self._expected]:
                expectation.told = True
        self._woken.set()

    def _doubt(self) -> None:
        """Any of those that are expected may have been announced."""
        for expectation in list(self._expected.values()):
            expectation.told = True

    async def _check(self, ids: list[Id], waiter: str | None) -> None:
        """Look at these; with a waiter's channel, have them announce their ends there."""
        found = await self._look(ids, waiter)
        for id in ids:
            view = found.get(id)
            if view is not None and not self._has_ended(view):
                continue
            for future in self._waiting.pop(id, ()):
                if future.done():
                    continue
                if view is None:
                    future.set_exception(self._missing(id))
                else:
                    future.set_result(view)
