"""A line to the server: scripts and commands over one connection, which is made anew when it breaks.

What cannot be done now ends as `StoreUnavailable`, and may be asked again; what never can, as another error.
"""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.backends.redis.connection import Argument, Connection, Cut, Refused
from holdfast.backends.redis.nodes import Nodes
from holdfast.backends.redis.scripts import SCRIPTS
from holdfast.errors import ConfigurationError, StoreError, StoreUnavailable

PASSING = (
    "LOADING",
    "BUSY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "ASK",
    "READONLY",
    "OOM",
    "NOREPLICAS",
    "UNBLOCKED",
)
"""Errors of a server that starts, is full, fails over, or is being moved."""
UNWANTED = ("NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "TLS")
ELSEWHERE = ("READONLY", "MASTERDOWN", "CLUSTERDOWN")
"""Errors after which another server may have to be looked for."""
MOVES = 5
"""How often in a row a cluster may send a command to another node."""


class Line:
    """Commands of any number of callers at once, in the order in which they come."""

    def __init__(self, nodes: Nodes) -> None:
        self.commands = 0
        """How many were sent so far."""
        self._nodes = nodes
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def run(self, script: str, *arguments: Argument, once: bool = False) -> Any:
        """The answer of a script. `once`: it may not be sent again without a look at what it did."""
        found = SCRIPTS[script]
        answer = await self._ask("EVALSHA", found.sha, 1, self._nodes.address.key, *arguments, once=once)
        if isinstance(answer, Refused) and answer.code == "NOSCRIPT":
            # The server was started, or another took its place: this one learns the script with the call.
            answer = await self._ask("EVAL", found.text, 1, self._nodes.address.key, *arguments, once=once)
        return self._checked(answer)

    async def ask(self, *command: Argument) -> Any:
        """The answer of a command, whose key comes second if it has one."""
        return self._checked(await self._ask(*command, once=False))

    async def close(self) -> None:
        self._closed = True
        self._drop(self._connection)

    async def _ask(self, *command: Argument, once: bool) -> Any:
        """The answer, an error of the server included; again over another connection where one breaks."""
        tries, moves = (1 if once else 2), 0
        while True:
            connection: Connection | None = None
            try:
                connection = self._connection
                if connection is None or connection.closed:
                    async with asyncio.timeout(self._nodes.address.timeout):
                        connection = await self._ready()
                self.commands += 1
                answer = await connection.ask(*command)
            except (Cut, TimeoutError) as error:
                self._drop(connection)
                tries -= 1
                if tries == 0:
                    reason = str(error) or "no answer in time"
                    raise StoreUnavailable(
                        f"{self._shown} cannot be reached now ({reason}); the same call may succeed later"
                    ) from error
                continue
            except Refused as error:
                return error
            except UnicodeEncodeError as error:
                raise StoreError(f"an id or a name is no text: {error}") from error
            if (
                isinstance(answer, Refused)
                and answer.code == "MOVED"
                and moves < MOVES
                and self._nodes.moved(str(answer))
            ):
                moves += 1
                self._drop(connection)
                continue
            return answer

    def _checked(self, answer: Any) -> Any:
        if not isinstance(answer, Refused):
            return answer
        if answer.code in ELSEWHERE:
            self._nodes.current = None
            self._drop(self._connection)
        if answer.code in PASSING or answer.code == "MOVED" or "max number of clients" in str(answer):
            raise StoreUnavailable(
                f"{self._shown} cannot do that now ({answer}); the same call may succeed later"
            ) from answer
        if answer.code in UNWANTED or str(answer).startswith("ERR AUTH"):
            raise ConfigurationError(f"{self._shown} turns us away: {answer}") from answer
        raise StoreError(f"{self._shown} refused a command: {answer}") from answer

    @property
    def _shown(self) -> str:
        return self._nodes.address.shown

    def _drop(self, connection: Connection | None) -> None:
        """Use this one no more. Others may have made a new one by now."""
        if connection is not None:
            connection.close()
            if self._connection is connection:
                self._connection = None

    async def _ready(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._closed:
            raise Cut("it is closed here: open it again first")
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                self._connection = await self._nodes.connect()
        return self._connection
