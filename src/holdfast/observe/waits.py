"""What an instance waits for, read from its saved state. Loads no program, and decodes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from holdfast.engine import Entries
from holdfast.errors import CodecError
from holdfast.model.instance import InstanceView, Status, Step
from holdfast.observe.moments import iso, relative, until
from holdfast.runtime.resident import entries_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One of the things that an instance waits for."""

    kind: str
    """`action`, `sleep`, `message`, `child`, `start`, or `worker`: for one that has room."""
    name: str = ""
    """The action's name, the message's name or type, the child's id, the queue."""
    attempt: int = 1
    at: float | None = None
    """When it is over at the latest; of an action, when its next attempt begins (Unix seconds)."""
    elsewhere: bool = False
    """An action that was handed to other workers."""

    def as_json(self) -> dict[str, Any]:
        """It as plain JSON values, without what does not apply."""
        found: dict[str, Any] = {"kind": self.kind, "name": self.name, "at": iso(self.at)}
        if self.kind == "action":
            found |= {"attempt": self.attempt, "elsewhere": self.elsewhere}
        return {key: value for key, value in found.items() if value not in ("", None)}

    def told(self, now: float) -> str:
        """It in a few words."""
        short = self.name.rpartition(":")[2]
        left = "" if self.at is None else f" {until(self.at)} ({relative(self.at, now)})"
        match self.kind:
            case "action":
                words = short if self.attempt == 1 else f"{short}, attempt {self.attempt}"
                begins = "" if self.at is None or self.at <= now else f" {relative(self.at, now)}"
                return words + begins + (", on any worker" if self.elsewhere else "")
            case "sleep":
                return f"sleep{left}"
            case "message":
                return f"message {self.name!r}{left}"
            case "child":
                return f"child {self.name}"
            case "start":
                return "its first step or action" if self.at is None else f"its start {relative(self.at, now)}"
            case _:
                return f"a worker with room (queue {self.name})"


def waits_of(view: InstanceView, steps: Sequence[Step], now: float, *, first: str | None = None) -> list[Wait]:
    """What an instance waits for that stands where the journal rows end; [] for one that is parked or has ended.

    `first` is the action that its program begins with: that one runs before there is a row of it.
    """
    if view.status is not Status.PENDING:
        return []
    try:
        entries = entries_of(steps)
    except CodecError:
        entries = {}
    if view.due_at is not None and view.due_at <= now:
        return [Wait(kind="worker", name=view.queue), *_waits(entries)]
    if "start" in entries:
        if first is not None and view.owner is not None:
            return [Wait(kind="action", name=first)]
        return [Wait(kind="start", at=view.due_at)]
    return list(_waits(entries))


def told_all(waits: Iterable[Wait], now: float) -> str:
    """All of it in a line: of several alike the first, and how many there are."""
    in_order = sorted(waits, key=lambda wait: (wait.kind != "worker", wait.kind, wait.name))
    words = [wait.told(now) for wait in in_order]
    counted = [(text, len(list(alike))) for text, alike in groupby(words)]
    return ", ".join(f"{text} × {count}" if count > 1 else text for text, count in counted)


def _waits(entries: Entries) -> Iterator[Wait]:
    for key, record in entries.items():
        match key[:1], record:
            case "c", {"name": str(_), "branch": int(branch)} if key[1:].isdigit() and branch >= 0:
                yield _call(record)
            case "b", {"wait": [*_]} if key[1:].isdigit():
                yield from _branch(record["wait"], entries)
            case _:
                pass


def _call(record: Mapping[str, Any]) -> Wait:
    child = record.get("child")
    if child is not None:
        return Wait(kind="child", name=str(child["id"]))
    return Wait(
        kind="action",
        name=record["name"],
        attempt=record.get("attempt", 1),
        at=record.get("due"),
        elsewhere=record.get("spilled", False),
    )


def _branch(wait: Sequence[Any], entries: Entries) -> Iterator[Wait]:
    """What a branch waits for, as far as no other entry tells it: calls have their own, and so have other branches."""
    match wait:
        case ["time", at, _]:
            yield Wait(kind="sleep", at=at)
        case ["message", key, at, _]:
            yield Wait(kind="message", name=key, at=at)
        case ["future" | "limited" | "next", id, *_]:
            yield from _children([id], entries)
        case ["set", ids, *_]:
            yield from _children(ids, entries)
        case _:
            pass


def _children(ids: Iterable[int], entries: Entries, seen: frozenset[int] = frozenset()) -> Iterator[Wait]:
    """The children among these futures, and among those that they are made of."""
    for id in ids:
        if id in seen:
            continue
        match entries.get(f"o{id}"):
            case {"kind": "child", "state": "pending", "instance": instance}:
                yield Wait(kind="child", name=instance)
            case {"kind": "gather", "children": [*inner]} | {"kind": "completed", "waiting": [*inner]}:
                yield from _children(inner, entries, seen | {id})
            case {"kind": "shield", "inner": int(inner)}:
                yield from _children([inner], entries, seen | {id})
            case _:
                pass
