"""The machine: advances one instance's state. Does no I/O: events and the time come in, commands go out.

Turns are taken in the order in which asyncio's event loop would take them, so that concurrent branches interleave
as they do in Python.
"""

# pyright: reportPrivateUsage=false
# The tables at the end name the machine's own methods.

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from holdfast.codec import encode_exception, encode_result
from holdfast.engine.branch import NOWHERE, Branch, Frame, OnCall, OnFuture, OnGroup, OnLimited, OnMessage
from holdfast.engine.calling import Calling
from holdfast.engine.events import Command, Ended, Note, PendingCall, Send
from holdfast.engine.leaving import leaving
from holdfast.engine.link import AWAITS, LinkedProgram
from holdfast.engine.objects import Objects
from holdfast.engine.raising import as_it_leaves, at_line, chain, handled_at, handling, innermost, strip
from holdfast.engine.timing import Timing
from holdfast.engine.values import (
    CURRENT,
    Exit,
    Future,
    Gathered,
    NextDone,
    Ready,
    Shielded,
    Sleep,
    Sub,
    Task,
    Tracked,
    WaitFor,
    WaitSet,
)
from holdfast.engine.waiting import Waiting
from holdfast.model.call import Call, CannotGoOn, Child, Receive

DEEPEST = 1000
"""Calls inside calls within one branch, at most: as many as Python allows by default."""


