"""The composed waits of asyncio: gather, wait, wait_for, timeouts, task groups, as_completed, and cancelling them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from holdfast.codec import decode
from holdfast.engine.branch import (
    Branch,
    OnCall,
    OnFuture,
    OnGroup,
    OnLimited,
    OnMessage,
    OnNext,
    OnSet,
    OnTime,
)
from holdfast.engine.values import (
    ChildHandle,
    Completed,
    Exit,
    Future,
    Gathered,
    NextDone,
    Shielded,
    Task,
    TaskGroup,
    Timeout,
    Tracked,
    WaitFor,
    WaitSet,
)
from holdfast.model.call import Receive

if TYPE_CHECKING:
    from holdfast.engine.events import PendingCall


class Waiting:
    """The part of the machine that composes waits. `Machine` supplies the rest."""

    now: float
    ready: deque[tuple[Any, ...]]
    branches: dict[int, Branch]
    mailbox: dict[int, tuple[str, Any]]
    touched_branches: dict[int, Branch]

    if TYPE_CHECKING:

        def fresh(self) -> int: ...
        def moment(self, seconds: float, *, past: bool = False) -> float: ...
        def touch(self, thing: Tracked) -> None: ...
        def track(self, thing: Tracked) -> None: ...
        def timer(self, at: float, kind: str, target: Any, mark: Any, *, serial: int | None = None) -> int: ...
        def drop(self, call: PendingCall) -> None: ...
        def future_of(self, item: Any, *, name: str | None = None) -> Future: ...
        def _complete(self, future: Future, value: Any, error: BaseException | None) -> None: ...
        def _resume(self, branch: Branch, value: Any) -> bool: ...
        def _step(self, branch: Branch, value: Any, error: BaseException | None, raised: bool = False) -> None: ...
        def _wait(self, branch: Branch, item: Any) -> bool: ...
        def _wait_future(self, branch: Branch, item: Future) -> bool: ...

    def _hold(self, branch: Branch, wait: Any) -> bool:
        branch.wait = wait
        self.touched_branches[branch.task.id] = branch
        return False

    def _go_on(self, branch: Branch, value: Any, error: BaseException | None = None, *, raised: bool = False) -> None:
        """End the branch's wait; it takes its turn after those already ready."""
        branch.wait = None
        self.ready.append(("step", branch, value, error, raised))

    def subscribe(self, future: Future, callback: tuple[str, Any]) -> None:
        """Tell `callback` when `future` has ended, in a turn of its own."""
        if future.done():
            self.ready.append(("told", callback, future))
        else:
            future.callbacks.append(callback)
            self.touch(future)

    # --- a future has ended

    def _told(self, callback: tuple[str, Any], future: Future) -> None:
        kind, target = callback
        match kind:
            case "gather":
                self._gathered(target, future)
            case "group":
                self._group_lost(target, cast(Task, future))
            case "completed":
                self._one_completed(target, future)
            case "shield":
                self._shield_ended(target, future)
            case _:
                branch = self.branches.get(target)
                if branch is not None:
                    self._wake(branch, future)

    def _wake(self, branch: Branch, future: Future) -> None:
        match branch.wait:
            case OnFuture(future=waited) if waited is future:
                branch.wait = None
                error = asyncio.CancelledError() if future.state == "cancelled" else future.error
                self._turn_now(branch, future.result_value, error)
            case OnSet() as wait if future in wait.futures:
                wait.told.add(future.id)
                if _satisfied(wait, future):
                    self._set_late(branch, wait)
            case OnLimited(future=waited) as wait if waited is future:
                self._limited_ended(branch, wait)
            case _:
                pass

    def _turn_now(self, branch: Branch, value: Any, error: BaseException | None, *, raised: bool = False) -> None:
        # A task is woken by the callback itself: no further turn of the loop lies in between.
        self._step(branch, value, error, raised)

    # --- gather

    def gather(self, items: tuple[Any, ...], keep_errors: bool) -> Gathered:
        """`asyncio.gather(*items, return_exceptions=keep_errors)`: its children start at once."""
        made: dict[int, Future] = {}
        children: list[Future] = []
        for item in items:
            child = made.get(id(item))
            if child is None:
                child = made[id(item)] = self.future_of(item)
            children.append(child)
        gathered = Gathered(self.fresh(), children, keep_errors)
        self.track(gathered)
        if not children:
            self._complete(gathered, [], None)
        for child in made.values():
            self.subscribe(child, ("gather", gathered))
        return gathered

    def _gathered(self, gathered: Gathered, child: Future) -> None:
        gathered.missing -= 1
        self.touch(gathered)
        if gathered.done():
            return
        if not gathered.keep_errors:
            error = asyncio.CancelledError() if child.state == "cancelled" else child.error
            if error is not None:
                gathered.children = []
                self._complete(gathered, None, error)
                return
        if gathered.missing:
            return
        results: list[Any] = []
        for one in gathered.children:
            if one.state == "cancelled":
                # asyncio gives it an empty message here, and nowhere else.
                results.append(asyncio.CancelledError(""))
            else:
                results.append(one.result_value if one.error is None else one.error)
        gathered.children = []
        if gathered.cancel_asked:
            self._complete(gathered, None, asyncio.CancelledError())
        else:
            self._complete(gathered, results, None)

    # --- shield

    def shield(self, item: Any) -> Future:
        """`asyncio.shield(item)`"""
        inner = self.future_of(item)
        if inner.done():
            return inner
        shielded = Shielded(self.fresh(), inner)
        self.track(shielded)
        self.subscribe(inner, ("shield", shielded))
        return shielded

    def _shield_ended(self, shielded: Shielded, inner: Future) -> None:
        shielded.inner = None
        if not shielded.done():
            error = asyncio.CancelledError() if inner.state == "cancelled" else inner.error
            self._complete(shielded, inner.result_value, error)

    # --- wait, wait_for

    def _wait_set(self, branch: Branch, item: WaitSet) -> bool:
        futures = list({id(i): self.future_of(i) for i in item.items}.values())
        if not futures:
            raise ValueError("Set of Tasks/Futures is empty.")
        at = None if item.timeout is None else self.moment(item.timeout)
        wait = OnSet(futures, item.mode, at)
        for future in futures:
            self.subscribe(future, ("wake", branch.task.id))
        if at is not None:
            wait.serial = self.timer(at, "set", branch, wait)
        return self._hold(branch, wait)

    def _set_late(self, branch: Branch, wait: OnSet) -> None:
        if branch.wait is wait:
            branch.wait = None
            self.ready.append(("set_over", branch, wait))

    def _set_over(self, branch: Branch, wait: OnSet) -> None:
        # What ends until the branch has its turn counts as done too.
        self._step(branch, _partition(wait), None)

    def _wait_limited(self, branch: Branch, item: WaitFor) -> bool:
        if item.timeout is None:
            return self._wait(branch, item.item)
        future = self.future_of(item.item)
        if future.done():
            return self._wait_future(branch, future)
        at = self.moment(item.timeout)
        wait = OnLimited(future, at)
        self.subscribe(future, ("wake", branch.task.id))
        self._hold(branch, wait)
        if item.timeout <= 0:
            self._limit_late(branch, wait)
        else:
            wait.serial = self.timer(at, "limit", branch, wait)
        return False

    def _limit_late(self, branch: Branch, wait: OnLimited) -> None:
        if branch.wait is wait and wait.state == "waiting":
            wait.state = "late"
            wait.at = None
            self.touched_branches[branch.task.id] = branch
            if not self.cancel_future(wait.future) and isinstance(wait.future, ChildHandle):
                # A child that was only started goes on; this branch just waits for it no more.
                self._go_on(branch, None, _late(), raised=True)

    def _limited_ended(self, branch: Branch, wait: OnLimited) -> None:
        future = wait.future
        if wait.state == "cancelled":
            self._go_on(branch, None, asyncio.CancelledError())
        elif future.state == "cancelled":
            error = _late() if wait.state == "late" else asyncio.CancelledError()
            self._go_on(branch, None, error, raised=True)
        else:
            self._go_on(branch, future.result_value, future.error, raised=True)

    # --- as_completed

    def as_completed(self, items: list[Any]) -> Completed:
        """`asyncio.as_completed(items)`: they start at once."""
        futures = list({id(item): self.future_of(item) for item in items}.values())
        source = Completed(self.fresh(), futures)
        self.track(source)
        for future in futures:
            self.subscribe(future, ("completed", source))
        return source

    def _one_completed(self, source: Completed, future: Future) -> None:
        source.waiting.discard(future.id)
        self.touch(source)
        for branch in self.branches.values():
            if isinstance(branch.wait, OnNext) and branch.wait.source is source:
                self._go_on(branch, *_outcome(future, branch.wait.boxed), raised=True)
                return
        source.done.append(future)

    def _wait_next(self, branch: Branch, item: NextDone) -> bool:
        source = item.source
        if item.boxed:
            if source.left == 0:
                return self._resume(branch, ())
            source.left -= 1
        self.touch(source)
        if source.done:
            value, error = _outcome(source.done.popleft(), item.boxed)
            if error is not None:
                raise error
            return self._resume(branch, value)
        return self._hold(branch, OnNext(source, item.boxed))

    # --- messages

    def _wait_receive(self, branch: Branch, item: Receive) -> bool:
        for id, (key, tree) in self.mailbox.items():
            if key == item.key:
                del self.mailbox[id]
                return self._resume(branch, decode(tree))
        at = None if item.timeout is None else self.moment(item.timeout)
        wait = OnMessage(item.key, at)
        if at is not None:
            wait.serial = self.timer(at, "message", branch, wait)
        return self._hold(branch, wait)

    def _take_message(self, branch: Branch) -> None:
        wait = branch.wait
        assert isinstance(wait, OnMessage)
        for id, (key, tree) in self.mailbox.items():
            if key == wait.key:
                del self.mailbox[id]
                self._go_on(branch, decode(tree))
                return

    def _message_late(self, branch: Branch, wait: OnMessage) -> None:
        if branch.wait is wait:
            self._go_on(branch, None, TimeoutError())

    # --- async with

    def enter(self, manager: Any) -> Any:
        """`async with manager`: what `as` binds."""
        branch = self.running
        match manager:
            case Timeout():
                if manager.state != "created":
                    raise RuntimeError("Timeout has already been entered")
                manager.state = "entered"
                manager.branch_id = branch.task.id
                manager.cancelling = branch.task.cancels
                if manager.delay is not None:
                    manager.deadline = self.moment(manager.delay, past=True)
                self.arm_timeout(manager)
            case TaskGroup():
                if manager.state != "created":
                    raise RuntimeError(f"TaskGroup {manager!r} has already been entered")
                manager.state = "entered"
                manager.branch_id = branch.task.id
                self.touch(manager)
            case _:
                raise TypeError(
                    f"'{type(manager).__name__}' object cannot be kept across the awaits of an `async with` block; "
                    "open and use it inside one @action"
                )
        return manager

    running: Branch
    """The branch whose turn it is."""

    def _wait_exit(self, branch: Branch, item: Exit) -> bool:
        if isinstance(item.manager, Timeout):
            return self._exit_timeout(branch, item.manager, item.error)
        return self._exit_group(branch, cast(TaskGroup, item.manager), item.error)

    def arm_timeout(self, timeout: Timeout) -> None:
        """Let an entered timeout fire at its deadline."""
        self.touch(timeout)
        if timeout.deadline is None:
            return
        if timeout.deadline <= self.now:
            self.ready.append(("timeout", timeout, timeout.deadline))
        else:
            timeout.serial = self.timer(timeout.deadline, "timeout", timeout, timeout.deadline)

    def _timed_out(self, timeout: Timeout, mark: float) -> None:
        if timeout.state != "entered" or timeout.deadline != mark:
            return
        timeout.state = "expiring"
        self.touch(timeout)
        branch = self.branches.get(timeout.branch_id)
        if branch is not None:
            self.cancel_future(branch.task)

    def _exit_timeout(self, branch: Branch, timeout: Timeout, error: BaseException | None) -> bool:
        self.touch(timeout)
        if timeout.state == "expiring":
            timeout.state = "expired"
            if branch.task.uncancel() <= timeout.cancelling and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from error
        elif timeout.state == "entered":
            timeout.state = "exited"
        return self._resume(branch, False)

    def _exit_group(self, branch: Branch, group: TaskGroup, error: BaseException | None) -> bool:
        group.state = "exiting"
        group.error = error
        self.touch(group)
        cancelled: BaseException | None = None
        if isinstance(error, asyncio.CancelledError):
            cancelled = error
        if group.parent_cancelled and branch.task.uncancel() == 0:
            # A cancellation that was only the group's own way of stopping its body is spent.
            cancelled = None
        if error is not None and not group.aborting:
            self._abort(group)
        if group.tasks:
            return self._hold(branch, OnGroup(group, cancelled))
        failure = _group_failure(group, cancelled)
        if failure is not None:
            raise failure
        return self._resume(branch, False)

    def _abort(self, group: TaskGroup) -> None:
        group.aborting = True
        self.touch(group)
        for task in list(group.tasks.values()):
            if not task.done():
                self.cancel_future(task)

    def _group_lost(self, group: TaskGroup, task: Task) -> None:
        """A task of the group has ended."""
        group.tasks.pop(task.id, None)
        self.touch(group)
        parent = self.branches.get(group.branch_id)
        if not group.tasks and parent is not None and isinstance(parent.wait, OnGroup) and parent.wait.group is group:
            self.ready.append(("wake_group", parent, parent.wait))
        if task.state == "cancelled" or task.error is None:
            return
        group.errors.append(task.error)
        if parent is None or group.aborting or group.parent_cancelled:
            return
        self._abort(group)
        group.parent_cancelled = True
        self.cancel_future(parent.task)

    def _wake_group(self, branch: Branch, wait: OnGroup) -> None:
        if branch.wait is not wait or wait.group.tasks:
            return
        failure = _group_failure(wait.group, wait.cancelled)
        branch.wait = None
        self._turn_now(branch, False, failure, raised=True)

    # --- cancelling

    def cancel_future(self, future: Future) -> bool:
        """`future.cancel()`: whether it was still under way."""
        if future.done():
            return False
        match future:
            case Task():
                future.cancels += 1
                self.touch(future)
                branch = future.branch
                assert branch is not None
                if branch.wait is None or not self._cancel_wait(branch):
                    branch.must_cancel = True
                    self.touched_branches[branch.task.id] = branch
                return True
            case Gathered():
                asked = False
                for child in future.children:
                    asked = self.cancel_future(child) or asked
                if asked:
                    future.cancel_asked = True
                    self.touch(future)
                return asked
            case ChildHandle():
                return False
            case _:
                self._complete(future, None, asyncio.CancelledError())
                return True

    def _cancel_wait(self, branch: Branch) -> bool:
        """Cancel what the branch waits for; False if it can't be, and the branch is to be told at its next turn."""
        match branch.wait:
            case OnCall(call=call):
                self.drop(call)
                self._go_on(branch, None, asyncio.CancelledError())
            case OnFuture(future=ChildHandle() as future):
                # A child that was only started goes on; this branch just waits for it no more.
                future.callbacks = [told for told in future.callbacks if told != ("wake", branch.task.id)]
                self.touch(future)
                self._go_on(branch, None, asyncio.CancelledError())
            case OnFuture(future=future):
                return self.cancel_future(future)
            case OnLimited() as wait:
                if wait.state != "waiting":
                    return False
                wait.state = "cancelled"
                wait.at = None
                self.touched_branches[branch.task.id] = branch
                if not self.cancel_future(wait.future):
                    self._go_on(branch, None, asyncio.CancelledError())
            case OnGroup() as wait:
                if not wait.group.aborting:
                    wait.cancelled = asyncio.CancelledError()
                    self._abort(wait.group)
                elif wait.group.parent_cancelled:
                    branch.task.uncancel()
                self.touched_branches[branch.task.id] = branch
            case OnTime() | OnSet() | OnMessage() | OnNext():
                self._go_on(branch, None, asyncio.CancelledError())
            case None:
                return False
        return True


