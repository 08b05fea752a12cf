"""Turns: let an instance go on, and decide what of that is to be written and what is to begin. Does no I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from holdfast.codec import describe_error, dumps, encode_exception
from holdfast.engine import Change, Command, DropCall, Ended, GiveUpChild, Note, PendingCall, Send, StartCall
from holdfast.errors import EncodeError, HoldfastError
from holdfast.ids import InstanceId, ProgramHash
from holdfast.model.instance import (
    Commit,
    Delivery,
    DeliveryKind,
    Ending,
    Park,
    Release,
    SpilledCall,
    Start,
    Status,
    Step,
)
from holdfast.runtime import joining
from holdfast.runtime.resident import Resident, start_row

EVICT_AFTER = 1.0
"""An instance that waits longer than so many seconds leaves memory."""


Begun = StartCall | DropCall | GiveUpChild
"""What of a turn the worker does itself, in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a turn needs to know of the worker."""

    history_steps: int
    """How many steps of history are kept."""
    spills: Callable[[PendingCall, int], bool]
    """Whether a call goes to other workers, when this turn has begun so many here already."""
    program_of: Callable[[str], ProgramHash]
    """The program with which a child of that workflow begins. Raises HoldfastError."""


class _Asked:
    """What the machine has asked for in a turn, sorted by what becomes of it."""

    __slots__ = ("commands", "deliveries", "notes", "recalled", "spilled", "starts")

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.commands: list[Begun] = []
        """What this worker does itself, once the turn is written."""
        self.starts: list[Start] = []
        self.deliveries: list[Delivery] = []
        self.spilled: list[SpilledCall] = []
        self.recalled: list[str] = []


REFUSALS = 100
"""Awaits in one turn at which something could not be saved, after which the instance fails."""


def take_turn(resident: Resident, now: float, terms: Terms) -> tuple[Commit | None, Sequence[Begun]]:
    """Let it take its turn: what is to be written, and the commands that wait for that.

    Without a commit nothing is to be written, and the commands, if there are any, begin at once.
    """
    machine = resident.machine
    machine.turn(now)
    asked = _Asked()
    _collect(resident, asked, now, terms)
    first_turn, resident.begun = not resident.begun, True
    if first_turn and _begins_at_once(resident, asked):
        # A beginning that follows from row 0 alone needs no row of its own: after a crash it is the same again.
        machine.notes = asked.notes
        return None, asked.commands
    close: Ending | Park | Release | None = None
    steps: list[Step] = []
    trim: int | None = None
    if machine.ended is None and (change := _change(resident, asked, now, terms)) is not None:
        if change or asked.notes:
            steps.append(resident.step(change, asked.notes, now))
            if len(resident.fulls) > 1:
                trim = resident.trim_below(terms.history_steps)
        if not asked.commands:
            close = _release(resident, now)
    if machine.ended is not None:
        close = _end(resident, machine.ended, asked, now)
        steps.append(resident.step(_NOTHING, asked.notes, now))
    if resident.parking is not None and not isinstance(close, Ending):
        close = Park(reason=resident.parking)
    consumed, resident.consumed = resident.consumed, []
    if not (steps or close or consumed):
        return None, ()
    commit = Commit(
        resident.id,
        steps,
        close,
        consumed,
        asked.starts,
        asked.deliveries,
        asked.spilled,
        asked.recalled,
        trim_below=trim,
        claim=resident.claimed.claim,
    )
    return commit, asked.commands


def _change(resident: Resident, asked: _Asked, now: float, terms: Terms) -> Change | None:
    """What is to be saved; None if the machine has ended.

    A variable that cannot be saved is an error at the await that needs it afterwards, so that handlers run and clean up.
    """
    machine = resident.machine
    refusals = 0
    while machine.ended is None:
        try:
            return resident.saver.change()
        except EncodeError as error:
            branch = resident.saver.refused_in
            refusals += 1
            if branch is None or refusals > REFUSALS or not machine.refuse(branch, error):
                machine.ended = Ended("failed", encode_exception(error))
                break
        resident.renew()
        machine.turn(now)
        _collect(resident, asked, now, terms)
        asked.spilled = [call for call in asked.spilled if call.id not in asked.recalled]
    return None


def _collect(resident: Resident, asked: _Asked, now: float, terms: Terms) -> None:
    """What the machine asks for, also in the turns it takes because of what became of that."""
    machine = resident.machine
    while True:
        if machine.notes:
            asked.notes += machine.notes
            machine.notes = []
        commands: Sequence[Command] = ()
        if machine.commands:
            commands, machine.commands = machine.commands, []
        for command in commands:
            if isinstance(command, StartCall):
                # Nearly all are; a match would look at each in turn.
                if command.call.id in machine.calls:
                    _start(resident, command, asked, now, terms)
                continue
            match command:
                case DropCall(call):
                    _drop(resident, command, asked, now)
                case GiveUpChild(call):
                    asked.notes.append(("given up", {"call": call.id, "name": call.name}))
                    asked.deliveries.append(_cancel(resident, call, now))
                    asked.commands.append(command)
                case Send():
                    asked.deliveries.append(_sent(resident, command, now))
                case _:
                    assert_never(command)
        if not machine.ready:
            if machine.notes:
                asked.notes += machine.notes
                machine.notes = []
            return
        # A child that could not be started has failed its call at once.
        machine.turn(now)


def _start(resident: Resident, command: StartCall, asked: _Asked, now: float, terms: Terms) -> None:
    """A call is made: here, by another worker, or as an instance of its own."""
    call = command.call
    if call.child is not None:
        try:
            start = _child(resident, call, terms.program_of(call.name), now)
        except HoldfastError as error:
            # The parent hears of it where it awaits the child.
            resident.machine.call_failed(call.id, error, encode_exception(error))
            return
        asked.notes.append(("child", {"call": call.id, "name": call.name, "instance": start.id}))
        asked.starts.append(start)
        if joining.may_be_anothers(resident.id, call):
            resident.children.unknown.add(call.id)
        return
    asked.notes.append(("call", {"call": call.id, "name": call.name, "args": call.payload, "attempt": call.attempt}))
    call.spilled = terms.spills(call, len(asked.commands))
    if call.spilled:
        resident.machine.touched_calls.add(call.id)
        asked.spilled.append(_spilled(resident, call, now))
    else:
        asked.commands.append(command)


def _drop(resident: Resident, command: DropCall, asked: _Asked, now: float) -> None:
    """A call is given up, wherever it runs."""
    call = command.call
    asked.notes.append(("dropped", {"call": call.id, "name": call.name}))
    if call.child is not None:
        asked.deliveries.append(_cancel(resident, call, now))
    elif call.spilled:
        asked.recalled.append(_attempt_id(resident, call))
    else:
        asked.commands.append(command)


def _begins_at_once(resident: Resident, asked: _Asked) -> bool:
    machine = resident.machine
    if not machine.code.prompt or machine.ended is not None or resident.consumed:
        return False
    if asked.starts or asked.spilled or asked.deliveries:
        return False
    return len(asked.commands) == 1 and isinstance(asked.commands[0], StartCall)


def _release(resident: Resident, now: float) -> Release | None:
    """Letting go of an instance that only waits, for longer than a moment."""
    if resident.attempts:
        return None
    machine, children = resident.machine, resident.children
    timer = machine.next_timer
    if timer is not None and timer - now < EVICT_AFTER:
        return None
    if children.unknown:
        return None
    # A worker that drains begins no calls: what has a call to make is left to the next owner as it is, to go on at once.
    if any(call.child is None and not call.spilled and call.due_at is None for call in machine.calls.values()):
        return None
    if children.joined and children.joined & machine.calls.keys():
        timer = min(timer or math.inf, now + joining.LOOK_AFTER)
    return Release(due_at=timer)


def _end(resident: Resident, ended: Ended, asked: _Asked, now: float) -> Ending:
    """It has ended: its parent hears of it, and of what it asked for in this turn, only what nobody waits for remains."""
    # Children that somebody waited for are pointless now; those that were only started are not.
    awaited = [call for call in resident.machine.calls.values() if call.child is not None and call.branch >= 0]
    if awaited:
        pointless = {call.child_id for call in awaited}
        asked.starts = [start for start in asked.starts if start.id not in pointless]
    asked.spilled, asked.commands = [], []
    status = _STATUSES[ended.kind]
    failure = {"error": describe_error(ended.tree)} if status is Status.FAILED else {}
    asked.notes.append(("ended", {"status": ended.kind, **failure}))
    claimed = resident.claimed
    asked.deliveries += news_of_end(resident.id, claimed.parent, claimed.parent_call, ended, now)
    asked.deliveries += [_cancel(resident, call, now) for call in awaited]
    return Ending(status=status, payload=dumps(ended.tree))


_NOTHING = Change()
_STATUSES = {"done": Status.DONE, "failed": Status.FAILED, "cancelled": Status.CANCELLED}


def _child(resident: Resident, call: PendingCall, program: ProgramHash, now: float) -> Start:
    """A child's start; its id follows from the parent and the call, so that asking twice starts one."""
    options = call.child
    assert options is not None
    return Start(
        id=InstanceId(call.child_id),
        name=call.name,
        program=program,
        input=start_row(call.payload),
        created_at=now,
        due_at=now + float(options.get("delay", 0.0)),
        queue=options.get("queue", resident.claimed.queue),
        priority=options.get("priority", 0),
        parent=resident.id,
        parent_call=str(call.id),
        tags=options.get("tags", ""),
    )