class Machine(Calling, Timing, Waiting):
    """One instance in memory.

    `commands` and `notes` collect what the last turn asked for; `ended` is set once the instance has ended.
    """

    def __init__(self, code: LinkedProgram, *, now: float) -> None:
        self.code = code
        self.now = now
        self.next_id = 1
        self.branches: dict[int, Branch] = {}
        self.objects = Objects()
        self.calls: dict[int, PendingCall] = {}
        self.touched_calls: set[int] = set()
        self.mailbox: dict[int, tuple[str, Any]] = {}
        self.self_object: Any = None
        self.instance = ""
        """The id of the instance."""
        self.root: Task | None = None
        self.ended: Ended | None = None
        self.cancel_asked = False
        self.pinned = False
        """Whether its program is an earlier one than that of the running code."""
        self.stopped: BaseException | None = None
        """Why it cannot go on here, also where a block has caught that."""

        self.ready: deque[tuple[Any, ...]] = deque()
        self.timers: list[tuple[float, int, str, Any, Any]] = []
        self.commands: list[Command] = []
        self.notes: list[Note] = []
        self.touched: dict[int, Tracked] = {}
        self.touched_branches: dict[int, Branch] = {}
        self.popped: list[Frame] = []
        """Frames that ended since the last save."""
        self.hops = 0

    # --- beginning and turning

    def begin(self, self_object: Any, bound: dict[str, Any]) -> None:
        """Start the entry function with these arguments."""
        self.self_object = self_object
        entry = self.code.program.entry
        self.root = self.spawn(Sub(entry, bound), name="main")

    def turn(self, now: float) -> None:
        """Let time come to `now` and run until every branch waits for something outside."""
        if now > self.now:
            self.now = now
        self.hops = 0
        root, ready, turns, timers = self.root, self.ready, self._turns, self.timers
        assert root is not None
        token = CURRENT.set(self)
        try:
            while self.ended is None:
                if timers:
                    self._fire()
                # As in asyncio, what gets ready in this round has its turn in the next one, before timers due by then.
                for _ in range(len(ready)):
                    turn = ready.popleft()
                    turns[turn[0]](self, *turn[1:])
                if ready:
                    continue
                if root.state != "pending":
                    self._settle(root)
                if not ready and (not timers or (at := self.next_timer) is None or at > self.now):
                    break
        finally:
            CURRENT.reset(token)
        if self.stopped is not None:
            raise self.stopped

    def fresh(self) -> int:
        """An id that was never used in this instance."""
        number = self.next_id
        self.next_id += 1
        return number

    # --- events

    def message(self, key: str, tree: Any) -> None:
        """A message came in."""
        self.mailbox[self.fresh()] = (key, tree)
        self.notes.append(("message", {"key": key, "value": tree}))
        for branch in list(self.branches.values()):
            if isinstance(branch.wait, OnMessage) and branch.wait.key == key:
                self._take_message(branch)
                break

    def cancel(self) -> None:
        """Somebody asked the instance to end. While it handles an earlier request, as by cleaning up, this one is not heard."""
        if self.ended is not None or (self.cancel_asked and self._heeds_cancel()):
            return
        self.cancel_asked = True
        self.notes.append(("cancel", {}))
        if self.root is not None and not self.root.done():
            self.cancel_future(self.root)

    def _heeds_cancel(self) -> bool:
        """Whether the main branch is on its way out of a cancellation, or has yet to hear of it."""
        branch = None if self.root is None else self.root.branch
        if branch is None or branch.must_cancel:
            return True
        match branch.wait:
            case None:
                return True
            case OnCall(call=call) if call.given_up:
                return True
            case OnFuture(future=future) | OnLimited(future=future) if _told_to_end(future):
                return True
            case OnGroup(cancelled=cancelled) if cancelled is not None:
                return True
            case _:
                return isinstance(handled_at(branch), asyncio.CancelledError)

    # --- what workflow code does at once

    def spawn(self, item: Any, *, name: str | None = None) -> Task:
        """Run `item` in a branch of its own, from the next turn on."""
        task = Task(self.fresh(), name)
        self.objects[task.id] = task
        task.branch = branch = Branch(task, item)
        self.branches[task.id] = branch
        self.touch(task)
        self.ready.append(("begin", branch))
        return task

    def future_of(self, item: Any, *, name: str | None = None) -> Future:
        """`item` itself if it is a future, else a task that runs it."""
        if isinstance(item, Future):
            return item
        if not isinstance(item, _AWAITABLE):
            raise TypeError(f"An asyncio.Future, a coroutine or an awaitable is required, not {item!r}")
        return self.spawn(item, name=name)

    def track(self, thing: Tracked) -> None:
        """Remember a new object of the state."""
        self.objects[thing.id] = thing
        self.touched[thing.id] = thing

    def touch(self, thing: Tracked) -> None:
        """An object of the state has changed."""
        self.touched[thing.id] = thing

    # --- running a branch

    def _begin(self, branch: Branch) -> None:
        item, branch.item = branch.item, None
        if branch.must_cancel:
            branch.must_cancel = False
            self._finish(branch, None, asyncio.CancelledError())
            return
        try:
            goes_on = self._wait(branch, item)
        except BaseException as error:  # noqa: BLE001 - what cannot be awaited fails its task
            strip(error)
            self._finish(branch, None, error)
            return
        if goes_on:
            branch.context.run(self._execute, branch)

    def _step(self, branch: Branch, value: Any, error: BaseException | None, raised: bool = False) -> None:
        """Go on with a branch whose wait has ended; `raised` says that the error comes out of a call, not a future."""
        if branch.task.state != "pending":
            return
        branch.wait = None
        if branch.must_cancel:
            branch.must_cancel = False
            if not isinstance(error, asyncio.CancelledError):
                value, error, raised = None, asyncio.CancelledError(), False
        if error is None:
            branch.floor = 0
            if self._resume(branch, value):
                branch.context.run(self._execute, branch)
            return
        if branch.frames:
            branch.floor = 0 if raised else len(branch.frames) - 1
            late = type(error) is TimeoutError and isinstance(error.__context__, asyncio.CancelledError)
            chain(error.__context__ if late else error, handled_at(branch))
        if self._throw(branch, error):
            branch.context.run(self._execute, branch)

    def _fail(self, branch: Branch, error: BaseException) -> None:
        """Go on with a branch whose call has failed. What was raised first there met what is being handled here."""
        if branch.task.state != "pending":
            return
        first = innermost(error)
        if first is error or branch.must_cancel or not branch.frames:
            self._step(branch, None, error, True)
            return
        branch.wait, branch.floor = None, 0
        chain(first, handled_at(branch))
        if self._throw(branch, error):
            branch.context.run(self._execute, branch)

    def _resume(self, branch: Branch, value: Any) -> bool:
        """Give `value` to the awaiting frame; False if there is none, and the branch has ended with it."""
        if not branch.frames:
            self._finish(branch, value, None)
            return False
        frame = branch.frames[-1]
        point = frame.code.awaits[frame.block]
        assert point is not None
        if point.into is not None:
            frame.vars[point.into] = value
            frame.dirty.add(point.into)
        frame.block = point.to
        return True

    def _throw(self, branch: Branch, error: BaseException) -> bool:
        """Raise `error` where the branch stands; False if nothing there catches it, and the branch has ended."""
        while branch.frames:
            frame = branch.frames[-1]
            code = frame.code
            handler = code.handlers[frame.block]
            if handler is not None:
                frame.block = handler
                name = code.catches[handler]
                assert name is not None
                frame.vars[name] = error
                frame.dirty.add(name)
                return True
            below = branch.floor > 0 and branch.floor == len(branch.frames) - 1
            self._pop(branch)
            if isinstance(error, StopIteration):
                error = as_it_leaves(error)
            if below:
                # It was thrown into the function that waited, and is thrown into the one that waits for that.
                chain(error, handled_at(branch))
        self._finish(branch, None, error)
        return False

    def _execute(self, branch: Branch) -> None:
        """Run blocks, in the branch's own context, until it waits or ends."""
        CURRENT.set(self)
        self.touched_branches[branch.task.id] = branch
        self.running = branch
        while True:
            frame = branch.frames[-1]
            code, vars, block, dirty = frame.code, frame.vars, frame.block, frame.dirty
            blocks, contexts, touches = code.blocks, code.contexts, code.touches
            error: BaseException | None = None
            onward: int | None = None
            outer = handled_at(branch, above=1) if len(branch.frames) > 1 else None
            try:
                while True:
                    dirty |= touches[block]
                    context = contexts[block]
                    handled = None if context is None else vars.get(context)
                    if handled is None:
                        handled = outer
                    run = blocks[block]
                    onward = run(vars) if handled is None else handling(handled, run, vars)
                    if onward is None or onward < 0:
                        break
                    block = onward
            except CannotGoOn:
                raise
            except BaseException as caught:  # noqa: BLE001 - this is where user code runs
                error = caught
            frame.block = block
            if error is None and (raised := code.raises[block]) is not None:
                error = vars[raised]
            if error is not None:
                strip(error)
                if self._throw(branch, error):
                    continue
                return
            value, vars.value = vars.value, None
            if onward == AWAITS:
                point = code.awaits[block]
                assert point is not None
                keep = point.keep
                if len(vars) > len(keep):
                    for name in [name for name in vars if name not in keep]:
                        del vars[name]
                goes_on = False
                try:
                    goes_on = self._wait(branch, value)
                except BaseException as caught:  # noqa: BLE001 - what cannot be awaited fails at the await
                    error = caught
                    strip(error)
                if error is not None:
                    at_line(error, frame, point.line)
                    chain(error, handled_at(branch))
                    if self._throw(branch, error):
                        continue
                    return
                if not goes_on:
                    return
                continue
            self._pop(branch)
            if not self._resume(branch, value):
                return

    def _pop(self, branch: Branch) -> None:
        self.popped.append(branch.frames.pop())
        branch.floor = min(branch.floor, len(branch.frames) - 1)

    def _finish(self, branch: Branch, value: Any, error: BaseException | None) -> None:
        """The branch has ended."""
        task = branch.task
        self.popped += branch.frames
        branch.frames.clear()
        branch.wait = None
        branch.context = NOWHERE
        del self.branches[task.id]
        task.branch = None
        self.touched_branches[task.id] = branch
        self._complete(task, value, error)

    def _complete(self, future: Future, value: Any, error: BaseException | None) -> None:
        """A future has its outcome: whoever waits is told in the next turns."""
        if isinstance(error, asyncio.CancelledError) and not isinstance(future, Gathered):
            future.state = "cancelled"
        else:
            future.state, future.result_value, future.error = "done", value, error
        self.touch(future)
        for callback in future.callbacks:
            self.ready.append(("told", callback, future))
        future.callbacks = []

    def _settle(self, root: Task) -> None:
        """The main branch has ended: the others are cancelled, and the instance ends with the last of them."""
        if self.branches:
            for branch in list(self.branches.values()):
                if branch.task.cancels == 0:
                    self.cancel_future(branch.task)
            return
        if self.ready:
            return
        asked = self.cancel_asked
        if root.state == "cancelled":
            self.ended = Ended("cancelled", encode_exception(asyncio.CancelledError()), asked)
        elif root.error is not None:
            self.ended = Ended("failed", encode_exception(root.error), asked)
        else:
            try:
                name = self.code.program.name
                self.ended = Ended("done", leaving(encode_result, root.result_value, "workflow", name), asked)
            except Exception as error:  # noqa: BLE001 - a result that can't be saved is the workflow's failure
                self.ended = Ended("failed", encode_exception(error), asked)

    # --- waiting

    def _wait(self, branch: Branch, item: Any) -> bool:
        """Let the branch wait for `item`; True if it may go on at once."""
        cls = _kind_of(item)
        begin = _WAITS.get(cls)
        if begin is None:
            for kind, candidate in list(_WAITS.items()):
                if isinstance(item, kind):
                    begin = _WAITS[cls] = candidate
                    break
            else:
                named = getattr(item, "__qualname__", "it")
                raise TypeError(
                    f"object {type(item).__name__} can't be used in 'await' expression of a workflow: {named} is neither an "
                    "action nor another durable call; call it inside an @action, and await that (HF004)"
                )
        return begin(self, branch, item)

    def _wait_sub(self, branch: Branch, item: Sub) -> bool:
        item.spend()
        if len(branch.frames) >= DEEPEST:
            raise RecursionError("maximum recursion depth exceeded")
        frame = Frame(self.fresh(), self.code.functions[item.function], item.bound)
        branch.frames.append(frame)
        return True

    def _wait_future(self, branch: Branch, item: Future) -> bool:
        if item.done():
            if item.state == "cancelled":
                raise asyncio.CancelledError
            if item.error is not None:
                raise item.error
            return self._resume(branch, item.result_value)
        if item is branch.task:
            raise RuntimeError(f"Task cannot await on itself: {item!r}")
        branch.wait = OnFuture(item)
        self.touched_branches[branch.task.id] = branch
        item.callbacks.append(("wake", branch.task.id))
        self.touch(item)
        return False

    def _wait_ready(self, branch: Branch, item: Ready) -> bool:
        return self._resume(branch, item.value)

    def _wait_send(self, branch: Branch, item: Send) -> bool:
        self.commands.append(item)
        return self._resume(branch, None)

    _turns: ClassVar[dict[str, Callable[..., None]]] = {}