def _late() -> TimeoutError:
    """What `wait_for` raises when its time is up."""
    error = TimeoutError()
    error.__context__ = error.__cause__ = asyncio.CancelledError()
    return error


def _satisfied(wait: OnSet, ended: Future) -> bool:
    if len(wait.told) == len(wait.futures) or wait.mode == asyncio.FIRST_COMPLETED:
        return True
    return wait.mode == asyncio.FIRST_EXCEPTION and ended.state == "done" and ended.error is not None


def _partition(wait: OnSet) -> tuple[set[Future], set[Future]]:
    done = {future for future in wait.futures if future.done()}
    return done, {future for future in wait.futures if not future.done()}


def _outcome(future: Future, boxed: bool) -> tuple[Any, BaseException | None]:
    if boxed:
        return (future,), None
    if future.state == "cancelled":
        return None, asyncio.CancelledError()
    return future.result_value, future.error


def _group_failure(group: TaskGroup, cancelled: BaseException | None) -> BaseException | None:
    """What leaving the group raises, once all of its tasks have ended."""
    group.state = "exited"
    if cancelled is not None and not group.errors:
        return cancelled
    error = group.error
    if error is not None and not isinstance(error, asyncio.CancelledError):
        group.errors.append(error)
    if group.errors:
        errors, group.errors = group.errors, []
        failure = BaseExceptionGroup("unhandled errors in a TaskGroup", errors)
        failure.__suppress_context__ = True
        return failure
    return None
