"""One SQLite connection in a thread of its own, and its errors in our words. Knows nothing of instances."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from holdfast.backends.shared import load_statements
from holdfast.errors import SchemaError, StoreError, StoreUnavailable

T = TypeVar("T")

STATEMENTS = load_statements(__package__ or "holdfast.backends.sqlite")

BUSY_SECONDS = 10.0
"""How long a statement waits for another process's write."""


def as_json(ids: Iterable[str]) -> str:
    """A list of ids as the one parameter that `json_each` unfolds."""
    return json.dumps(list(ids))


def chosen(head: str, parts: Iterable[tuple[str, Mapping[str, Any]]], *, end: str = "") -> tuple[str, dict[str, Any]]:
    """A listing's SQL, of the named statement, the conditions and the end, with the conditions' parameters."""
    texts = [STATEMENTS[head]]
    values: dict[str, Any] = {}
    for name, parameters in parts:
        texts.append(STATEMENTS[name])
        values |= {
            key: as_json(cast("list[str]", value)) if isinstance(value, list) else value
            for key, value in parameters.items()
        }
    if end:
        texts.append(STATEMENTS[end])
    return " ".join(texts), values


class Session:
    """What runs inside the database's thread: named statements, and transactions around them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.statements = 0

    def all(self, name: str, /, **parameters: Any) -> list[sqlite3.Row]:
        return self.text(STATEMENTS[name], parameters).fetchall()

    def one(self, name: str, /, **parameters: Any) -> sqlite3.Row | None:
        return self.text(STATEMENTS[name], parameters).fetchone()

    def run(self, name: str, /, **parameters: Any) -> int:
        """How many rows it changed."""
        return self.text(STATEMENTS[name], parameters).rowcount

    def many(self, name: str, rows: Sequence[Sequence[Any]] | Sequence[Mapping[str, Any]]) -> int:
        """How many rows it changed in all."""
        if not rows:
            return 0
        self.statements += 1
        return self._connection.executemany(STATEMENTS[name], rows).rowcount

    def text(self, sql: str, parameters: Mapping[str, Any] | None = None) -> sqlite3.Cursor:
        self.statements += 1
        return self._connection.execute(sql, parameters or {})

    def version(self) -> int:
        """A number that changes whenever another connection has written. Read from memory, so it counts for nothing."""
        return self._connection.execute("PRAGMA data_version").fetchone()[0]

    @contextmanager
    def writing(self) -> Generator[None]:
        """A transaction that holds the write lock from its start: what it reads stays true until it ends."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._connection.close()


class Database:
    """Runs work on one connection, in order, in one thread; callable from any event loop."""

    def __init__(self, path: str, *, synchronous: str) -> None:
        self._path = path
        self._synchronous = synchronous
        self._executor: ThreadPoolExecutor | None = None
        self._session: Session | None = None
        self._spent = 0

    @property
    def statements(self) -> int:
        return self._spent + (self._session.statements if self._session is not None else 0)

    async def open(self) -> None:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="holdfast-sqlite")
        if self._session is None:
            self._session = await asyncio.wrap_future(self._executor.submit(self._guard, self._connect))

    async def run(self, work: Callable[[Session], T]) -> T:
        """What `work` returns. A cancelled caller does not stop work that has begun."""
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[Session], T]) -> Future[T]:
        if self._executor is None or self._session is None:
            raise StoreUnavailable(f"the SQLite store {self._path} is not open: call open() first")
        return self._executor.submit(self._guard, work, self._session)

    async def close(self) -> None:
        executor, session = self._executor, self._session
        self._executor = self._session = None
        if executor is None:
            return
        if session is not None:
            self._spent += session.statements
            await asyncio.shield(asyncio.wrap_future(executor.submit(session.close)))
        executor.shutdown(wait=False)

    def abandon(self) -> None:
        """Close the connection, and return when its thread has ended."""
        executor, session = self._executor, self._session
        self._executor = self._session = None
        if executor is not None:
            if session is not None:
                executor.submit(session.close)
            executor.shutdown()

    def _connect(self) -> Session:
        connection = sqlite3.connect(
            self._path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            connection.row_factory = sqlite3.Row
            _enter_wal(connection)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        except BaseException:
            connection.close()
            raise
        return Session(connection)

    def _guard(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call `work`; its SQLite errors leave as ours."""
        try:
            return work(*arguments)
        except (sqlite3.OperationalError, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
            if isinstance(error, sqlite3.OperationalError) and str(error).startswith("no such "):
                raise SchemaError(
                    f"{self._path} lacks part of Holdfast's schema ({error}): restore it, or use another file"
                ) from error
            if not isinstance(error, sqlite3.OperationalError) and "closed" not in str(error):
                raise StoreError(f"SQLite refused a value for {self._path}: {error}") from error
            raise StoreUnavailable(
                f"SQLite could not use {self._path} now ({error}); nothing was written, try again"
            ) from error
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error) or "malformed" in str(error):
                raise SchemaError(
                    f"{self._path} is damaged or no SQLite database ({error}): restore it, or use another"
                ) from error
            raise StoreError(f"SQLite refused a statement on {self._path}: {error}") from error


def _enter_wal(connection: sqlite3.Connection) -> None:
    # The change of mode does not wait as statements do when several processes open a new file at once.
    patience = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > patience:
                raise
            time.sleep(0.005)
