"""Branches, waits, calls and tracked objects as plain JSON records, and machines made from them again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from holdfast.codec import decode, encode_exception
from holdfast.engine.branch import (
    Branch,
    Frame,
    OnCall,
    OnFuture,
    OnGroup,
    OnLimited,
    OnMessage,
    OnNext,
    OnSet,
    OnTime,
    Wait,
)
from holdfast.engine.events import PendingCall
from holdfast.engine.link import AwaitPoint, LinkedFunction
from holdfast.engine.machine import Machine
from holdfast.engine.values import (
    ChildHandle,
    Completed,
    Future,
    Gathered,
    Shielded,
    Task,
    TaskGroup,
    Timeout,
    Tracked,
)
from holdfast.errors import DecodeError
from holdfast.model.call import DEFAULT_OPTIONS, CallOptions


def branch_record(branch: Branch) -> dict[str, Any]:
    """Where a branch stands and what it waits for."""
    record: dict[str, Any] = {
        "at": [[frame.id, frame.code.name, frame.block] for frame in branch.frames],
        "wait": None if branch.wait is None else wait_record(branch.wait),
    }
    if branch.must_cancel:
        record["cancel"] = True
    return record


def wait_record(wait: Wait) -> list[Any]:
    """A wait as a list: its kind, then what it needs."""
    match wait:
        case OnCall():
            return ["call", wait.call.id]
        case OnTime():
            return ["time", wait.at, wait.serial]
        case OnFuture():
            return ["future", wait.future.id]
        case OnSet():
            return ["set", [f.id for f in wait.futures], wait.mode, wait.at, wait.serial]
        case OnLimited():
            return ["limited", wait.future.id, wait.at, wait.serial, wait.state]
        case OnMessage():
            return ["message", wait.key, wait.at, wait.serial]
        case OnNext():
            return ["next", wait.source.id, wait.boxed]
        case OnGroup():
            return ["group", wait.group.id, wait.cancelled is not None]


def call_record(call: PendingCall) -> dict[str, Any]:
    """A pending call."""
    record: dict[str, Any] = {"name": call.name, "args": call.payload, "branch": call.branch}
    if call.attempt != 1:
        record["attempt"] = call.attempt
    if call.due_at is not None:
        record["due"] = call.due_at
    if call.spilled:
        record["spilled"] = True
    if call.child is not None:
        record["child"] = call.child
    if call.given_up:
        record["given_up"] = True
    options = call.options
    if options is not DEFAULT_OPTIONS:
        record["options"] = [options.retry, options.timeout, options.queue]
    return record


def begin_calls_anew(entries: dict[str, Any], *, old: str, new: str) -> None:
    """In a state that instance `new` takes from `old`, let all that is under way be asked for again.

    What was asked for by `old` reports to `old`. Calls are made again, at once and as first attempts; children that are
    waited for are started again. A child that was only started is nobody's errand: its handle goes on to mean it.
    """
    for key, record in entries.items():
        if not (key[0] == "c" and key[1:].isdigit()):
            continue
        child = record.get("child")
        if child is not None and record["branch"] < 0:
            continue
        anew = {name: value for name, value in record.items() if name not in ("attempt", "due", "spilled")}
        if child is not None and child["id"] == f"{old}.{key[1:]}":
            anew["child"] = {**child, "id": f"{new}.{key[1:]}"}
        entries[key] = {**anew, "anew": True}


def forget_cancel(entries: dict[str, Any]) -> None:
    """In a state that a fork takes over, take back that somebody asked to end it; what code has done since stays done.

    Children that were given up with it are waited for again, and another cancel is heard as the first.
    """
    meta = entries.get("m")
    if meta is None or not meta["cancel"]:
        return
    entries["m"] = {**meta, "cancel": False}
    root = meta["root"]
    for key, record in entries.items():
        kind, number = key[0], key[1:]
        if not number.isdigit():
            continue
        if kind == "c" and record.get("given_up"):
            entries[key] = {name: value for name, value in record.items() if name != "given_up"}
        elif kind == "b" and int(number) == root:
            entries[key] = {name: value for name, value in record.items() if name != "cancel"}
        elif kind == "o" and int(number) == root:
            entries[key] = {**record, "cancels": max(0, record.get("cancels", 0) - 1)}
        elif kind == "o" and record["kind"] == "timeout" and record["branch"] == root:
            # What was entered since then counts the cancel among those that were asked for before it.
            entries[key] = {**record, "cancelling": max(0, record["cancelling"] - 1)}


def ask_anew(machine: Machine, entries: Mapping[str, Any]) -> Iterator[PendingCall]:
    """The calls of a state that have yet to be asked for."""
    for call in machine.calls.values():
        if entries[f"c{call.id}"].get("anew"):
            yield call


def object_record(thing: Tracked) -> dict[str, Any]:
    """A tracked object, without the value of a future."""
    record: dict[str, Any] = {"kind": thing.kind}
    if isinstance(thing, Future):
        record["state"] = "error" if thing.state == "done" and thing.error is not None else thing.state
        if thing.callbacks:
            record["tell"] = [
                [kind, target if isinstance(target, int) else target.id] for kind, target in thing.callbacks
            ]
    match thing:
        case Task():
            record["name"] = thing.name
            if thing.cancels:
                record["cancels"] = thing.cancels
        case Gathered():
            record.update(children=[c.id for c in thing.children], missing=thing.missing, keep=thing.keep_errors)
            record["cancel"] = thing.cancel_asked
        case Shielded():
            record["inner"] = None if thing.inner is None else thing.inner.id
        case ChildHandle():
            record["instance"] = thing.instance
        case Timeout():
            record.update(
                deadline=thing.deadline, state=thing.state, branch=thing.branch_id, cancelling=thing.cancelling
            )
            record.update(delay=thing.delay, serial=thing.serial)
        case TaskGroup():
            record.update(state=thing.state, branch=thing.branch_id, tasks=list(thing.tasks), aborting=thing.aborting)
            record["parent"] = thing.parent_cancelled
            record["errors"] = [encode_exception(error) for error in thing.errors]
            record["error"] = None if thing.error is None else encode_exception(thing.error)
        case Completed():
            record.update(waiting=sorted(thing.waiting), done=[f.id for f in thing.done], left=thing.left)
        case _:
            pass
    return record


def restore(machine: Machine, entries: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Make the objects of a state, so that values can refer to them; the result then fills them with those values."""
    meta = entries["m"]
    machine.next_id = meta["n"]
    machine.cancel_asked = meta["cancel"]
    kept: dict[int, Tracked] = {}
    for key, record in entries.items():
        if key[0] == "o" and key[1:].isdigit():
            kept[int(key[1:])] = _blank(int(key[1:]), record)
    machine.objects.update(kept.items())
    machine.self_object = cast(Any, machine.code.cls).__new__(machine.code.cls)

    def fill(cells: dict[str, Any]) -> None:
        cast("dict[str, Any]", machine.self_object.__dict__).update(cells.get("self", {}))
        _fill_calls(machine, entries)
        for id, thing in kept.items():
            _fill(thing, entries[f"o{id}"], kept, cells)
        root = kept[meta["root"]]
        assert isinstance(root, Task)
        machine.root = root
        for key, record in entries.items():
            if key[0] == "b" and key[1:].isdigit():
                _fill_branch(machine, int(key[1:]), record, kept, cells)
        for call in machine.calls.values():
            if call.due_at is not None:
                machine.timer(call.due_at, "retry", call, call.attempt, serial=call.id)
        for thing in kept.values():
            if isinstance(thing, Timeout) and thing.state == "entered" and thing.deadline is not None:
                machine.timer(thing.deadline, "timeout", thing, thing.deadline, serial=thing.serial)

    return fill


