"""An instance's journal as people read it: what happened at each step, what changed, the variables at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from holdfast.codec import Company, describe, describe_error, to_json
from holdfast.engine import Entries, read
from holdfast.errors import HoldfastError
from holdfast.ir.program import Await, Program
from holdfast.model.instance import Step
from holdfast.observe.moments import iso, until
from holdfast.runtime.resident import advance, entries_of, row_of


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
            "at": iso(self.at),
            "events": list(self.events),
            "changed": changed,
            "line": self.line,
        }


def read_history(steps: Sequence[Step], program: Program | None) -> list[StepView]:
    """The steps in order. `program` adds the lines."""
    views: list[StepView] = []
    before: dict[str, Any] = {}
    waits: dict[str, Any] = {}
    state: Entries = {}
    for step in steps:
        row = row_of(step)
        state = advance(state, row)
        if "start" in row:
            arguments = _arguments_of(row["start"])
            before = dict(arguments)
            views.append(StepView(seq=step.seq, at=step.at, events=["started"], changed=arguments, line=None))
            continue
        put: dict[str, Any] = row.get("full") or row.get("put") or {}
        # A cut says what changed in an entry; what it is now is in the state.
        written = {**put, **read({key: state[key] for key in row.get("cut", ())})}
        now = variables(written)
        changed = {name: tree for name, tree in now.items() if before.get(name, _MISSING) != tree}
        before.update(now)
        notes = row.get("notes", [])
        ended = any(what == "ended" for what, _ in notes)
        over, begun = _change_of_waits(waits, written, waits if ended else row.get("gone", ()), state, step.at)
        events = [*over, *(_event(what, fields) for what, fields in notes), *begun]
        line = _line(put, program)
        views.append(StepView(seq=step.seq, at=step.at, events=events or ["goes on"], changed=changed, line=line))
    return views


def variables_at(steps: Sequence[Step], seq: int) -> dict[str, Any]:
    """The variables' trees at step `seq`, by `name`, or `name@frame` for functions called. Raises HoldfastError."""
    if not steps or not steps[0].seq <= seq <= steps[-1].seq:
        kept = f"{steps[0].seq} to {steps[-1].seq}" if steps else "none"
        raise HoldfastError(f"there is no step {seq}; the history holds {kept}")
    entries = entries_of(steps, upto=seq)
    if "start" in entries:
        return _arguments_of(entries["start"])
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
            company = Company([inner for _, inner in tree])
            cells.update((cell, company.alone(inner)) for cell, inner in tree)
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


def _change_of_waits(
    waits: dict[str, Any], written: Mapping[str, Any], gone: Iterable[str], state: Mapping[str, Any], at: float
) -> tuple[list[str], list[str]]:
    """Which sleeps and waits for messages and children are over, and which begin, with this step. Keeps `waits` up to date."""
    now = {key: record["wait"] for key, record in written.items() if key[0] == "b" and key[1:].isdigit()}
    over: list[str] = []
    begun: list[str] = []
    for key in [*now, *gone]:
        old, new = waits.pop(key, None), now.get(key)
        if new is not None:
            waits[key] = new
        if old != new:
            over += _over(old, at)
            begun += _begun(new, state)
    return over, begun


def _over(wait: Any, at: float) -> list[str]:
    match wait:
        case ["time", due, _] if at >= due:
            return ["slept"]
        case ["message", key, float(due) | int(due), _] if at >= due:
            return [f"no message {key!r} came in time"]
        case _:
            return []


def _begun(wait: Any, state: Mapping[str, Any]) -> list[str]:
    match wait:
        case ["time", due, _]:
            return [f"sleeps {until(due)}"]
        case ["message", key, due, _]:
            return [f"waits for message {key!r}" + ("" if due is None else f" {until(due)}")]
        case ["future", id]:
            match state.get(f"o{id}"):
                case {"kind": "child", "instance": child}:
                    return [f"waits for {child}"]
                case _:
                    return []
        case _:
            return []


def _event(what: str, fields: Mapping[str, Any]) -> str:
    name = str(fields.get("name", "")).rpartition(":")[2]
    match what:
        case "call":
            attempt = fields.get("attempt", 1)
            again = f" (attempt {attempt})" if attempt != 1 else ""
            return f"calls {name}({arguments_in_words(fields.get('args'))}){again}"
        case "done":
            return f"{name} gave {describe(fields.get('value'), limit=200)}"
        case "failed":
            return f"{name} failed: {describe_error(fields.get('error'), limit=200)}"
        case "retry":
            return f"{name} failed, to be tried again: {describe_error(fields.get('error'), limit=200)}"
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
        case "taken":
            return "taken over from another worker"
        case "forked":
            return f"forked from {fields.get('from')} at step {fields.get('at')}"
        case "ended":
            error = fields.get("error")
            return f"ended: {fields.get('reason') or fields.get('status')}" + (f" with {error}" if error else "")
        case _:
            return what


def arguments_in_words(tree: Any, *, limit: int = 60) -> str:
    """The arguments of a call as they would be written, each cut where it is longer than `limit`."""
    args, kwargs = cast("list[Any]", tree)
    company = Company([tree])
    parts = [describe(company.alone(arg), limit=limit) for arg in args]
    parts += [f"{key}={describe(company.alone(value), limit=limit)}" for key, value in _plain_dict(kwargs).items()]
    return ", ".join(parts)


def _arguments_of(start: Any) -> dict[str, Any]:
    """The arguments of `run`, of what an instance begins with."""
    company = Company([start])
    return {name: company.alone(tree) for name, tree in _plain_dict(start[1]).items()}


def _plain_dict(tree: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", tree) if isinstance(tree, dict) and "$" not in tree else {}


_MISSING = object()
