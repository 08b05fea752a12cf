"""Jobs that are sent in the caller's own transaction, through each driver that people use."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiosqlite
import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from holdfast import App, Task
from holdfast.errors import ConfigurationError, UnsupportedError
from holdfast.model.job import JobFilter, JobStatus


class Gave(Exception):
    """Rolls a transaction back."""


def task_of(app: App) -> Task[[int], int]:
    @app.task(name="within:double")
    async def double(n: int) -> int:
        return 2 * n

    return double


@asynccontextmanager
async def app_at(url: str) -> AsyncIterator[tuple[App, Task[[int], int]]]:
    app = App("test", url=url, embedded_worker=False)
    async with app:
        yield app, task_of(app)


def sqlalchemy_url(url: str, driver: str) -> str:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    where = "&".join(f"{name}={query[name][0]}" for name in ("host", "port") if name in query)
    return f"postgresql+{driver}://{parts.username}@/{parts.path.lstrip('/')}?{where}"


@asynccontextmanager
async def transaction(kind: str, url: str, *, fails: bool) -> AsyncIterator[Any]:
    """A connection in a transaction of its own, rolled back where `fails`."""
    async with AsyncExitStack() as stack:
        stack.enter_context(suppress(Gave))
        yield await _begun(kind, url, stack)
        if fails:
            raise Gave


async def _begun(kind: str, url: str, stack: AsyncExitStack) -> Any:
    match kind:
        case "asyncpg":
            connection = await asyncpg.connect(url)
            stack.push_async_callback(connection.close)
            await stack.enter_async_context(connection.transaction())
            return connection
        case "asyncpg pool":
            pool = await stack.enter_async_context(asyncpg.create_pool(url, min_size=1, max_size=1))
            connection = await stack.enter_async_context(pool.acquire())
            await stack.enter_async_context(connection.transaction())
            return connection
        case "psycopg async":
            return await stack.enter_async_context(await psycopg.AsyncConnection.connect(url))
        case "psycopg":
            return stack.enter_context(psycopg.connect(url))
        case "sqlalchemy session":
            engine = sqlalchemy.create_engine(sqlalchemy_url(url, "psycopg"))
            stack.callback(engine.dispose)
            session = stack.enter_context(Session(engine))
            stack.enter_context(session.begin())
            return session
    engine = create_async_engine(sqlalchemy_url(url, "psycopg" if "psycopg" in kind else "asyncpg"))
    stack.push_async_callback(engine.dispose)
    if kind == "sqlalchemy async session":
        session = await stack.enter_async_context(AsyncSession(engine))
        await stack.enter_async_context(session.begin())
        return session
    return await stack.enter_async_context(engine.begin())


POSTGRES = [
    "asyncpg",
    "asyncpg pool",
    "psycopg async",
    "psycopg",
    "sqlalchemy asyncpg",
    "sqlalchemy psycopg async",
    "sqlalchemy async session",
    "sqlalchemy session",
]


@pytest.mark.parametrize("kind", POSTGRES)
async def test_on_postgres_a_job_commits_or_vanishes_with_the_callers_transaction(kind: str, postgres_url: str):
    async with app_at(postgres_url) as (app, double):
        async with transaction(kind, postgres_url, fails=True) as connection:
            gone = await double.in_transaction(connection).delay(1)
        assert await app.tasks.broker.count(JobFilter()) == 0
        async with transaction(kind, postgres_url, fails=False) as connection:
            handle = await double.in_transaction(connection).delay(4)
            assert await app.tasks.broker.look([handle.id]) == []
            others = await double.options(queue="slow").in_transaction(connection).delay_many(range(3))
        assert await handle.status() is JobStatus.QUEUED
        assert [view.queue for view in await app.tasks.broker.look([other.id for other in others])] == ["slow"] * 3
        await app.start_worker().ready.wait()
        assert await handle.get() == 8
        assert await app.tasks.broker.look([gone.id]) == []


async def test_an_idle_worker_is_woken_by_the_commit(postgres_url: str):
    async with app_at(postgres_url) as (app, double):
        worker = app.start_worker()
        await worker.ready.wait()
        connection = await asyncpg.connect(postgres_url)
        async with connection.transaction():
            handle = await double.in_transaction(connection).delay(4)
        await connection.close()
        assert await handle.get(timeout=20) == 8


@pytest.mark.parametrize("kind", ["sqlite3", "aiosqlite", "sqlalchemy"])
async def test_on_sqlite_a_job_commits_or_vanishes_with_the_callers_transaction(kind: str, tmp_path: Path):
    path = tmp_path / "shop.db"
    async with app_at(f"sqlite:///{path}") as (app, double):
        for commits in (False, True):
            match kind:
                case "sqlite3":
                    connection = sqlite3.connect(path)
                    handle = await double.in_transaction(connection).delay(4)
                    connection.commit() if commits else connection.rollback()
                    connection.close()
                case "aiosqlite":
                    async with aiosqlite.connect(path) as opened:
                        handle = await double.in_transaction(opened).delay(4)
                        await (opened.commit() if commits else opened.rollback())
                case _:
                    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
                    with engine.connect() as made:
                        handle = await double.in_transaction(made).delay(4)
                        made.commit() if commits else made.rollback()
                    engine.dispose()
            assert await app.tasks.broker.count(JobFilter()) == int(commits)
        await app.start_worker().ready.wait()
        assert await handle.get() == 8


async def test_a_schema_of_its_own_is_found_whatever_the_callers_search_path(postgres: Any):
    url = await postgres.empty_database()
    apart = f"{url}{'&' if '?' in url else '?'}schema=apart"
    async with app_at(apart) as (app, double):
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            await double.in_transaction(connection).delay(4)
        await connection.close()
        assert await app.tasks.broker.count(JobFilter()) == 1


async def test_a_connection_that_cannot_be_meant_is_refused(tmp_path: Path, postgres_url: str):
    connection = sqlite3.connect(tmp_path / "other.db")
    async with app_at(postgres_url) as (_, double):
        with pytest.raises(ConfigurationError, match="jobs lie in PostgreSQL.*leads to SQLite"):
            await double.in_transaction(connection).delay(1)
        with pytest.raises(ConfigurationError, match="takes a connection or session of"):
            await double.in_transaction("connection").delay(1)
    async with app_at(f"sqlite:///{tmp_path}/a.db") as (_, double):
        with pytest.raises(ConfigurationError, match="give id="):
            await double.options(unique=True).in_transaction(connection).delay(1)
        for make in (double.in_transaction(connection).s, double.in_transaction(connection).si):
            with pytest.raises(ConfigurationError, match=r"sent by delay\(\) alone"):
                make(1)
    connection.close()


async def test_redis_takes_part_in_no_transaction(redis_url: str):
    async with app_at(redis_url) as (_, double):
        with pytest.raises(UnsupportedError, match="after the commit"):
            await double.in_transaction(object()).delay(1)
