"""Storage: one package per database, with a `Store`, a `Broker` or both. Chooses by the URL; opens nothing itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from holdfast.errors import ConfigurationError
from holdfast.ports import Broker, Store

__all__ = ["keeps_workflows", "no_workflows", "open_broker", "open_store"]

REDIS = ("redis", "rediss", "redis+unix", "unix", "redis+cluster", "rediss+cluster")
SERVICE_BUS = ("servicebus",)
JOBS_ALONE = (*REDIS, *SERVICE_BUS)
"""Schemes of URLs where there are only jobs."""


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
    match _scheme(url):
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
        case scheme if scheme in JOBS_ALONE:
            raise no_workflows(url)
        case scheme:
            raise ConfigurationError(
                f"no store speaks {scheme}:// (in {scheme}://…): use sqlite:// or postgresql:// for workflows"
            )


def open_broker(url: str, *, beside: Store | None = None, **options: Any) -> Broker:
    """The broker of jobs that `url` names, not yet opened: call `open()` of its home before anything else.

    A database has one beside its store. `redis://user:password@host:6379/0` takes `?prefix=name` and `?timeout=30`;
    `rediss://` speaks TLS, `redis+unix:///run/redis.sock` a socket, `redis+cluster://host:port,host:port` to a cluster.
    `servicebus://policy:key@name.servicebus.windows.net` takes `?queues=default,mail:shop-mail` and `?prefix=name`.
    What a broker cannot keep is kept in the store `beside`. Raises `ConfigurationError` as `open_store` does.
    """
    if keeps_workflows(url):
        return open_store(url, **options).broker()
    if _scheme(url) in SERVICE_BUS:
        return _service_bus(url, beside=beside, **options)
    try:
        from holdfast.backends.redis import RedisBroker
    except ModuleNotFoundError as error:
        if error.name != "hiredis":
            raise
        raise ConfigurationError(
            "Redis needs hiredis, which is not installed here: pip install 'holdfast[redis]'"
        ) from error
    return RedisBroker(url, **options)


def _service_bus(url: str, **options: Any) -> Broker:
    try:
        from holdfast.backends.servicebus import ServiceBusBroker
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "azure":
            raise
        raise ConfigurationError(
            "Service Bus needs azure-servicebus, which is not installed here: pip install 'holdfast[servicebus]'"
        ) from error
    return ServiceBusBroker(url, **options)


def keeps_workflows(url: str) -> bool:
    """Whether a store can lie there; else it is a broker of jobs alone."""
    return _scheme(url) not in JOBS_ALONE


def no_workflows(url: str) -> ConfigurationError:
    """The error of whoever asks for workflows where there are only jobs."""
    place = "Service Bus" if _scheme(url) in SERVICE_BUS else "Redis"
    return ConfigurationError(
        f"{place} keeps no workflows: give url=… a database and tasks_url={_scheme(url)}://…, or, in the environment, "
        "HOLDFAST_DATABASE_URL and HOLDFAST_TASKS_URL"
    )


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme.lower()
    except ValueError as error:
        raise ConfigurationError(f"the database URL cannot be read: {error}") from error
