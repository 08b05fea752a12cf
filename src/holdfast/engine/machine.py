"""The machine: advances one instance's state. Does no I/O: events and the time come in, commands go out.

Turns are taken in the order in which asyncio's event loop would take them, so that concurrent branches interleave
as they do in Python.
"""

# pyright: reportPrivateUsage=false
# The tables at the end name the machine's own methods.

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, cast

from holdfast.codec import encode, encode_exception, lineage
from holdfast.engine.branch import Branch, Frame, OnCall, OnFuture, OnMessage, OnTime
from holdfast.engine.events import Command, DropCall, Ended, Note, PendingCall, Send, StartCall
from holdfast.engine.link import AWAITS, LinkedProgram
from holdfast.engine.objects import Objects
from holdfast.engine.values import (
    CURRENT,
    ChildHandle,
    Exit,
    Future,
    Gathered,
    NextDone,
    Ready,
    Shielded,
    Sleep,
    StartedChild,
    Sub,
    Task,
    Tracked,
    WaitFor,
    WaitSet,
)
from holdfast.engine.waiting import Waiting
from holdfast.engine.waiting import __file__ as _waiting_file
from holdfast.errors import ActionTimeout
from holdfast.model.call import Call, Child, Receive
from holdfast.retry import ONE_ATTEMPT, class_lineage, policy_from_tree

FAR = 1e11
"""A moment in the year 5138, which stands for never."""
HOPS = 10_000
"""Turns in a row without any wait, after which `sleep(0)` becomes a real wait, so that a spinning loop is saved too."""

PAUSE = 0.001
"""How long that wait is, in seconds."""


