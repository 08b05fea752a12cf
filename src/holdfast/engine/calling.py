"""Calls of actions and children: made, answered, repeated, given up. Part of the machine; runs none of them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from holdfast.codec import encode_call, encode_start, is_plain, lineage
from holdfast.engine.branch import Branch, OnCall, OnFuture, OnMessage, OnNext, OnSet, OnTime
from holdfast.engine.core import Core
from holdfast.engine.events import DropCall, GiveUpChild, PendingCall, StartCall
from holdfast.engine.leaving import leaving
from holdfast.engine.values import ChildHandle, StartedChild
from holdfast.errors import ActionTimeout
from holdfast.model.call import Call, Child
from holdfast.retry import ONE_ATTEMPT, class_lineage, policy_from_tree


class Calling(Core):
    """The part of the machine that keeps calls."""

    def call_done(self, id: int, tree: Any, value: Any, *, asked: bool = False) -> None:
        """A call gave `value`, encoded as `tree`. `asked` says of a child that it had been asked to end before."""
        call = self.calls.pop(id, None)
        if call is None:
            return
        self.notes.append(("done", {"call": id, "name": call.name, "value": tree}))
        # A child that ended before it heard has not refused to be cancelled.
        late = call.given_up and not asked
        self._answer(call, None if late else value, asyncio.CancelledError() if late else None)

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

    def give_up(self, call: PendingCall) -> bool:
        """Nobody wants this call's result any more. Whether its outcome is to be waited for: that of a child is."""
        asking = any(isinstance(command, StartCall) and command.call is call for command in self.commands)
        if call.child is None or asking:
            self.drop(call)
            return False
        if not call.given_up:
            call.given_up = True
            self.touched_calls.add(call.id)
            self.commands.append(GiveUpChild(call))
        return True

    def drop(self, call: PendingCall) -> None:
        """Nobody waits for this call any more."""
        if self.calls.pop(call.id, None) is not None:
            self.touched_calls.add(call.id)
            self.commands.append(DropCall(call))

    def refuse(self, id: int, error: BaseException) -> bool:
        """Raise `error` where this branch waits, since it cannot be saved there; False if its wait cannot be ended."""
        branch = self.branches.get(id)
        match None if branch is None else branch.wait:
            case OnCall(call=call):
                self.drop(call)
            case OnFuture(future=future):
                future.callbacks = [told for told in future.callbacks if told != ("wake", id)]
                self.touch(future)
            case OnTime() | OnSet() | OnMessage() | OnNext():
                pass
            case _:
                return False
        assert branch is not None
        self._go_on(branch, None, error)
        return True

    def _wait_call(self, branch: Branch, item: Call) -> bool:
        item.spend()
        call = PendingCall(
            self.fresh(),
            item.name,
            _payload(item.name, item.args, item.kwargs),
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

    def _wait_child(self, branch: Branch, item: Child) -> bool:
        item.spend()
        id = self.fresh()
        call = PendingCall(
            id,
            item.workflow,
            leaving(
                encode_start, cast("dict[str, Any]", item.instance.__dict__), item.bound, "workflow", item.workflow
            ),
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

    def _answer(self, call: PendingCall, value: Any, error: BaseException | None) -> None:
        """Hand a call's outcome to whoever waits for it."""
        self.touched_calls.add(call.id)
        branch = self.branches.get(call.branch)
        if branch is not None and isinstance(branch.wait, OnCall) and branch.wait.call is call:
            branch.wait = None
            self.ready.append(("step", branch, value, None, True) if error is None else ("fail", branch, error))
            return
        handle = self.objects.get(call.id)
        if isinstance(handle, ChildHandle) and not handle.done():
            self._complete(handle, value, error)


def _payload(name: str, args: tuple[object, ...], kwargs: dict[str, Any]) -> Any:
    """Arguments, encoded. Plain ones have nothing in them that could not leave."""
    if not kwargs:
        for arg in args:
            if not is_plain(arg):
                break
        else:
            return [list(args), {}]
    return leaving(encode_call, args, kwargs, "action", name)
