"""Cancelling futures, and the waits of branches. Part of the machine."""

from __future__ import annotations

import asyncio

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
from holdfast.engine.core import Core
from holdfast.engine.values import ChildHandle, Future, Gathered, Task


class Cancelling(Core):
    """The part of the machine that cancels."""

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

    def _cancel_limited(self, branch: Branch, wait: OnLimited) -> None:
        if branch.wait is wait and not self.cancel_future(wait.future):
            self._go_on(branch, None, asyncio.CancelledError())

    def _cancel_wait(self, branch: Branch) -> bool:
        """Cancel what the branch waits for; False if it can't be, and the branch is to be told at its next turn."""
        match branch.wait:
            case OnCall(call=call):
                # A child cleans up first, as a coroutine that is awaited would.
                if not self.give_up(call):
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
                if _has_yet_to_begin(wait.future):
                    # Its turn to begin comes before the one in which this branch hears of it.
                    self.ready.append(("cancel_limited", branch, wait))
                else:
                    self._cancel_limited(branch, wait)
            case OnGroup() as wait:
                if not wait.group.aborting:
                    wait.cancelled = asyncio.CancelledError()
                    # It hears of it in its turn: what was started meanwhile has begun by then.
                    self.ready.append(("abort_group", branch, wait))
                elif wait.group.parent_cancelled:
                    branch.task.uncancel()
                self.touched_branches[branch.task.id] = branch
            case OnTime() | OnSet() | OnMessage() | OnNext():
                self._go_on(branch, None, asyncio.CancelledError())
            case None:
                return False
        return True


def _has_yet_to_begin(future: Future) -> bool:
    """Whether it is, or gathers, a task that has not had its first turn."""
    match future:
        case Task(branch=branch):
            return branch is not None and branch.item is not None
        case Gathered(children=children):
            return any(map(_has_yet_to_begin, children))
        case _:
            return False