class Machine(Waiting):
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

        self.ready: deque[tuple[Any, ...]] = deque()
        self.timers: list[tuple[float, int, str, Any, Any]] = []
        self.commands: list[Command] = []
        self.notes: list[Note] = []
        self.touched: dict[int, Tracked] = {}
        self.touched_branches: dict[int, Branch] = {}
        self.popped: list[int] = []
        """Ids of frames that ended since the last save."""
        self.hops = 0

    # --- beginning and turning

    def begin(self, self_object: Any, bound: dict[str, Any]) -> None:
        """Start the entry function with these arguments."""
        self.self_object = self_object
        entry = self.code.program.entry
        self.root = self.spawn(Sub(entry, bound), name="main")

    def turn(self, now: float) -> None:
        """Let time come to `now` and run until every branch waits for something outside."""
        self.now = max(self.now, now)
        self.hops = 0
        root, ready, turns = self.root, self.ready, self._turns
        assert root is not None
        token = CURRENT.set(self)
        try:
            while self.ended is None:
                if self.timers:
                    self._fire()
                # As in asyncio, what gets ready in this round has its turn in the next one, before timers due by then.
                for _ in range(len(ready)):
                    turn = ready.popleft()
                    turns[turn[0]](self, *turn[1:])
                if ready:
                    continue
                if root.state != "pending":
                    self._settle(root)
                if not ready and (not self.timers or (at := self.next_timer) is None or at > self.now):
                    break
        finally:
            CURRENT.reset(token)

    @property
    def next_timer(self) -> float | None:
        """The moment of the earliest timer (Unix seconds)."""
        while self.timers and not self._valid(self.timers[0]):
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else None

    def moment(self, seconds: float, *, past: bool = False) -> float:
        """The moment so many seconds from now; one without end is as far as can be written down."""
        if seconds != seconds:
            raise ValueError("Invalid delay: NaN (not a number)")
        return min(self.now + (seconds if past else max(seconds, 0.0)), FAR)

    def fresh(self) -> int:
        """An id that was never used in this instance."""
        number = self.next_id
        self.next_id += 1
        return number

    # --- events

    def call_done(self, id: int, tree: Any, value: Any) -> None:
        """A call gave `value`, encoded as `tree`."""
        call = self.calls.pop(id, None)
        if call is None:
            return
        self.notes.append(("done", {"call": id, "name": call.name, "value": tree}))
        self._answer(call, value, None)

    def call_failed(self, id: int, error: BaseException, tree: Any, *, chance: float = 0.0) -> None:
        """An attempt of a call ended with `error`; it is repeated or given up as its policy says."""
        call = self.calls.get(id)
        if call is None:
            return
        timed_out = isinstance(error, ActionTimeout)
        policy = ONE_ATTEMPT if call.options.retry is None else policy_from_tree(call.options.retry)
        classes = class_lineage(type(error)) or lineage(tree)
        delay = None
        if call.child is None and not isinstance(error, asyncio.CancelledError):
            delay = policy.next_delay(call.attempt, lineage=classes, timed_out=timed_out, chance=chance)
        fields: dict[str, Any] = {"call": id, "name": call.name, "attempt": call.attempt, "error": tree}
        if delay is None:
            del self.calls[id]
            self.notes.append(("failed", fields))
            self._answer(call, None, error)
            return
        call.attempt += 1
        call.due_at = self.now + delay
        self.notes.append(("retry", {**fields, "at": call.due_at}))
        self.touched_calls.add(id)
        self.timer(call.due_at, "retry", call, call.attempt)

    def message(self, key: str, tree: Any) -> None:
        """A message came in."""
        self.mailbox[self.fresh()] = (key, tree)
        self.notes.append(("message", {"key": key, "value": tree}))
        for branch in list(self.branches.values()):
            if isinstance(branch.wait, OnMessage) and branch.wait.key == key:
                self._take_message(branch)
                break

    def cancel(self) -> None:
        """Somebody asked the instance to end."""
        if self.cancel_asked or self.ended is not None:
            return
        self.cancel_asked = True
        self.notes.append(("cancel", {}))
        if self.root is not None and not self.root.done():
            self.cancel_future(self.root)

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
            _strip(error)
            self._finish(branch, None, error)
            return
        if goes_on:
            self._execute(branch)

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
                self._execute(branch)
            return
        if branch.frames:
            branch.floor = 0 if raised else len(branch.frames) - 1
            late = type(error) is TimeoutError and isinstance(error.__context__, asyncio.CancelledError)
            _chain(error.__context__ if late else error, _handled(branch))
        if self._throw(branch, error):
            self._execute(branch)

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
            if below:
                # It was thrown into the function that waited, and is thrown into the one that waits for that.
                _chain(error, _handled(branch))
        self._finish(branch, None, error)
        return False

    def _execute(self, branch: Branch) -> None:
        """Run blocks until the branch waits or ends."""
        self.touched_branches[branch.task.id] = branch
        self.running = branch
        while True:
            frame = branch.frames[-1]
            code, vars, block, dirty = frame.code, frame.vars, frame.block, frame.dirty
            blocks, contexts, touches = code.blocks, code.contexts, code.touches
            error: BaseException | None = None
            onward: int | None = None
            outer = _handled(branch, above=1) if len(branch.frames) > 1 else None
            try:
                while True:
                    dirty |= touches[block]
                    context = contexts[block]
                    handled = None if context is None else vars.get(context)
                    if handled is None:
                        handled = outer
                    run = blocks[block]
                    onward = run(vars) if handled is None else _handling(handled, run, vars)
                    if onward is None or onward < 0:
                        break
                    block = onward
            except BaseException as caught:  # noqa: BLE001 - this is where user code runs
                error = caught
            frame.block = block
            if error is None and (raised := code.raises[block]) is not None:
                error = vars[raised]
            if error is not None:
                _strip(error)
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
                    _strip(error)
                if error is not None:
                    _at_line(error, frame, point.line)
                    _chain(error, _handled(branch))
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
        self.popped.append(branch.frames.pop().id)
        branch.floor = min(branch.floor, len(branch.frames) - 1)

    def _finish(self, branch: Branch, value: Any, error: BaseException | None) -> None:
        """The branch has ended."""
        task = branch.task
        for frame in branch.frames:
            self.popped.append(frame.id)
        branch.frames.clear()
        branch.wait = None
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
        if root.state == "cancelled":
            self.ended = Ended("cancelled", encode_exception(asyncio.CancelledError()))
        elif root.error is not None:
            self.ended = Ended("failed", encode_exception(root.error))
        else:
            try:
                self.ended = Ended("done", encode(root.result_value))
            except Exception as error:  # noqa: BLE001 - a result that can't be saved is the workflow's failure
                self.ended = Ended("failed", encode_exception(error))

    # --- waiting

    def _wait(self, branch: Branch, item: Any) -> bool:
        """Let the branch wait for `item`; True if it may go on at once."""
        cls = cast("type[Any]", type(item))
        begin = _WAITS.get(cls)
        if begin is None:
            for kind, candidate in list(_WAITS.items()):
                if isinstance(item, kind):
                    begin = _WAITS[cls] = candidate
                    break
            else:
                raise TypeError(f"object {type(item).__name__} can't be used in 'await' expression of a workflow")
        return begin(self, branch, item)

    def _wait_call(self, branch: Branch, item: Call) -> bool:
        call = PendingCall(
            self.fresh(),
            item.name,
            _payload(item.args, item.kwargs),
            item.options,
            branch=branch.task.id,
            arguments=(item.args, item.kwargs),
        )
        self.calls[call.id] = call
        self.touched_calls.add(call.id)
        branch.wait = OnCall(call)
        self.touched_branches[branch.task.id] = branch
        self.commands.append(StartCall(call))
        return False

    def _wait_sub(self, branch: Branch, item: Sub) -> bool:
        frame = Frame(self.fresh(), self.code.functions[item.function], item.bound)
        branch.frames.append(frame)
        return True

    def _wait_sleep(self, branch: Branch, item: Sleep) -> bool:
        if item.seconds <= 0 and self.hops < HOPS:
            self.hops += 1
            self.ready.append(("step", branch, item.result, None))
            return False
        at = self.moment(max(item.seconds, PAUSE if item.seconds <= 0 else 0.0))
        branch.wait = wait = OnTime(at, item.result)
        self.touched_branches[branch.task.id] = branch
        wait.serial = self.timer(at, "sleep", branch, wait)
        return False

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

    def _wait_child(self, branch: Branch, item: Child) -> bool:
        id = self.fresh()
        call = PendingCall(
            id,
            item.workflow,
            encode([cast("dict[str, Any]", item.instance.__dict__), item.bound]),
            # The id follows from the parent and the call, so that asking twice starts one.
            child={**item.options, "id": item.id or f"{self.instance}.{id}"},
        )
        self.calls[id] = call
        self.touched_calls.add(id)
        self.commands.append(StartCall(call))
        if item.wait:
            call.branch = branch.task.id
            branch.wait = OnCall(call)
            self.touched_branches[branch.task.id] = branch
            return False
        handle = ChildHandle(id, call.child_id)
        self.track(handle)
        return self._resume(branch, StartedChild(handle))

    def _wait_send(self, branch: Branch, item: Send) -> bool:
        self.commands.append(item)
        return self._resume(branch, None)

    def _slept(self, branch: Branch, wait: OnTime) -> None:
        if branch.wait is wait:
            self._go_on(branch, wait.result)

    def _answer(self, call: PendingCall, value: Any, error: BaseException | None) -> None:
        """Hand a call's outcome to whoever waits for it."""
        self.touched_calls.add(call.id)
        branch = self.branches.get(call.branch)
        if branch is not None and isinstance(branch.wait, OnCall) and branch.wait.call is call:
            branch.wait = None
            self.ready.append(("step", branch, value, error, True))
            return
        handle = self.objects.get(call.id)
        if isinstance(handle, ChildHandle) and not handle.done():
            self._complete(handle, value, error)

    # --- time

    def timer(self, at: float, kind: str, target: Any, mark: Any, *, serial: int | None = None) -> int:
        """Fire at `at`, unless `mark` no longer stands then. Of two timers the one with the lower serial is first."""
        serial = self.fresh() if serial is None else serial
        heapq.heappush(self.timers, (at, serial, kind, target, mark))
        return serial

    def _valid(self, timer: tuple[float, int, str, Any, Any]) -> bool:
        _, _, kind, target, mark = timer
        if kind == "retry":
            return self.calls.get(target.id) is target and target.attempt == mark and target.due_at is not None
        if kind == "timeout":
            return target.state == "entered" and target.deadline == mark
        return target.wait is mark

    def _fire(self) -> None:
        while self.timers and self.timers[0][0] <= self.now:
            timer = heapq.heappop(self.timers)
            if not self._valid(timer):
                continue
            _, _, kind, target, mark = timer
            if kind == "retry":
                target.due_at = None
                self.touched_calls.add(target.id)
                self.commands.append(StartCall(target))
            elif kind == "sleep":
                self.ready.append(("slept", target, mark))
            else:
                self.ready.append((kind, target, mark))

    def drop(self, call: PendingCall) -> None:
        """Nobody wants this call any more."""
        if self.calls.pop(call.id, None) is not None:
            self.touched_calls.add(call.id)
            self.commands.append(DropCall(call))

    _turns: ClassVar[dict[str, Callable[..., None]]] = {}


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
    "told": Machine._told,
    "slept": Machine._slept,
    "set_over": Machine._set_over,
    "timeout": Machine._timed_out,
    "set": Machine._set_late,
    "limit": Machine._limit_late,
    "message": Machine._message_late,
    "wake_group": Machine._wake_group,
}


