"""Stores to test: SQLite in a file, SQLite in memory, and a real PostgreSQL with a database for each test.

Brokers to test: those beside these stores, and those on Redis.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.redis_servers import fresh
from tests.servers import Postgres

from holdfast.backends import open_broker, open_store


@dataclass
class Bench:
    """A database, and stores on it as other processes would have them."""

    kind: str
    url: str
    stack: contextlib.AsyncExitStack
    first: Any = None
    opened: list[Any] = field(default_factory=list)

    async def store(self) -> Any:
        """A store of its own; in memory there is only the one."""
        if self.kind == "memory" and self.opened:
            return self.opened[0]
        store: Any = open_broker(self.url).home if self.kind in ("redis", "cluster") else open_store(self.url)
        await store.open()
        self.stack.push_async_callback(store.close)
        self.opened.append(store)
        return store


def broker_of(home: Any) -> Any:
    """The broker whose jobs lie in this backend."""
    return home.broker() if hasattr(home, "broker") else home


@pytest.fixture(params=["file", "memory", "postgres", "redis", "cluster"])
async def jobs_bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """A place for jobs."""
    async with contextlib.AsyncExitStack() as stack:
        match request.param:
            case "redis":
                url = request.getfixturevalue("redis_url")
            case "cluster":
                url = fresh(request.getfixturevalue("redis_cluster").url)
            case _:
                url = await _database(request, tmp_path, stack)
        yield Bench(request.param, url, stack)


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
