"""One connection: commands go out in the order of their calls, many at once, and answers come back in the same order.

Knows no command but those that begin a connection. What it cannot do it says as `Cut`, or as an error of the server.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from holdfast.backends.redis.address import Address, Node

Argument = str | int | float | bytes
LOOKS = 4
"""In how many parts a connection waits for an answer: a look after each costs less than an alarm for each command."""
_MORE = object()
_IN_SCRIPT = re.compile(r"ERR Error running script .*?: -([A-Z]+) ")


class Cut(Exception):
    """The connection has ended, or cannot be made. What was asked last may have happened or not."""


class Refused(Exception):
    """The server answers with an error, whose first word says which."""

    @property
    def code(self) -> str:
        """The first word; of an error within a script, which Redis 6 tells in its own words, that of the command."""
        within = _IN_SCRIPT.match(str(self))
        return within[1] if within else str(self).partition(" ")[0]


class Connection(asyncio.Protocol):
    """Speaks RESP over a stream. Where an answer does not come within `timeout` seconds, or a quarter more, it ends."""

    def __init__(self, timeout: float) -> None:
        self.closed = False
        self._pause = timeout / LOOKS
        self._looks = 0
        """How often the same answer was still awaited, in a row."""
        self._awaited: asyncio.Future[Any] | None = None
        """The answer that was awaited longest at the last look."""
        self._alarm: asyncio.TimerHandle | None = None
        self._told: Callable[[Any], None] | None = None
        self._lost: Callable[[], None] | None = None
        self._reader = hiredis.Reader(replyError=Refused, notEnoughData=_MORE)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._leaving: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def ask(self, *command: Argument) -> asyncio.Future[Any]:
        """Send a command; the answer, which is a `Refused` where it is an error. Raises UnicodeEncodeError, and sends nothing."""
        packed = _pack(command)
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.closed:
            future.set_exception(Cut("it is closed"))
            return future
        # While nobody else asks, the next turn of the loop need not be waited for.
        at_once = not (self._waiting or self._leaving)
        self._waiting.append(future)
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._pause, self._look)
        if at_once and self._transport is not None:
            self._transport.write(packed)
            return future
        if not self._leaving:
            # What is asked in one turn of the loop leaves in one piece.
            self._loop.call_soon(self._flush)
        self._leaving.append(packed)
        return future

    def send(self, *command: Argument) -> None:
        """Send a command whose answer is pushed, as are all where `hear` was called."""
        if self._transport is not None:
            self._transport.write(_pack(command))

    def hear(self, told: Callable[[Any], None], lost: Callable[[], None]) -> None:
        """From now on nothing is asked here: what comes in was pushed by the server. `lost` is called at the end."""
        self._told, self._lost = told, lost

    def close(self) -> None:
        """End it; who still waits for an answer gets `Cut`."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.connection_lost(error)

    def _look(self) -> None:
        """End it where the answer that is awaited longest was so at all looks of late."""
        self._alarm = None
        if self.closed or not self._waiting:
            return
        awaited = self._waiting[0]
        self._looks = self._looks + 1 if awaited is self._awaited else 0
        self._awaited = awaited
        if self._looks >= LOOKS:
            self._end(TimeoutError("no answer in time"))
        else:
            self._alarm = self._loop.call_later(self._pause, self._look)

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, []
        if leaving and self._transport is not None and not self.closed:
            self._transport.write(leaving[0] if len(leaving) == 1 else b"".join(leaving))

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _MORE:
                if self._told is not None:
                    self._told(reply)
                elif not (future := self._waiting.popleft()).done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(Cut(str(exc or "the server closed the connection")))
                # Whoever had asked may have been cancelled meanwhile.
                future.exception()
        self._waiting.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._lost is not None:
            self._lost()


# Its own types take one word only.
_pack = cast("Callable[[Sequence[Argument]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]


async def connect(address: Address, node: Node | None) -> Connection:
    """A connection on which commands can be sent. Raises Cut or Refused."""
    loop = asyncio.get_running_loop()

    def protocol() -> Connection:
        return Connection(address.timeout)

    try:
        async with asyncio.timeout(min(address.timeout, 10.0)):
            if node is None:
                _, made = await loop.create_unix_connection(protocol, address.path)
            else:
                name = node.host if address.tls is not None else None
                _, made = await loop.create_connection(
                    protocol, node.host, node.port, ssl=address.tls, server_hostname=name
                )
            try:
                await _introduce(made, address)
            except BaseException:
                made.close()
                raise
    except ssl.SSLCertVerificationError as error:
        raise Refused(f"TLS {error}") from error
    except (OSError, TimeoutError) as error:
        raise Cut(str(error) or "no answer in time") from error
    return made


async def _introduce(connection: Connection, address: Address) -> None:
    first: list[Sequence[Argument]] = []
    if address.password is not None:
        first.append(("AUTH", address.user, address.password) if address.user else ("AUTH", address.password))
    if address.database:
        first.append(("SELECT", address.database))
    answers = [connection.ask(*command) for command in first]
    # Only a courtesy to whoever looks at the list of clients; some proxies don't know it.
    named = connection.ask("CLIENT", "SETNAME", "holdfast")
    for answer in [await each for each in answers]:
        if isinstance(answer, Refused):
            raise answer
    await named