def _blank(id: int, record: Mapping[str, Any]) -> Tracked:
    match record["kind"]:
        case "task":
            return Task(id, record["name"])
        case "gather":
            return Gathered(id, [], record["keep"])
        case "shield":
            return Shielded(id, None)
        case "child":
            return ChildHandle(id, record["instance"])
        case "timeout":
            return Timeout(id, record["deadline"])
        case "group":
            return TaskGroup(id)
        case "completed":
            return Completed(id, [])
        case other:
            raise DecodeError(f"the saved state holds an object of an unknown kind {str(other)[:40]!r}")


def _fill(thing: Tracked, record: Mapping[str, Any], kept: Mapping[int, Tracked], cells: Mapping[str, Any]) -> None:
    if isinstance(thing, Future):
        state = record["state"]
        thing.state = "done" if state == "error" else state
        if state == "error":
            thing.error = cells[f"o{thing.id}.value"]
        elif state == "done":
            thing.result_value = cells[f"o{thing.id}.value"]
        for kind, target in record.get("tell", ()):
            thing.callbacks.append((kind, target if kind == "wake" else kept[target]))
    match thing:
        case Task():
            thing.cancels = record.get("cancels", 0)
        case Gathered():
            thing.children = [cast(Future, kept[id]) for id in record["children"]]
            thing.missing = record["missing"]
            thing.cancel_asked = record["cancel"]
        case Shielded():
            thing.inner = None if record["inner"] is None else cast(Future, kept[record["inner"]])
        case Timeout():
            thing.state, thing.branch_id = record["state"], record["branch"]
            thing.cancelling, thing.delay = record["cancelling"], record["delay"]
            thing.serial = record["serial"]
        case TaskGroup():
            thing.state, thing.branch_id = record["state"], record["branch"]
            thing.tasks = {id: cast(Task, kept[id]) for id in record["tasks"]}
            thing.aborting, thing.parent_cancelled = record["aborting"], record["parent"]
            thing.errors = [decode(tree) for tree in record["errors"]]
            thing.error = None if record["error"] is None else decode(record["error"])
        case Completed():
            thing.waiting = set(record["waiting"])
            thing.done = deque(cast(Future, kept[id]) for id in record["done"])
            thing.left = record["left"]
        case _:
            pass


