"""What clients do to instances: start, tell, look, delete. Each verb is one statement of a line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.backends.postgres.line import Line
from holdfast.backends.postgres.statements import chosen
from holdfast.backends.shared import Row, as_program, as_step, as_view, filter_parts
from holdfast.ids import InstanceId, ProgramHash
from holdfast.model.instance import Delivery, InstanceFilter, InstanceView, Start, Status, Step, StoredProgram
from holdfast.ports import WORK_CHANNEL

CLOCK_SLACK = 86400.0
"""Seconds by which a step may seem older than its base, when the clocks of two owners differ."""


@dataclass(slots=True)
class Taken:
    """Who took what was delivered, and who should hear of it."""

    ids: list[InstanceId] = field(default_factory=list[InstanceId])
    owners: set[str] = field(default_factory=set[str])
    woken: bool = False
    """Whether an instance without an owner became due."""
    idle: bool = False
    """Whether some worker has nothing to do."""


async def save_programs(line: Line, programs: Sequence[StoredProgram], now: float) -> None:
    await line.fetch(
        "save_programs",
        hashes=[each.hash for each in programs],
        names=[each.name for each in programs],
        texts=[each.text for each in programs],
        signatures=[each.signature for each in programs],
        now=now,
    )


async def load_programs(line: Line, hashes: Sequence[ProgramHash]) -> list[StoredProgram]:
    return [as_program(row) for row in await line.fetch("load_programs", hashes=list(hashes))]


async def start(line: Line, starts: Sequence[Start]) -> list[InstanceId]:
    """The new ones among them. An idle worker has been told."""
    if not starts:
        return []
    [row] = await line.fetch("start", channel=WORK_CHANNEL, **start_columns(starts))
    new = set[str](row["ids"] or ())
    return list(dict.fromkeys(each.id for each in starts if each.id in new))


def start_columns(starts: Sequence[Start], prefix: str = "") -> dict[str, Any]:
    """Starts as one array a column, without doubles, in the order of their ids: the same for all writers."""
    rows = [each for _, each in sorted({each.id: each for each in reversed(starts)}.items())]
    return {
        f"{prefix}ids": [each.id for each in rows],
        f"{prefix}names": [each.name for each in rows],
        f"{prefix}programs": [each.program for each in rows],
        f"{prefix}queues": [each.queue for each in rows],
        f"{prefix}priorities": [each.priority for each in rows],
        f"{prefix}due_ats": [each.due_at for each in rows],
        f"{prefix}created_ats": [each.created_at for each in rows],
        f"{prefix}parents": [each.parent for each in rows],
        f"{prefix}parent_calls": [each.parent_call for each in rows],
        f"{prefix}waiters": [each.waiter for each in rows],
        f"{prefix}tags": [each.tags for each in rows],
        f"{prefix}inputs": [each.input for each in rows],
    }


async def deliver(line: Line, deliveries: Sequence[Delivery]) -> Taken:
    if not deliveries:
        return Taken()
    rows = await line.fetch("deliver", **told_columns(deliveries), **delivery_columns(deliveries))
    living = {row["id"] for row in rows}
    return Taken(
        ids=list(dict.fromkeys(each.instance for each in deliveries if each.instance in living)),
        owners=owners_of(rows),
        woken=woken_among(rows),
        idle=any(row["idle"] for row in rows),
    )


def told_columns(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    """Whom they are for, in the order of their ids: the same for all writers."""
    latest = {each.instance: each.at for each in sorted(deliveries, key=lambda delivery: delivery.instance)}
    return {"ids": list(latest), "ats": list(latest.values())}


def delivery_columns(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {
        "instances": [each.instance for each in deliveries],
        "delivery_ids": [each.id for each in deliveries],
        "kinds": [each.kind.value for each in deliveries],
        "keys": [each.key for each in deliveries],
        "payloads": [each.payload for each in deliveries],
        "delivery_ats": [each.at for each in deliveries],
    }


def owners_of(rows: Sequence[Row]) -> set[str]:
    return {row["owner"] for row in rows if row["owner"] is not None}


def woken_among(rows: Sequence[Row]) -> bool:
    return any(row["owner"] is None and row["status"] == "pending" for row in rows)


async def await_ending(line: Line, ids: Sequence[InstanceId], waiter: str) -> bool:
    """Have their endings announced; whether an idle worker should look for some of them again."""
    rows = await line.fetch("await_ending", ids=list(ids), waiter=waiter)
    return any(row["passed_over"] for row in rows)


async def view(line: Line, ids: Sequence[InstanceId]) -> list[InstanceView]:
    return [as_view(row) for row in await line.fetch("view", ids=list(ids))]


async def find(line: Line, filter: InstanceFilter) -> list[InstanceView]:
    statement, values = chosen("find", filter_parts(filter), end="find_end")
    return [as_view(row) for row in await line.fetch(statement, limit=filter.limit, **values)]


async def count(line: Line, filter: InstanceFilter) -> int:
    statement, values = chosen("count", filter_parts(filter))
    return (await line.fetch(statement, **values))[0]["number"]


async def tally(line: Line) -> dict[Status, int]:
    return {Status(row["status"]): row["number"] for row in await line.fetch("tally")}


async def history(line: Line, id: InstanceId, after: int, limit: int) -> list[Step]:
    return [as_step(row) for row in await line.fetch("history", id=id, after=after, limit=limit)]


async def latest_steps(line: Line, ids: Sequence[InstanceId]) -> dict[InstanceId, list[Step]]:
    steps: dict[InstanceId, list[Step]] = defaultdict(list)
    for row in await line.fetch("latest_steps", ids=list(ids), slack=CLOCK_SLACK):
        steps[row["instance"]].append(as_step(row))
    return dict(steps)


async def family(line: Line, ids: Sequence[InstanceId]) -> list[InstanceView]:
    return [as_view(row) for row in await line.fetch("family", ids=list(ids))]


async def resume(line: Line, ids: Sequence[InstanceId], now: float) -> Taken:
    rows = await line.fetch("resume", ids=list(ids), now=now)
    return Taken(ids=[row["id"] for row in rows], woken=bool(rows), idle=any(row["idle"] for row in rows))


async def delete(line: Line, ids: Sequence[InstanceId]) -> tuple[list[InstanceId], int]:
    """The ended ones among `ids`, which are gone now, and how many journal rows went with them."""
    rows = await line.fetch("delete", ids=list(ids))
    return [row["id"] for row in rows], rows[0]["steps"] if rows else 0
