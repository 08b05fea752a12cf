"""Stores to test: SQLite in a file, SQLite in memory, and a real PostgreSQL with a database for each test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.servers import Postgres

from holdfast.backends import open_store


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
        store: Any = open_store(self.url)
        await store.open()
        self.stack.push_async_callback(store.close)
        self.opened.append(store)
        return store


@pytest.fixture(params=["file", "memory", "postgres"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        match request.param:
            case "file":
                url = f"sqlite:///{tmp_path / 'store.db'}"
            case "memory":
                url = "sqlite://:memory:"
            case _:
                server: Postgres = request.getfixturevalue("postgres")
                url = await stack.enter_async_context(server.database())
        bench = Bench(request.param, url, stack)
        yield bench


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
