"""Storage: one package per database, each a `Store`. Chooses one by its URL; opens nothing itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from holdfast.errors import ConfigurationError
from holdfast.ports import Store

__all__ = ["open_store"]


def open_store(url: str, **options: Any) -> Store:
    """The store that `url` names, not yet opened: call its `open()` before anything else.

    `sqlite:///jobs.db` is relative to the working directory, `sqlite:////var/lib/jobs.db` absolute, and
    `sqlite://:memory:` ends with the process; `?synchronous=normal` trades the last moments before a power
    cut for speed. `postgresql://user@host/db` takes `?schema=name`, `?timeout=30` and `?pgbouncer=true`
    (transaction pooling). Raises `ConfigurationError` for a URL nobody here understands, or when its driver
    is not installed.

    >>> open_store("sqlite://:memory:").traits.name
    'sqlite'
    """
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError as error:
        raise ConfigurationError(f"the database URL cannot be read: {error}") from error
    match scheme:
        case "sqlite":
            from holdfast.backends.sqlite import SqliteStore

            return SqliteStore(url, **options)
        case "postgresql" | "postgres":
            try:
                from holdfast.backends.postgres import PostgresStore
            except ModuleNotFoundError as error:
                if error.name != "asyncpg":
                    raise
                raise ConfigurationError(
                    "PostgreSQL needs the asyncpg driver, which is not installed here: pip install 'holdfast[postgres]'"
                ) from error
            return PostgresStore(url, **options)
        case "":
            raise ConfigurationError(
                f"{url!r} is not a database URL: write sqlite:///path.db or postgresql://user@host/database"
            )
        case _:
            raise ConfigurationError(
                f"no store speaks {scheme}:// (in {scheme}://…): use sqlite:// or postgresql:// for workflows"
            )
