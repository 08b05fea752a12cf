"""One owned instance in memory: its machine, what it has produced since its last commit, and the calls it runs."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

from holdfast.codec import PRIMITIVES, Tree, decode, dumps, encode_start, loads
from holdfast.engine import Change, Entries, LinkedProgram, Machine, Note, Saver, fold, load, read, renewed
from holdfast.errors import DecodeError
from holdfast.model.instance import Claimed, Step
from holdfast.runtime.executor import Attempt
from holdfast.runtime.joining import Children

FULL_AFTER = 8192
"""Bytes of changes after which a full row is due; with a large state, after twice its size more."""


class Resident:
    """An instance that this worker owns and holds."""

    def __init__(self, claimed: Claimed, machine: Machine, saver: Saver, *, seq: int) -> None:
        self.id = claimed.id
        self.claimed = claimed
        self.machine = machine
        self.saver = saver
        self.seq = seq
        """Of the last row that was produced."""
        self.begun = seq > 0
        """It has taken its first turn."""
        self.since_full = 0
        self.fulls: deque[int] = deque([claimed.steps[0].seq])
        self.attempts: dict[int, Attempt] = {}
        self.consumed: list[str] = []
        self.seen: set[str] = set()
        """Inbox rows folded in and not yet known to be deleted."""
        self.sends = 0
        self.children = Children()
        self.timer: float | None = None
        """The moment for which the owner's alarm is set."""
        self.reclaimed: Claimed | None = None
        """The store gave it to this worker again before its release was known here."""
        self.news: list[Note] = [("taken", {})] if claimed.recoveries else []
        """What the next row tells besides what happens in it."""
        self.parking: str | None = None
        """Why it is to be parked with what its next turn writes."""
        self.gone = False
        """It ended, was released or is lost; events for it are dropped."""

    def renew(self) -> None:
        """Save all of it with the next row."""
        self.saver = renewed(self.machine)
        self.since_full = sys.maxsize

    def step(self, change: Change, notes: Sequence[Note], now: float) -> Step:
        """The next journal row: this change, or everything where a full row is due."""
        self.seq += 1
        full = self.since_full > FULL_AFTER and self.since_full > FULL_AFTER + 2 * self.saver.size()
        entries = self.saver.whole() if full else change.put
        if self.news:
            notes, self.news = [*self.news, *notes], []
        row: dict[str, Any] = {"notes": _without_repeats(notes, entries)}
        if full:
            row["full"] = entries
            payload = dumps(row)
            self.since_full = 0
            self.fulls.append(self.seq)
        else:
            if change.put:
                row["put"] = change.put
            if change.gone:
                row["gone"] = list(change.gone)
            if change.cuts:
                row["cut"] = change.cuts
            payload = dumps(row)
            self.since_full += len(payload)
        return Step(self.seq, now, payload, full)

    def trim_below(self, keep: int) -> int | None:
        """Below which row the journal may be cut, so that `keep` steps and a full row before them remain."""
        below: int | None = None
        while len(self.fulls) > 1 and self.fulls[1] <= self.seq - keep:
            self.fulls.popleft()
            below = self.fulls[0]
        return below


def _without_repeats(notes: Sequence[Note], entries: Entries) -> Sequence[Note]:
    """The notes, without the tracebacks of failures that the row's entries hold anyway."""
    for what, _ in notes:
        if what == "failed":
            break
    else:
        return notes
    kept = dumps(entries)
    told: list[Note] = []
    for what, fields in notes:
        trace = fields["error"].get("traceback") if what == "failed" else None
        if trace and dumps(trace)[1:-1] in kept:
            error = {name: part for name, part in fields["error"].items() if name != "traceback"}
            told.append((what, {**fields, "error": error}))
        else:
            told.append((what, fields))
    return told


def entries_of(steps: Sequence[Step], *, upto: int | None = None) -> Entries:
    """The state that journal rows describe, beginning with a full one. Raises DecodeError where they don't."""
    entries: Entries = {}
    for step in steps:
        if upto is not None and step.seq > upto:
            break
        entries = advance(entries, row_of(step))
    return read(entries)


def row_of(step: Step) -> dict[str, Any]:
    """What a journal row holds. Raises DecodeError for one that cannot be a row."""
    match loads(step.payload):
        case {"start": [{}, {}]} | {"full": {}} as row:
            return cast("dict[str, Any]", row)
        case {"notes": [*_]} as row if isinstance(row.get("put", {}), dict) and isinstance(row.get("cut", {}), dict):
            return cast("dict[str, Any]", row)
        case _:
            raise DecodeError(f"the journal row {step.seq} is damaged")


def advance(entries: Entries, row: Mapping[str, Any]) -> Entries:
    """The state after one more journal row. What `fold` leaves as bytes must be `read`."""
    if "start" in row:
        return {"start": row["start"]}
    if "full" in row:
        return dict(row["full"])
    entries.pop("start", None)
    fold(entries, row.get("put") or {}, row.get("gone") or (), row.get("cut") or {})
    return entries


def awaken(claimed: Claimed, program: LinkedProgram, *, now: float) -> Resident:
    """An instance as it stands in its journal. Raises DecodeError where the journal cannot be read here."""
    if not claimed.steps:
        raise DecodeError("the journal is empty")
    entries = entries_of(claimed.steps)
    machine = Machine(program, now=now)
    machine.instance = claimed.id
    if "start" in entries:
        self_object, bound = begin_values(entries["start"], program)
        machine.begin(self_object, bound)
        saver = Saver(machine)
    else:
        saver = load(machine, entries)
    resident = Resident(claimed, machine, saver, seq=claimed.steps[-1].seq)
    for step in claimed.steps[1:]:
        resident.since_full += len(step.payload)
    return resident


def begin_values(start: Any, program: LinkedProgram) -> tuple[Any, dict[str, Any]]:
    """The workflow object and the variables with which the entry function begins."""
    attributes, arguments = start
    if attributes or "$" in arguments or not PRIMITIVES.issuperset(map(type, arguments.values())):
        attributes, arguments = decode(start)
    cls: Any = program.cls
    made: Any = object.__new__(cls)
    made.__dict__.update(attributes)
    return made, {program.receiver: made, **arguments}


def start_payload(attributes: dict[str, Any], arguments: dict[str, Any], name: str) -> bytes:
    """Row 0 of a journal: the workflow object's attributes and the arguments of `run`."""
    return start_row(encode_start(attributes, arguments, "workflow", name))


def start_row(start: Tree) -> bytes:
    """Row 0 of a journal, from what `begin_values` reads: the encoded list of attributes and arguments."""
    return dumps({"start": start})