def _payload(args: tuple[object, ...], kwargs: dict[str, Any]) -> Any:
    """Arguments, encoded; the plainest ones are their own encoding, and need no encoder."""
    if not kwargs:
        for arg in args:
            if arg is None or type(arg) is bool:
                continue
            if not ((type(arg) is int and -_SAFE < arg < _SAFE) or (type(arg) is str and arg.isascii())):
                break
        else:
            return [list(args), {}]
    return encode([list(args), kwargs])


_SAFE = 2**53


def _handling(error: Any, block: Callable[[Any], int | None], vars: Any) -> int | None:
    """Run a block while `error` is being handled, so that bare `raise` and implicit chaining work as in Python."""
    if not isinstance(error, BaseException):
        return block(vars)
    trace = error.__traceback__
    try:
        raise error
    except BaseException:  # noqa: BLE001 - entered on purpose
        error.__traceback__ = trace
        return block(vars)


def _handled(branch: Branch, *, above: int = 0) -> Any:
    """The exception that is being handled where the branch stands, its callers' included; `above` skips frames."""
    for frame in reversed(branch.frames[max(branch.floor, 0) : len(branch.frames) - above]):
        context = frame.code.contexts[frame.block]
        if context is not None and isinstance(error := frame.vars.get(context), BaseException):
            return error
    return None


def _chain(error: BaseException | None, handled: Any) -> None:
    """Raised while another is handled, an error has that one as its context. As in Python, no circle is made."""
    if error is None or not isinstance(handled, BaseException) or handled is error:
        return
    inner: BaseException = handled
    met: set[int] = set()
    while (above := inner.__context__) is not None and id(above) not in met:
        if above is error:
            inner.__context__ = None
            break
        met.add(id(above))
        inner = above
    error.__context__ = handled


_OWN = frozenset((__file__, _waiting_file))


def _strip(error: BaseException) -> None:
    """Leave the machine's own frames out of the traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OWN:
        trace = trace.tb_next
    error.__traceback__ = trace


def _at_line(error: BaseException, frame: Frame, line: int) -> None:
    """Say where an await failed that never ran."""
    if not isinstance(error, asyncio.CancelledError) and error.__traceback__ is None:
        error.add_note(f'in {frame.code.title}, file "{frame.code.file}", line {line}')
