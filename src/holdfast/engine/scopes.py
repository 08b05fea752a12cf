"""`async with`: timeouts and task groups, as asyncio has them. Part of the machine."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from holdfast.engine.branch import Branch, OnGroup
from holdfast.engine.core import Core
from holdfast.engine.values import Exit, Task, TaskGroup, Timeout


class Scopes(Core):
    """The part of the machine that enters and leaves `async with` blocks."""

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

    def _abort_group(self, branch: Branch, wait: OnGroup) -> None:
        if branch.wait is wait and not wait.group.aborting:
            self._abort(wait.group)

    def _wake_group(self, branch: Branch, wait: OnGroup) -> None:
        if branch.wait is not wait or wait.group.tasks:
            return
        failure = _group_failure(wait.group, wait.cancelled)
        branch.wait = None
        self._turn_now(branch, False, failure, raised=True)


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
