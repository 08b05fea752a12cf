"""One connection to PostgreSQL: opened when first needed, for one caller at a time, replaced when it breaks.

The only place that touches the driver, whose types end here. Knows nothing of instances.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from holdfast.backends.postgres.address import Address
from holdfast.backends.postgres.statements import Statement, statement
from holdfast.backends.shared import Row
from holdfast.errors import ConfigurationError, SchemaError, StoreError, StoreUnavailable
from holdfast.ports import WakeUp

driver: Any = asyncpg
"""The untyped driver: everything that comes from it is `Any` until a row is read."""

CONFLICTS = (driver.SerializationError, driver.DeadlockDetectedError)
"""PostgreSQL undid the statement in favour of another one; it can be sent again."""

BROKEN = (
    OSError,
    TimeoutError,
    driver.PostgresConnectionError,
    driver.OperatorInterventionError,
    driver.TooManyConnectionsError,
    driver.InternalClientError,
)
"""The connection is gone, or was never made."""

REFUSED = (
    driver.InvalidCatalogNameError,
    driver.InvalidAuthorizationSpecificationError,
    driver.ClientConfigurationError,
)

CONFLICT_TRIES = 6

# Statements are written for one plan each, which walks from the rows it is given to others by index. The
# planner would choose by the tables' size when it is asked; inboxes are empty then, and full when it matters.
PLANNING = {
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}

# What a pooler's server is told with each transaction, in one message.
BEGIN_POOLED = "BEGIN ISOLATION LEVEL READ COMMITTED; " + "; ".join(
    f"SET LOCAL {name} = {value}" for name, value in PLANNING.items()
)

CLOSE_SECONDS = 5.0

PLAN_LIFETIME = 60
"""Seconds after which a plan is made anew."""


class AlreadyThere(StoreError):
    """Another row has what may be there only once."""


@dataclass(slots=True)
class Tally:
    """How many statements a store has sent."""

    statements: int = 0


class Line:
    """A connection that heals. All its methods belong to one event loop."""

    def __init__(self, address: Address, tally: Tally) -> None:
        self._address = address
        self._tally = tally
        self._lock = asyncio.Lock()
        self._connection: Any = None
        self._wakes: dict[str, list[WakeUp]] = {}
        self._closed = False

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def fetch(self, name: str | Statement, /, **values: Any) -> list[Row]:
        """The rows of one statement that may be sent twice: a broken connection is replaced once."""

        async def send() -> list[Row]:
            return await self._send(name, values)

        return await self._persist(send, tries=2)

    async def fetch_once(self, name: str | Statement, /, **values: Any) -> list[Row]:
        """The rows of one statement that must not be sent again without a look at what it did."""

        async def send() -> list[Row]:
            return await self._send(name, values)

        return await self._persist(send, tries=1)

    async def transact(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        """What `work` returns; all its statements happen, or none. It may be run more than once."""

        async def send() -> Any:
            connection = await self._ready()
            async with self._transaction(connection):
                return await work(Transaction(connection, self._tally))

        return await self._persist(send, tries=2)

    # --- listening

    async def listen(self, channel: str, wake: WakeUp) -> Callable[[], Awaitable[None]]:
        wakes = self._wakes.setdefault(channel, [])
        wakes.append(wake)

        async def join() -> None:
            connection = await self._ready()
            if len(wakes) == 1:
                await connection.add_listener(channel, self._notified)

        async def leave() -> None:
            if wake in wakes:
                wakes.remove(wake)
            if not wakes and self._wakes.pop(channel, None) is not None and self.connected:
                async with self._lock:
                    if self.connected:
                        await self._connection.remove_listener(channel, self._notified)

        try:
            await self._persist(join, tries=2)
        except BaseException:
            wakes.remove(wake)
            raise
        return leave

    def _notified(self, connection: object, pid: int, channel: str, payload: str) -> None:
        for wake in list(self._wakes.get(channel, ())):
            wake(channel, payload)

    # --- the connection

    async def close(self) -> None:
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS), self._lock:
                await connection.close()
        except (*BROKEN, driver.InterfaceError):
            connection.terminate()

    async def _send(self, name: str | Statement, values: Mapping[str, Any]) -> list[Row]:
        connection = await self._ready()
        if not self._address.pgbouncer:
            return await Transaction(connection, self._tally).fetch(name, **values)
        # A pooler may give each message to another server, unless a transaction holds it.
        async with self._transaction(connection):
            return await Transaction(connection, self._tally).fetch(name, **values)

    @asynccontextmanager
    async def _transaction(self, connection: Any) -> AsyncGenerator[None]:
        # Each statement must see what was committed before it, whatever the database's default is.
        pooled = self._address.pgbouncer
        await connection.execute(BEGIN_POOLED if pooled else "BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            yield
            await connection.execute("COMMIT")
        except BaseException:
            await _undo(connection)
            raise

    async def _persist(self, send: Callable[[], Awaitable[Any]], *, tries: int) -> Any:
        """Send; again after a conflict, and, while `tries` last, over a new connection after a break."""
        conflicts = 0
        while True:
            try:
                async with self._lock:
                    return await send()
            except CONFLICTS as error:
                conflicts += 1
                if conflicts == CONFLICT_TRIES:
                    raise StoreUnavailable(
                        f"{self._address.shown}: other writers got in the way {conflicts} times; try again"
                    ) from error
                await asyncio.sleep(random.uniform(0, 0.01 * 2**conflicts))
            except REFUSED as error:
                raise ConfigurationError(f"{self._address.shown} turns us away: {error}") from error
            except (*BROKEN, driver.InterfaceError) as error:
                if isinstance(error, driver.InterfaceError) and self.connected:
                    raise StoreError(f"{self._address.shown}: the driver refused a call: {error}") from error
                self._drop()
                tries -= 1
                if tries == 0:
                    raise StoreUnavailable(
                        f"{self._address.shown} cannot be reached now ({error or type(error).__name__}); "
                        "the same call may succeed later"
                    ) from error
            except (driver.UndefinedTableError, driver.UndefinedColumnError) as error:
                raise SchemaError(
                    f"{self._address.shown} lacks part of Holdfast's schema ({error}): open the store first, "
                    "or restore what was removed"
                ) from error
            except driver.UniqueViolationError as error:
                raise AlreadyThere(f"{self._address.shown} has such a row already: {error}") from error
            except driver.PostgresError as error:
                raise StoreError(f"{self._address.shown} refused a statement: {error}") from error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _ready(self) -> Any:
        if self.connected:
            return self._connection
        if self._closed:
            raise StoreUnavailable(f"the store at {self._address.shown} is closed: open it again first")
        self._connection = await self._connect()
        await self._listen_again()
        return self._connection

    async def _connect(self) -> Any:
        settings = {} if self._address.pgbouncer else {"application_name": "holdfast", **PLANNING}
        if self._address.schema is not None:
            settings["search_path"] = self._address.schema
        return await driver.connect(
            self._address.dsn,
            timeout=min(self._address.timeout, 10.0),
            command_timeout=self._address.timeout,
            statement_cache_size=0 if self._address.pgbouncer else 512,
            max_cached_statement_lifetime=PLAN_LIFETIME,
            server_settings=settings,
        )

    async def _listen_again(self) -> None:
        channels = [channel for channel, wakes in self._wakes.items() if wakes]
        for channel in channels:
            await self._connection.add_listener(channel, self._notified)
        # Something may have been missed in between.
        for channel in channels:
            for wake in list(self._wakes[channel]):
                wake(channel, "")


async def _undo(connection: Any) -> None:
    if connection.is_closed():
        return
    try:
        await connection.execute("ROLLBACK")
    except BaseException:
        # Whoever came next would find himself in this transaction.
        connection.terminate()
        raise


class Transaction:
    """Statements on one connection, as far as its owner has begun a transaction there."""

    def __init__(self, connection: Any, tally: Tally) -> None:
        self._connection = connection
        self._tally = tally

    async def fetch(self, name: str | Statement, /, **values: Any) -> list[Row]:
        chosen = statement(name) if isinstance(name, str) else name
        self._tally.statements += 1
        return await self._connection.fetch(chosen.text, *chosen.arguments(values))

    async def script(self, text: str) -> None:
        """Send `text` as it is: definitions, which take no parameters."""
        self._tally.statements += 1
        await self._connection.execute(text)
