"""The caller's own connection: runs a statement of ours inside the caller's transaction. Begins, commits and closes nothing.

Knows the drivers by how they are spoken to, and imports none that the caller has not imported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from holdfast.errors import ConfigurationError

_NAME = re.compile(r"(?<![:\w]):([a-z_]+)(?:::([a-z0-9]+(?:\[\])?))?")

POSTGRES = "PostgreSQL"
SQLITE = "SQLite"

_DRIVERS = {
    "asyncpg": POSTGRES,
    "psycopg": POSTGRES,
    "psycopg2": POSTGRES,
    "sqlite3": SQLITE,
    "aiosqlite": SQLITE,
}


async def execute(connection: Any, database: str, text: str, values: Mapping[str, Any]) -> None:
    """Run `text`, whose parameters are `:name` or `:name::type`, on the caller's connection to `database`.

    Never waits for anything but the connection, so that it can be driven without an event loop where that is a blocking
    one. Raises ConfigurationError for a connection that is none, or one to another kind of database.
    """
    kinds = {cls.__module__.partition(".")[0] for cls in type(connection).__mro__}
    if "sqlalchemy" in kinds:
        await _by_sqlalchemy(connection, database, text, values)
        return
    if hasattr(connection, "vendor") and hasattr(connection, "cursor"):
        # Django's: it hides its driver.
        _expect(_database(connection.vendor), database, connection)
        with connection.cursor() as cursor:
            cursor.execute(_formatted(text), dict(values))
        return
    [kind] = (kinds & _DRIVERS.keys()) or {""}
    if not kind:
        raise ConfigurationError(
            f"in_transaction() takes a connection or session of asyncpg, psycopg, sqlite3, SQLAlchemy or Django, "
            f"not {connection!r}"
        )
    _expect(_DRIVERS[kind], database, connection)
    match kind:
        case "asyncpg":
            body, arguments = _numbered(text, values)
            await connection.execute(body, *arguments)
        case "psycopg2":
            with connection.cursor() as cursor:
                cursor.execute(_formatted(text), dict(values))
        case "psycopg":
            result = connection.execute(_formatted(text), dict(values))
            if inspect.isawaitable(result):
                await result
        case _:
            result = connection.execute(text, dict(values))
            if inspect.isawaitable(result):
                await result


async def _by_sqlalchemy(session: Any, database: str, text: str, values: Mapping[str, Any]) -> None:
    import sqlalchemy  # pyright: ignore[reportMissingImports] - the caller has it

    made: Any = sqlalchemy
    bind = session.get_bind() if hasattr(session, "get_bind") else session
    _expect(_database(bind.dialect.name), database, session)
    result = session.execute(made.text(_NAME.sub(_cast, text)), dict(values))
    if inspect.isawaitable(result):
        await result


def _database(name: str) -> str:
    return {"postgresql": POSTGRES, "sqlite": SQLITE}.get(name) or name


def _expect(found: str, database: str, connection: Any) -> None:
    if found != database:
        raise ConfigurationError(
            f"jobs lie in {database}, and {connection!r} leads to {found}: only what is written to one database commits together"
        )


def _formatted(text: str) -> str:
    return _NAME.sub(_percent, text.replace("%", "%%"))


def _percent(match: re.Match[str]) -> str:
    return f"%({match[1]})s" + (f"::{match[2]}" if match[2] else "")


def _cast(match: re.Match[str]) -> str:
    # In SQLAlchemy's texts a name that is followed by a colon is no parameter.
    return f"CAST(:{match[1]} AS {match[2]})" if match[2] else f":{match[1]}"


def _numbered(text: str, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        place = f"${names.setdefault(match[1], len(names) + 1)}"
        return f"{place}::{match[2]}" if match[2] else place

    body = _NAME.sub(number, text)
    return body, [values[name] for name in names]