def _fill_calls(machine: Machine, entries: Mapping[str, Any]) -> None:
    for key, record in entries.items():
        if key[0] == "c" and key[1:].isdigit():
            options = record.get("options")
            call = PendingCall(
                int(key[1:]),
                record["name"],
                record["args"],
                DEFAULT_OPTIONS if options is None else CallOptions(*options),
                attempt=record.get("attempt", 1),
                due_at=record.get("due"),
                branch=record["branch"],
                child=record.get("child"),
                spilled=record.get("spilled", False),
                given_up=record.get("given_up", False),
            )
            machine.calls[call.id] = call
        elif key[0] == "q" and key[1:].isdigit():
            name, tree = record
            machine.mailbox[int(key[1:])] = (name, tree)
    machine.mailbox = dict(sorted(machine.mailbox.items()))


def _fill_branch(
    machine: Machine, id: int, record: Mapping[str, Any], kept: Mapping[int, Tracked], cells: Mapping[str, Any]
) -> None:
    task = kept[id]
    assert isinstance(task, Task)
    task.branch = branch = Branch(task, None)
    branch.must_cancel = record.get("cancel", False)
    places: list[tuple[int, str, int]] = record["at"]
    for frame_id, function, block in places:
        code: LinkedFunction = machine.code.functions[function]
        point: AwaitPoint | None = code.awaits[block]
        if point is None:
            raise DecodeError(f"the saved state stands in {function} where nothing is awaited")
        bound = {name: cells[cell] for name in point.keep if (cell := f"{frame_id}.{name}") in cells}
        frame = Frame(frame_id, code, bound)
        frame.block = block
        branch.frames.append(frame)
    machine.branches[id] = branch
    wait = record["wait"]
    branch.wait = _wait(machine, branch, wait, kept, cells)


def _wait(
    machine: Machine, branch: Branch, record: list[Any], kept: Mapping[int, Tracked], cells: Mapping[str, Any]
) -> Wait:
    wait: Wait
    match record:
        case ["call", id]:
            return OnCall(machine.calls[id])
        case ["time", at, serial]:
            wait = OnTime(at, cells.get(f"b{branch.task.id}.value"))
            wait.serial = machine.timer(at, "sleep", branch, wait, serial=serial)
            return wait
        case ["future", id]:
            return OnFuture(cast(Future, kept[id]))
        case ["set", ids, mode, at, serial]:
            wait = OnSet([cast(Future, kept[id]) for id in ids], mode, at)
            wait.told = {future.id for future in wait.futures if future.done()}
            if at is not None:
                wait.serial = machine.timer(at, "set", branch, wait, serial=serial)
            return wait
        case ["limited", id, at, serial, state]:
            wait = OnLimited(cast(Future, kept[id]), at, state)
            if at is not None:
                wait.serial = machine.timer(at, "limit", branch, wait, serial=serial)
            return wait
        case ["message", key, at, serial]:
            wait = OnMessage(key, at)
            if at is not None:
                wait.serial = machine.timer(at, "message", branch, wait, serial=serial)
            return wait
        case ["next", id, boxed]:
            return OnNext(cast(Completed, kept[id]), boxed)
        case ["group", id, cancelled]:
            return OnGroup(cast(TaskGroup, kept[id]), asyncio.CancelledError() if cancelled else None)
        case _:
            raise DecodeError("the saved state holds a wait of an unknown kind")
