"""An instance's journal as people read it: what happened at each step, what changed, the variables at any moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from holdfast.codec import describe, loads, to_json
from holdfast.engine import Entries, read
from holdfast.errors import HoldfastError
from holdfast.ir.program import Await, Program
from holdfast.model.instance import Step
from holdfast.runtime.resident import advance, entries_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step for people. `changed` holds the trees of variables that changed, by name."""

    seq: int
    at: float
    events: Sequence[str]
    changed: Mapping[str, Any]
    line: int | None
    """The source line at which the main branch waits."""

    def as_json(self) -> dict[str, Any]:
        """The step as plain JSON values."""
        changed = {name: to_json(tree) for name, tree in self.changed.items()}
        return {
            "seq": self.seq,
            "at": self.at,
            "events": list(self.events),
            "changed": changed,
            "line": self.line,
        }


def read_history(steps: Sequence[Step], program: Program | None) -> list[StepView]:
    """The steps in order. `program` adds the lines."""
    views: list[StepView] = []
    before: dict[str, Any] = {}
    state: Entries = {}
    for step in steps:
        row = cast("dict[str, Any]", loads(step.payload))
        state = advance(state, row)
        if "start" in row:
            begun = StepView(
                seq=step.seq, at=step.at, events=["started"], changed=_plain_dict(row["start"][1]), line=None
            )
            views.append(begun)
            continue
        put: dict[str, Any] = row.get("full") or row.get("put") or {}
        # A cut says what changed in an entry; what it is now is in the state.
        now = variables({**put, **read({key: state[key] for key in row.get("cut", ())})})
        changed = {name: tree for name, tree in now.items() if before.get(name, _MISSING) != tree}
        before.update(now)
        events = [text for what, fields in row.get("notes", []) if (text := _event(what, fields))]
        views.append(StepView(seq=step.seq, at=step.at, events=events, changed=changed, line=_line(put, program)))
    return views


def variables_at(steps: Sequence[Step], seq: int) -> dict[str, Any]:
    """The variables' trees at step `seq`, by `name`, or `name@frame` for functions called. Raises HoldfastError."""
    if not steps or not steps[0].seq <= seq <= steps[-1].seq:
        kept = f"{steps[0].seq} to {steps[-1].seq}" if steps else "none"
        raise HoldfastError(f"there is no step {seq}; the history holds {kept}")
    entries = entries_of(steps, upto=seq)
    if "start" in entries:
        return _plain_dict(entries["start"][1])
    return variables(entries)


def variables(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The user's variables among state entries. Variables of called functions carry their frame's number."""
    found: dict[str, tuple[int, Any]] = {}
    first = min((int(key.split(".")[0]) for key in _cells(entries) if key[0].isdigit()), default=0)
    for key, tree in _cells(entries).items():
        if key == "self":
            found["self"] = (first, tree)
            continue
        frame, _, name = key.partition(".")
        if not frame.isdigit() or name.startswith("_hf") or name == "self":
            continue
        number = int(frame)
        found[name if number == first else f"{name}@{number}"] = (number, tree)
    return {name: tree for name, (_, tree) in found.items()}


def _cells(entries: Mapping[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for key, tree in entries.items():
        if key.startswith("="):
            cells.update(dict(tree))
        elif key[0].isdigit() or key == "self":
            cells[key] = tree
    return cells


def _line(put: Mapping[str, Any], program: Program | None) -> int | None:
    if program is None:
        return None
    for key, record in put.items():
        if key[0] == "b" and key[1:].isdigit() and record["at"]:
            _, name, block = record["at"][-1]
            function = program.functions.get(str(name))
            end = None if function is None else function.blocks[int(block)].end
            if isinstance(end, Await):
                return end.value.line
    return None


def _event(what: str, fields: Mapping[str, Any]) -> str:
    name = str(fields.get("name", "")).rpartition(":")[2]
    match what:
        case "call":
            attempt = fields.get("attempt", 1)
            again = f" (attempt {attempt})" if attempt != 1 else ""
            return f"calls {name}({_arguments(fields.get('args'))}){again}"
        case "done":
            return f"{name} gave {describe(fields.get('value'), limit=200)}"
        case "failed":
            return f"{name} failed: {describe(fields.get('error'), limit=200)}"
        case "retry":
            return f"{name} failed, to be tried again: {describe(fields.get('error'), limit=200)}"
        case "dropped":
            return f"{name} is no longer waited for"
        case "given up":
            return f"asks {name} to end"
        case "child":
            return f"starts workflow {name} as {fields.get('instance')}"
        case "message":
            return f"received {fields.get('key')}: {describe(fields.get('value'), limit=200)}"
        case "cancel":
            return "asked to cancel"
        case "ended":
            return f"ended: {fields.get('status')}"
        case _:
            return what


def _arguments(tree: Any) -> str:
    args, kwargs = cast("list[Any]", tree)
    parts = [describe(arg, limit=60) for arg in args]
    parts += [f"{key}={describe(value, limit=60)}" for key, value in _plain_dict(kwargs).items()]
    return ", ".join(parts)


def _plain_dict(tree: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", tree) if isinstance(tree, dict) and "$" not in tree else {}


_MISSING = object()
