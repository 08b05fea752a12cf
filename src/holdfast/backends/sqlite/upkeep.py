"""Schema, schedules and garbage collection, as functions of a session. Deletes in short batches."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.backends.shared import as_schedule, load_migrations, refuse_newer
from holdfast.backends.sqlite.clients import put_starts
from holdfast.backends.sqlite.database import Session, as_json
from holdfast.model.instance import ScheduleRow, Start
from holdfast.ports import Swept

MIGRATIONS = load_migrations(__package__ or "holdfast.backends.sqlite")
LATEST = MIGRATIONS[-1][0]


def migrate(session: Session, now: float) -> None:
    """Bring the schema to this release's version; many processes may do so at once."""
    if _version(session) == LATEST:
        return
    with session.writing():
        found = _version(session)
        refuse_newer(found, LATEST)
        session.text(
            "CREATE TABLE IF NOT EXISTS holdfast_schema (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL)"
        )
        for version, statements in MIGRATIONS:
            if version > found:
                for statement in statements:
                    session.text(statement)
                session.text(
                    "INSERT INTO holdfast_schema (version, applied_at) VALUES (:version, :now)",
                    {"version": version, "now": now},
                )


def _version(session: Session) -> int:
    known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'holdfast_schema'"
    if session.text(known).fetchone() is None:
        return 0
    return session.text("SELECT coalesce(max(version), 0) AS version FROM holdfast_schema").fetchone()["version"]


# --- schedules


def save_schedule(session: Session, row: ScheduleRow, replace: bool) -> bool:
    with session.writing():
        known = session.one("schedule", id=row.id)
        if known is not None and not replace:
            return False
        # A version of its own, so that a tick computed from the old row does not fire.
        session.run("save_schedule", **_columns(row, row.version if known is None else known["version"] + 1))
        return True


def fire(session: Session, row: ScheduleRow, starts: Sequence[Start], expect_version: int) -> bool:
    with session.writing():
        if not session.run("advance_schedule", **_columns(row, expect_version)):
            return False
        put_starts(session, starts)
        return True


def schedules(session: Session) -> list[ScheduleRow]:
    return [as_schedule(row) for row in session.all("schedules")]


def delete_schedule(session: Session, id: str) -> bool:
    return session.run("delete_schedule", id=id) > 0


def _columns(row: ScheduleRow, version: int) -> dict[str, object]:
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


def sweep_instances(session: Session, ended_before: float, batch: int) -> Swept:
    """One batch of ended instances with their journals."""
    with session.writing():
        ids = [row["id"] for row in session.all("expired_instances", ended_before=ended_before, batch=batch)]
        if not ids:
            return Swept()
        steps = session.run("delete_journals", ids=as_json(ids))
        return Swept(instances=session.run("delete_instances", ids=as_json(ids)), steps=steps)


def sweep_history(session: Session, before: float, after: int, batch: int) -> tuple[int | None, int]:
    """Drop what nobody needs of one page of the journal from place `after` on.

    Returns where the next page begins (None: nothing old is left), and how many rows went.
    """
    with session.writing():
        page = session.all("old_history", after=after, batch=batch)
        doomed = [(row["place"],) for row in page if row["at"] < before and not row["needed"]]
        session.many("drop_history", doomed)
        more = len(page) == batch and any(row["at"] < before for row in page)
        return (page[-1]["place"] if more else None), len(doomed)
