"""Where the server is: the nodes of a URL, and in a cluster those that it has named since. Shared by all connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from holdfast.backends.redis.address import Address, Node
from holdfast.backends.redis.connection import Connection, Cut, Refused, connect


class Nodes:
    """The servers of one address. `current` is where the keys are, as far as is known."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.current: Node | None = None
        self._known: list[Node] = list(address.nodes)

    async def connect(self) -> Connection:
        """A connection to the current node, or to whichever answers. Raises Cut or Refused."""
        if self.address.path is not None:
            return await connect(self.address, None)
        error: Cut | None = None
        known = [*([self.current] if self.current else []), *(node for node in self._known if node != self.current)]
        for node in known:
            try:
                connection = await connect(self.address, node)
                await self._learn(connection)
                return connection
            except Cut as cut:
                error = cut
        self.current = None
        raise error or Cut("no server is known")

    def moved(self, said: str, from_host: str | None = None) -> bool:
        """Heed an answer such as `MOVED 3999 127.0.0.1:6381`; whether it could be read."""
        host, colon, port = said.split(" ")[-1].rpartition(":")
        if not colon or not port.isdecimal():
            return False
        # Without a host it is the one that was asked.
        self.current = Node(host or from_host or self.address.nodes[0].host, int(port))
        return True

    async def _learn(self, connection: Connection) -> None:
        """Ask a cluster for all its nodes: those of the URL may be gone when this one fails."""
        if not self.address.cluster:
            return
        slots = await connection.ask("CLUSTER", "SLOTS")
        if isinstance(slots, Refused):
            return
        named = [_node(each) for slot in cast("Sequence[Any]", slots) for each in slot[2:]]
        self._known = list(dict.fromkeys([*(node for node in named if node is not None), *self.address.nodes]))


def _node(entry: Sequence[Any]) -> Node | None:
    host = entry[0].decode() if isinstance(entry[0], bytes) else ""
    return Node(host, int(entry[1])) if host and host != "?" else None
