"""The emulator as a server: listens, obeys its control channel, ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable

from holdfast.errors import ConfigurationError
from holdfast.servicebus_emulator.broker import Broker
from holdfast.servicebus_emulator.connection import Connection, Limits
from holdfast.servicebus_emulator.control import Control


def connection_string(host: str, port: int) -> str:
    """What a Service Bus client needs to come here. Names and keys are not looked at."""
    shown = f"[{host}]" if ":" in host else host
    return f"Endpoint=sb://{shown}:{port};SharedAccessKeyName=any;SharedAccessKey=any;UseDevelopmentEmulator=true"


class Server:
    """A broker that listens. Its messages end with it."""

    def __init__(self, broker: Broker, *, limits: Limits | None = None) -> None:
        self.broker = broker
        self.connections: set[Connection] = set()
        self._limits = limits or Limits()
        self._stopped = asyncio.Event()
        self._listening: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Listen; the port. Raises ConfigurationError if that cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(
                lambda: Connection(self.broker, self._limits, self.connections), host, port
            )
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return self._listening.sockets[0].getsockname()[1]

    async def run(self, *, say: Callable[[str], None] | None = None) -> None:
        """Serve until a signal comes; with `say`, obey standard input too, and end with it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        reading = None if say is None else asyncio.create_task(self._obey(say))
        try:
            await self._stopped.wait()
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            self.close()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopped.set()

    def bounce(self) -> int:
        """Close all connections without a word, as an outage does; how many there were."""
        closed = list(self.connections)
        for connection in closed:
            connection.abort()
        return len(closed)

    def close(self) -> None:
        """Listen no longer, and close what is open."""
        if self._listening is not None:
            self._listening.close()
        self.bounce()

    async def _obey(self, say: Callable[[str], None]) -> None:
        control = Control(self.broker, self.bounce)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        with contextlib.closing(transport):
            while line := await reader.readline():
                say(control.act(line.decode()))
        self.stop()
