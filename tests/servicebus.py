"""A Service Bus for tests: the emulator in a process of its own, with its control channel."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any


@dataclass
class ServiceBus:
    """A running emulator. Queues are declared for each test, by a name of its own."""

    process: subprocess.Popen[str]
    connection_string: str
    port: int
    offset: float = 0.0

    def url(self, **options: str) -> str:
        """The URL of a broker there."""
        said = "".join(f"&{name}={value}" for name, value in options.items())
        return f"servicebus://127.0.0.1:{self.port}?emulator=true{said}"

    def do(self, verb: str, **order: Any) -> dict[str, Any]:
        """Have something done; what it said to that."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": verb, **order}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer.pop("ok"), answer
        return answer

    def move(self, seconds: float) -> None:
        """Let time pass for it."""
        self.offset = self.do("move", seconds=seconds)["offset"]

    def move_to(self, moment: float) -> None:
        """Let time pass until then, in Unix seconds, if that is to come."""
        rest = moment - (time.time() + self.offset)
        if rest > 0:
            self.move(rest)

    def moment(self, seconds: float) -> datetime:
        """The moment in so many seconds, as it sees time."""
        return datetime.now(UTC) + timedelta(seconds=self.offset + seconds)

    def counts(self, queue: str) -> dict[str, int]:
        """How many messages there are, by where they are; only those that are not 0."""
        return {state: count for state, count in self.do("counts")["queues"][queue].items() if count}

    def heal(self) -> None:
        """Take all faults back."""
        self.do("delay", seconds=0)
        for what in ("settlements", "outcomes", "receipts"):
            self.do("swallow", what=what, count=0)


@contextlib.contextmanager
def servicebus_emulator(*arguments: str, port: int = 0) -> Iterator[ServiceBus]:
    """An emulator, until the end of the block."""
    command = [
        sys.executable,
        "-m",
        "holdfast",
        "servicebus-emulator",
        "--port",
        str(port),
        "--json",
        "--control",
        *arguments,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            yield ServiceBus(process, ready["connection_string"], ready["port"])
        finally:
            process.terminate()
            process.wait()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def leaks_of_the_client() -> Iterator[None]:
    """The real client never closes the socket of a connection that broke. Has it collected where that is forgiven."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
