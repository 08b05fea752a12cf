"""The composed waits of asyncio: gather, shield, wait, wait_for, as_completed; and messages. Part of the machine."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from holdfast.codec import decode
from holdfast.engine.branch import (
    Branch,
    OnFuture,
    OnLimited,
    OnMessage,
    OnNext,
    OnSet,
)
from holdfast.engine.cancelling import Cancelling
from holdfast.engine.scopes import Scopes
from holdfast.engine.values import (
    ChildHandle,
    Completed,
    Future,
    Gathered,
    NextDone,
    Shielded,
    Task,
    WaitFor,
    WaitSet,
)
from holdfast.model.call import Once, Receive


class Waiting(Cancelling, Scopes):
    """The part of the machine that composes waits."""

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
        item.spend()
        if any(isinstance(each, Once) for each in item.items):
            raise TypeError("Passing coroutines is forbidden, use tasks explicitly.")
        futures = [self.future_of(each) for each in _distinct(item.items)]
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
        item.spend()
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
        elif wait.state == "late" and (future.state == "cancelled" or isinstance(future.error, asyncio.CancelledError)):
            # A gather that is cancelled ends with the error, and is not called cancelled.
            self._go_on(branch, None, _late(), raised=True)
        elif future.state == "cancelled":
            self._go_on(branch, None, asyncio.CancelledError(), raised=True)
        else:
            self._go_on(branch, future.result_value, future.error, raised=True)

    # --- as_completed

    def as_completed(self, items: list[Any]) -> Completed:
        """`asyncio.as_completed(items)`: they start at once."""
        futures = [self.future_of(item) for item in _distinct(items)]
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
        item.spend()
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


def _distinct(items: list[Any]) -> list[Any]:
    """Each of these objects once."""
    return list({id(item): item for item in items}.values())
