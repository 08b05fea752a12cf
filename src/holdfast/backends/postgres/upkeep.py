"""Schema, the journal's partitions, schedules and garbage collection. Never holds a lock for long."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast.backends.postgres.clients import delete, start_columns
from holdfast.backends.postgres.line import Line, Transaction
from holdfast.backends.postgres.statements import TEXTS, compiled
from holdfast.backends.shared import as_schedule, load_migrations, refuse_newer
from holdfast.clock import as_datetime
from holdfast.errors import StoreError
from holdfast.model.instance import ScheduleRow, Start
from holdfast.ports import Swept

MIGRATIONS = load_migrations(__package__ or "holdfast.backends.postgres")
LATEST = MIGRATIONS[-1][0]

DAYS_AHEAD = 2

_PARTITION = re.compile(r"holdfast_journal_(\d{8})")

# Definitions wait for readers, and everybody waits for them: better to come back another time.
SHORT_WAIT = "SET LOCAL lock_timeout = '500ms'"

LOCK_KEY = 0x486F6C64  # "Hold"


async def migrate(line: Line, schema: str | None, now: float) -> None:
    """Bring the schema to this release's version; many processes may do so at once."""
    found = await line.transact(_version)
    if found != LATEST:
        refuse_newer(found, LATEST)
        await line.transact(lambda transaction: _upgrade(transaction, schema, now))
    await make_partitions(line, now)


async def _version(transaction: Transaction) -> int:
    [row] = await transaction.fetch(compiled("SELECT to_regclass('holdfast_schema') IS NOT NULL AS known"))
    if not row["known"]:
        return 0
    rows = await transaction.fetch(compiled("SELECT coalesce(max(version), 0) AS version FROM holdfast_schema"))
    return rows[0]["version"]


async def _upgrade(transaction: Transaction, schema: str | None, now: float) -> None:
    await transaction.script(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
    if schema is not None:
        await transaction.script(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    await transaction.script(
        "CREATE TABLE IF NOT EXISTS holdfast_schema (version int PRIMARY KEY, applied_at float8 NOT NULL)"
    )
    found = await _version(transaction)
    refuse_newer(found, LATEST)
    for version, statements in MIGRATIONS:
        if version > found:
            await transaction.script(";\n".join(statements))
            await transaction.script(f"INSERT INTO holdfast_schema VALUES ({version}, {now!r})")


# --- partitions


def partition_of(moment: float) -> tuple[str, float, float]:
    """The name and bounds of the partition of `moment`: its day in UTC."""
    day = as_datetime(moment).replace(hour=0, minute=0, second=0, microsecond=0)
    return f"holdfast_journal_{day:%Y%m%d}", day.timestamp(), (day + timedelta(days=1)).timestamp()


async def make_partitions(line: Line, now: float) -> None:
    """Today's partition and those of the days ahead."""
    known = {row["name"] for row in await line.fetch("partitions")}
    for ahead in range(DAYS_AHEAD + 1):
        name, begin, end = partition_of(now + ahead * 86400)
        if name not in known:
            await _define(
                line,
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF holdfast_journal "
                f"FOR VALUES FROM ({begin!r}) TO ({end!r})",
            )


Check = Callable[[Transaction], Awaitable[bool]]


async def _define(line: Line, script: str, check: Check | None = None) -> bool:
    """Run a definition if `check` holds within its transaction. False: not now.

    Somebody reads for long, or the default partition, which serves meanwhile, has rows of that day.
    """

    async def work(transaction: Transaction) -> bool:
        await transaction.script(SHORT_WAIT)
        await transaction.script(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
        if check is not None and not await check(transaction):
            return False
        await transaction.script(script)
        return True

    with contextlib.suppress(StoreError):
        return await line.transact(work)
    return False


# --- schedules


async def save_schedule(line: Line, row: ScheduleRow, replace: bool) -> bool:
    return bool(await line.fetch("save_schedule", replace=replace, **_columns(row, row.version)))


async def delete_schedule(line: Line, id: str) -> bool:
    return bool(await line.fetch("delete_schedule", id=id))


async def schedules(line: Line) -> list[ScheduleRow]:
    return [as_schedule(row) for row in await line.fetch("schedules")]


async def fire(line: Line, row: ScheduleRow, starts: Sequence[Start], expect_version: int) -> tuple[bool, bool]:
    """Whether it fired, and whether an idle worker should be told."""
    rows = await line.fetch("fire", **_columns(row, expect_version), **start_columns(starts))
    return bool(rows), any(row["made"] and row["idle"] for row in rows)


def _columns(row: ScheduleRow, version: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "spec": row.spec,
        "next_at": row.next_at,
        "paused": row.paused,
        "last_at": row.last_at,
        "skipped": row.skipped,
        "version": version,
    }


# --- garbage


async def sweep(line: Line, *, ended_before: float, history_before: float, now: float, batch: int) -> Swept:
    await make_partitions(line, now)
    instances, steps = await _sweep_instances(line, ended_before, batch)
    partitions = 0
    for name in await _old_partitions(line, history_before):
        end = _end_of(name)
        await _carry(line, name, before=end, now=now, batch=batch)
        partitions += await _drop(line, name, before=end)
    await _carry(line, "holdfast_journal_other", before=history_before, now=now, batch=batch)
    while dropped := len(await line.fetch("drop_other", before=history_before, batch=batch)):
        steps += dropped
    return Swept(instances=instances, steps=steps, partitions=partitions)


async def _sweep_instances(line: Line, ended_before: float, batch: int) -> tuple[int, int]:
    instances = steps = 0
    while rows := await line.fetch("expired_instances", ended_before=ended_before, batch=batch):
        gone, dropped = await delete(line, [row["id"] for row in rows])
        if not gone:
            break
        instances += len(gone)
        steps += dropped
    return instances, steps


async def _old_partitions(line: Line, before: float) -> list[str]:
    """Partitions that hold nothing younger than `before`."""
    names = [row["name"] for row in await line.fetch("partitions")]
    return sorted(name for name in names if _PARTITION.fullmatch(name) and _end_of(name) <= before)


def _end_of(name: str) -> float:
    match = _PARTITION.fullmatch(name)
    assert match is not None
    return (datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)).timestamp()


async def _carry(line: Line, partition: str, *, before: float, now: float, batch: int) -> None:
    """Move what living instances still need out of an old partition, some instances at a time."""
    needed = compiled(TEXTS["still_needed"].replace("{partition}", partition))
    carry = compiled(TEXTS["carry"].replace("{partition}", partition))
    while rows := await line.fetch(needed, before=before, batch=batch):
        ids = [row["id"] for row in rows]

        async def work(transaction: Transaction, ids: list[str] = ids) -> int:
            # Locked first: the statement after it sees the latest base of each.
            living = [row["id"] for row in await transaction.fetch("carry_locked", ids=ids)]
            return len(await transaction.fetch(carry, ids=living, before=before, now=now))

        await line.transact(work)


async def _drop(line: Line, partition: str, *, before: float) -> bool:
    needed = compiled(TEXTS["still_needed"].replace("{partition}", partition))

    async def check(transaction: Transaction) -> bool:
        return not await transaction.fetch(needed, before=before, batch=1)

    return await _define(line, f"DROP TABLE IF EXISTS {partition}", check)