def news_of_end(
    id: InstanceId, parent: InstanceId | None, parent_call: str | None, ended: Ended, now: float
) -> list[Delivery]:
    """What the parent hears of an instance that has ended; nothing where nobody waits for that."""
    if parent is None or parent_call is None:
        return []
    result = {"value" if ended.kind == "done" else "error": ended.tree, "asked": ended.asked}
    return [
        Delivery(
            id=f"{id}:end",
            instance=parent,
            kind=DeliveryKind.RESULT,
            key=parent_call,
            payload=dumps(result),
            at=now,
        )
    ]


def _sent(resident: Resident, command: Send, now: float) -> Delivery:
    resident.sends += 1
    return Delivery(
        id=f"{resident.id}:s{resident.seq}:{resident.sends}",
        instance=InstanceId(command.instance),
        kind=DeliveryKind.CANCEL if command.key is None else DeliveryKind.MESSAGE,
        key=command.key or "",
        payload=dumps(command.payload),
        at=now,
    )


def _cancel(resident: Resident, call: PendingCall, now: float) -> Delivery:
    return giving_up(resident.id, call.id, call.child_id, now)


def giving_up(id: InstanceId, call: int, child: str, now: float) -> Delivery:
    """What tells a child that this call of it is given up."""
    return Delivery(
        id=f"{id}:{call}:cancel",
        instance=InstanceId(child),
        kind=DeliveryKind.CANCEL,
        key=f"{id}:{call}",
        payload=b"null",
        at=now,
    )


def _spilled(resident: Resident, call: PendingCall, now: float) -> SpilledCall:
    return SpilledCall(
        id=_attempt_id(resident, call),
        instance=resident.id,
        call=str(call.id),
        name=call.name,
        queue=call.options.queue or resident.claimed.queue,
        payload=dumps({"args": call.payload, "timeout": call.options.timeout}),
        due_at=now,
        attempt=call.attempt,
    )


def _attempt_id(resident: Resident, call: PendingCall) -> str:
    return f"{resident.id}:{call.id}:{call.attempt}"
