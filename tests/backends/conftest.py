"""Stores to test: SQLite in a file, SQLite in memory, and a real PostgreSQL with a database for each test.

Brokers to test: those beside these stores, those on Redis, and those on Service Bus, each time a Service Bus of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.redis_servers import fresh
from tests.servers import Postgres
from tests.servicebus import ServiceBus, servicebus_emulator

from holdfast.backends import open_broker, open_store
from holdfast.model.job import Job


@dataclass
class Bench:
    """A database, and stores on it as other processes would have them."""

    kind: str
    url: str
    stack: contextlib.AsyncExitStack
    first: Any = None
    opened: list[Any] = field(default_factory=list)
    service: ServiceBus | None = None

    async def store(self) -> Any:
        """A store of its own; in memory there is only the one."""
        if self.kind == "memory" and self.opened:
            return self.opened[0]
        alone = self.kind in ("redis", "cluster", "servicebus")
        store: Any = open_broker(self.url).home if alone else open_store(self.url)
        await store.open()
        if self.service is not None:
            # Whose clock decides what is due, and who knows what nobody has received yet.
            store.service = self.service
        store.plain = "plain" in self.kind
        self.stack.push_async_callback(store.close)
        self.opened.append(store)
        return store


class PlainJobs:
    """A broker that is sent nothing but plain jobs, as far as they can be."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def send(self, jobs: Sequence[Job]) -> Any:
        return await self._broker.send([each._replace(plain=True) for each in jobs])


def broker_of(home: Any) -> Any:
    """The broker whose jobs lie in this backend."""
    if not hasattr(home, "broker"):
        return home
    return PlainJobs(home.broker()) if getattr(home, "plain", False) else home.broker()


@pytest.fixture(params=["file", "memory", "postgres", "postgres, plain jobs", "redis", "cluster", "servicebus"])
async def jobs_bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """A place for jobs."""
    async with contextlib.AsyncExitStack() as stack:
        service: ServiceBus | None = None
        match request.param:
            case "redis":
                url = request.getfixturevalue("redis_url")
            case "cluster":
                url = fresh(request.getfixturevalue("redis_cluster").url)
            case "servicebus":
                keyed = "lock=300,duplicate-window=600,sessions=true,max-delivery-count=2000"
                queues = ("--queue", "default:lock=300,duplicate-window=600", "--queue", "mail:lock=300")
                queues += ("--queue", f"default.keyed:{keyed}", "--queue", f"mail.keyed:{keyed}")
                service = stack.enter_context(servicebus_emulator(*queues))
                url = service.url(queues="default,mail")
            case _:
                url = await _database(request, tmp_path, stack)
        yield Bench(request.param, url, stack, service=service)


@pytest.fixture(params=["file", "memory", "postgres"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        yield Bench(request.param, await _database(request, tmp_path, stack), stack)


async def _database(request: pytest.FixtureRequest, tmp_path: Path, stack: contextlib.AsyncExitStack) -> str:
    match request.param:
        case "file":
            return f"sqlite:///{tmp_path / 'store.db'}"
        case "memory":
            return "sqlite://:memory:"
        case _:
            server: Postgres = request.getfixturevalue("postgres")
            return await stack.enter_async_context(server.database())


@pytest.fixture
async def store(bench: Bench) -> Any:
    return await bench.store()


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[str]:
    """The URL of a PostgreSQL database with the schema in it."""
    async with postgres.database() as url:
        yield url


@pytest.fixture
async def postgres_bench(database: str) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        yield Bench("postgres", database, stack)
