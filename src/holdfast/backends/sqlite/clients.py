"""What clients do to instances, as functions of a session: start, tell, look, delete. Opens no connection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.backends.shared import as_program, as_step, as_view, filter_parts
from holdfast.backends.sqlite.database import Session, as_json, chosen
from holdfast.ids import InstanceId, ProgramHash
from holdfast.model.instance import Delivery, InstanceFilter, InstanceView, Start, Status, Step, StoredProgram


@dataclass(slots=True)
class Taken:
    """Who took what was delivered."""

    ids: list[InstanceId] = field(default_factory=list[InstanceId])
    owners: set[str] = field(default_factory=set[str])
    parked: set[InstanceId] = field(default_factory=set[InstanceId])
    woken: bool = False
    """Whether an instance without an owner became due."""


def save_programs(session: Session, programs: Sequence[StoredProgram], now: float) -> None:
    with session.writing():
        session.many("save_program", [(p.hash, p.name, p.text, p.signature, now) for p in programs])


def load_programs(session: Session, hashes: Sequence[ProgramHash]) -> list[StoredProgram]:
    return [as_program(row) for row in session.all("load_programs", hashes=as_json(hashes))]


def start(session: Session, starts: Sequence[Start]) -> list[InstanceId]:
    with session.writing():
        return put_starts(session, starts)


def put_starts(session: Session, starts: Sequence[Start]) -> list[InstanceId]:
    """Create those that are new, inside the caller's transaction."""
    wanted = {each.id: each for each in reversed(starts)}
    if not wanted:
        return []
    known = {row["id"] for row in session.all("existing", ids=as_json(wanted))}
    new = [each for each in starts if each.id not in known and wanted[each.id] is each]
    session.many(
        "start_instance",
        [
            (
                each.id,
                each.name,
                each.program,
                each.queue,
                each.priority,
                each.due_at,
                each.created_at,
                each.parent,
                each.parent_call,
                each.waiter,
                each.tags,
            )
            for each in new
        ],
    )
    session.many("start_journal", [(each.id, each.created_at, each.input) for each in new])
    return [each.id for each in new]


def deliver(session: Session, deliveries: Sequence[Delivery]) -> Taken:
    with session.writing():
        return put_deliveries(session, deliveries)


def put_deliveries(session: Session, deliveries: Sequence[Delivery]) -> Taken:
    """Fill the inboxes of those that live, inside the caller's transaction."""
    taken = Taken()
    if not deliveries:
        return taken
    latest = {each.instance: each.at for each in deliveries}
    receivers = {row["id"]: row for row in session.all("receivers", ids=as_json(latest))}
    session.many(
        "put_inbox",
        [
            (each.instance, each.id, each.kind.value, each.key, each.payload, each.at)
            for each in deliveries
            if each.instance in receivers
        ],
    )
    taken.ids = [id for id in latest if id in receivers]
    session.many("wake", [(latest[id], latest[id], id) for id in taken.ids])
    taken.owners = {row["owner"] for row in receivers.values() if row["owner"] is not None}
    taken.parked = {id for id, row in receivers.items() if row["status"] == "parked"}
    taken.woken = any(row["owner"] is None and row["status"] == "pending" for row in receivers.values())
    return taken


def view(session: Session, ids: Sequence[InstanceId], waiter: str | None) -> list[InstanceView]:
    if waiter is not None:
        # First ask to be told, then look: an ending in between is seen, or told.
        session.run("await_ending", ids=as_json(ids), waiter=waiter)
    return [as_view(row) for row in session.all("view", ids=as_json(ids))]


def find(session: Session, filter: InstanceFilter) -> list[InstanceView]:
    sql, parameters = chosen("find", filter_parts(filter), end="find_end")
    return [as_view(row) for row in session.text(sql, {**parameters, "limit": filter.limit}).fetchall()]


def count(session: Session, filter: InstanceFilter) -> int:
    return session.text(*chosen("count", filter_parts(filter))).fetchone()["number"]


def tally(session: Session) -> dict[Status, int]:
    return {Status(row["status"]): row["number"] for row in session.all("tally")}


def history(session: Session, id: InstanceId, after: int, limit: int) -> list[Step]:
    return [as_step(row) for row in session.all("history", id=id, after=after, limit=limit)]


def latest_steps(session: Session, ids: Sequence[InstanceId]) -> dict[InstanceId, list[Step]]:
    steps: dict[InstanceId, list[Step]] = defaultdict(list)
    for row in session.all("claimed_steps", ids=as_json(ids)):
        steps[row["instance"]].append(as_step(row))
    return dict(steps)


def family(session: Session, ids: Sequence[InstanceId]) -> list[InstanceView]:
    return [as_view(row) for row in session.all("family", ids=as_json(ids))]


def resume(session: Session, ids: Sequence[InstanceId], now: float) -> list[InstanceId]:
    return [row["id"] for row in session.all("resume", ids=as_json(ids), now=now)]


def delete(session: Session, ids: Sequence[InstanceId]) -> list[InstanceId]:
    with session.writing():
        ended = [InstanceId(row["id"]) for row in session.all("ended_of", ids=as_json(ids))]
        session.run("delete_journals", ids=as_json(ended))
        session.run("delete_instances", ids=as_json(ended))
        return ended