def _told_to_end(future: Future) -> bool:
    """Whether a future that somebody waits for was cancelled, and is on its way out."""
    match future:
        case Task(cancels=cancels):
            return cancels > 0
        case Gathered(cancel_asked=asked):
            return asked
        case _:
            return False


_kind_of: Callable[[object], type[Any]] = type

_AWAITABLE = (Call, Sub, Sleep, Future, WaitFor, WaitSet, Exit, NextDone, Ready, Child, Receive, Send)

_WAITS: dict[type, Callable[[Any, Branch, Any], bool]] = {
    Call: Machine._wait_call,
    Sub: Machine._wait_sub,
    Sleep: Machine._wait_sleep,
    Future: Machine._wait_future,
    Task: Machine._wait_future,
    Gathered: Machine._wait_future,
    Shielded: Machine._wait_future,
    Ready: Machine._wait_ready,
    Child: Machine._wait_child,
    Send: Machine._wait_send,
    Receive: Machine._wait_receive,
    WaitFor: Machine._wait_limited,
    WaitSet: Machine._wait_set,
    NextDone: Machine._wait_next,
    Exit: Machine._wait_exit,
}

Machine._turns = {
    "begin": Machine._begin,
    "step": Machine._step,
    "fail": Machine._fail,
    "told": Machine._told,
    "slept": Machine._slept,
    "set_over": Machine._set_over,
    "timeout": Machine._timed_out,
    "set": Machine._set_late,
    "limit": Machine._limit_late,
    "message": Machine._message_late,
    "wake_group": Machine._wake_group,
    "abort_group": Machine._abort_group,
    "cancel_limited": Machine._cancel_limited,
}
