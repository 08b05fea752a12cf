"""Listening: a connection of its own on which the server pushes what was published. Made anew when it breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from holdfast.backends.redis.connection import Connection, Cut, Refused
from holdfast.backends.redis.nodes import Nodes
from holdfast.errors import StoreUnavailable
from holdfast.logs import get_logger
from holdfast.ports import WakeUp

log = get_logger("holdfast.store")

CONFIRMED_WITHIN = 10.0
"""Seconds that a server has to say that it will tell us."""
SIGN_OF_LIFE = 15.0
"""Seconds of silence after which the server is asked whether it is still there."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class Listener:
    """The channels of one process."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._wakes: dict[str, list[WakeUp]] = {}
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._connection: Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._heard_at = 0.0

    async def listen(self, channel: str, wake: WakeUp) -> Callable[[], Awaitable[None]]:
        """Call `wake` of what is said there from now on; returns the way to stop. Raises StoreUnavailable."""
        wakes = self._wakes.setdefault(channel, [])
        wakes.append(wake)
        if channel not in self._confirmed:
            self._confirmed[channel] = asyncio.get_running_loop().create_future()
            if self._connection is not None and not self._connection.closed:
                self._connection.send("SUBSCRIBE", self._nodes.address.channel(channel))
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(), name="holdfast-redis-listener")
        try:
            async with asyncio.timeout(CONFIRMED_WITHIN):
                await asyncio.shield(self._confirmed[channel])
        except BaseException as error:
            self._forget(channel, wake)
            if isinstance(error, TimeoutError):
                raise StoreUnavailable(
                    f"{self._nodes.address.shown} has not answered for {CONFIRMED_WITHIN:.0f} seconds; try again"
                ) from error
            raise

        async def stop() -> None:
            self._forget(channel, wake)

        return stop

    async def close(self) -> None:
        """Hear nothing more."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._connection is not None:
            self._connection.close()
        self._wakes.clear()
        self._confirmed.clear()

    def _forget(self, channel: str, wake: WakeUp) -> None:
        wakes = self._wakes.get(channel, [])
        if wake in wakes:
            wakes.remove(wake)
        if not wakes and self._wakes.pop(channel, None) is not None:
            self._confirmed.pop(channel, None)
            if self._connection is not None and not self._connection.closed:
                self._connection.send("UNSUBSCRIBE", self._nodes.address.channel(channel))

    # --- the connection

    async def _keep(self) -> None:
        """Have a connection for as long as this runs."""
        pause = FIRST_PAUSE
        while True:
            try:
                connection = await self._nodes.connect()
            except (Cut, Refused) as error:
                log.warning("cannot listen", error=str(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            lost = asyncio.Event()
            connection.hear(self._told, lost.set)
            self._connection = connection
            try:
                if self._wakes:
                    connection.send("SUBSCRIBE", *map(self._nodes.address.channel, self._wakes))
                await self._until_lost(connection, lost)
            finally:
                connection.close()

    async def _until_lost(self, connection: Connection, lost: asyncio.Event) -> None:
        """Return once it is broken, be it in silence."""
        self._heard_at = time.monotonic()
        while not lost.is_set():
            try:
                async with asyncio.timeout(SIGN_OF_LIFE):
                    await lost.wait()
            except TimeoutError:
                if time.monotonic() - self._heard_at > 2 * SIGN_OF_LIFE:
                    return
                connection.send("PING")

    def _told(self, reply: Any) -> None:
        self._heard_at = time.monotonic()
        if not isinstance(reply, list):
            return
        kind, name, *rest = cast("list[Any]", reply)
        channel = self._nodes.address.name(name.decode("utf-8", "replace")) if isinstance(name, bytes) else ""
        if kind == b"message":
            self._wake(channel, rest[0].decode("utf-8", "replace"))
        elif kind == b"subscribe" and (confirmed := self._confirmed.get(channel)) is not None:
            if not confirmed.done():
                confirmed.set_result(None)
            else:
                # It is a new connection: something may have been missed in between.
                self._wake(channel, "")

    def _wake(self, channel: str, text: str) -> None:
        for wake in list(self._wakes.get(channel, ())):
            wake(channel, text)
