"""What every SQL store does alike: reads its `.sql` files, turns rows into the model. Knows no driver."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Protocol

from holdfast.errors import SchemaError
from holdfast.ids import InstanceId, ProgramHash
from holdfast.model.instance import (
    Claimed,
    Delivery,
    DeliveryKind,
    InstanceFilter,
    InstanceView,
    ScheduleRow,
    SpilledCall,
    Status,
    Step,
    StoredProgram,
    WorkerView,
)

SHARD = 0
"""The one shard of an undivided database; every key starts with it, so that tables can be divided later."""


class Row(Protocol):
    """A row of any driver: columns by name."""

    def __getitem__(self, key: str, /) -> Any: ...


# --- the .sql files


def load_statements(package: str) -> Mapping[str, str]:
    """The statements of `package`'s `sql/*.sql` by name; each begins with a line `-- name: the_name`."""
    statements: dict[str, str] = {}
    for file in sorted(files(package).joinpath("sql").iterdir(), key=lambda each: each.name):
        if not file.name.endswith(".sql"):
            continue
        _, *parts = re.split(r"^-- name: *(\w+) *$", file.read_text("utf-8"), flags=re.MULTILINE)
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in statements:
                raise SchemaError(f"{package}: two statements are named {name}")
            statements[name] = _without_comments(text)
    return statements


def load_migrations(package: str) -> Sequence[tuple[int, Sequence[str]]]:
    """The schema's versions in order, each with its statements, from `schema/0001_….sql` on."""
    versions: list[tuple[int, Sequence[str]]] = []
    for file in sorted(files(package).joinpath("schema").iterdir(), key=lambda each: each.name):
        if file.name.endswith(".sql"):
            body = _without_comments(file.read_text("utf-8"))
            statements = [part.strip() for part in body.split(";") if part.strip()]
            versions.append((int(file.name.split("_")[0]), statements))
    return versions


def refuse_newer(found: int, known: int) -> None:
    """Raise `SchemaError` when the database was made by a later release."""
    if found > known:
        raise SchemaError(
            f"this database has schema version {found}, and this release of Holdfast knows up to {known}: "
            "upgrade Holdfast here, or point it at another database"
        )


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()


# --- listing


def filter_parts(filter: InstanceFilter) -> Iterator[tuple[str, dict[str, Any]]]:
    """The `.sql` fragments (`find_by_…`) this filter needs, with their parameters."""
    if filter.name is not None:
        # A whole name is `module:Outer.Class`, unless its author chose another.
        yield "find_by_name", {"name": filter.name, "class": f":{filter.name}", "inner": f".{filter.name}"}
    if filter.status is not None:
        yield "find_by_status", {"status": filter.status.value}
    if filter.parent is not None:
        yield "find_by_parent", {"parent": filter.parent}
    if filter.tag is not None:
        yield "find_by_tag", {"tag": f" {filter.tag} "}
    if filter.created_after is not None:
        yield "find_by_created_after", {"created_after": filter.created_after}
    if filter.created_before is not None:
        yield "find_by_created_before", {"created_before": filter.created_before}
    if filter.before is not None:
        yield "find_by_page", {"page_at": filter.before[0], "page_id": filter.before[1]}
    if filter.ids:
        yield "find_by_ids", {"ids": list(filter.ids)}


# --- rows to the model


def as_view(row: Row) -> InstanceView:
    return InstanceView(
        id=InstanceId(row["id"]),
        name=row["name"],
        program=ProgramHash(row["program"]),
        status=Status(row["status"]),
        queue=row["queue"],
        priority=row["priority"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        # Of one that a worker has it is the moment at which that could be claimed.
        due_at=row["due_at"] if row["owner"] is None else None,
        owner=row["owner"],
        parent=row["parent"],
        reason=row["reason"],
        tags=row["tags"],
        outcome=row["outcome"],
        parent_call=row["parent_call"],
    )


def as_claimed(row: Row, steps: Sequence[Step]) -> Claimed:
    return Claimed(
        id=InstanceId(row["id"]),
        name=row["name"],
        program=ProgramHash(row["program"]),
        queue=row["queue"],
        created_at=row["created_at"],
        parent=row["parent"],
        parent_call=row["parent_call"],
        recoveries=row["recoveries"],
        claim=row["claims"],
        told=bool(row["told"]),
        steps=steps,
    )


def as_step(row: Row) -> Step:
    return Step(seq=row["seq"], at=row["at"], payload=row["payload"], full=bool(row["full"]))


def as_call(row: Row) -> SpilledCall:
    return SpilledCall(
        id=row["id"],
        instance=InstanceId(row["instance"]),
        call=row["call"],
        name=row["name"],
        queue=row["queue"],
        payload=row["payload"],
        due_at=row["due_at"],
        priority=row["priority"],
        attempt=row["attempt"],
    )


def as_delivery(row: Row) -> Delivery:
    return Delivery(
        id=row["id"],
        instance=InstanceId(row["instance"]),
        kind=DeliveryKind(row["kind"]),
        key=row["key"],
        payload=row["payload"],
        at=row["at"],
    )


def as_program(row: Row) -> StoredProgram:
    return StoredProgram(hash=ProgramHash(row["hash"]), name=row["name"], text=row["text"], signature=row["signature"])


def as_schedule(row: Row) -> ScheduleRow:
    return ScheduleRow(
        id=row["id"],
        spec=row["spec"],
        next_at=row["next_at"],
        paused=bool(row["paused"]),
        last_at=row["last_at"],
        skipped=row["skipped"],
        version=row["version"],
    )


def as_worker(row: Row) -> WorkerView:
    return WorkerView(
        id=row["worker"],
        host=row["host"],
        pid=row["pid"],
        queues=row["queues"],
        started_at=row["started_at"],
        expires_at=row["expires_at"],
        idle=bool(row["idle"]),
        owned=row["owned"],
        beat_at=row["beat"],
        version=row["version"],
    )


def split_waiters(waiter: str | None) -> Sequence[str]:
    """The channels in a row's `waiter`: several clients may wait for one instance."""
    return waiter.split(" ") if waiter else ()
