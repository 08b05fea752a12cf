"""Joining: a child whose id exists already gives its outcome to every parent that asked for it. Starts and cancels nothing.

A parent joins an instance by leaving a word beside the clients that wait for its end. Whoever commits that end finds the
word and delivers the outcome. Should it die before that, the parent finds the end by looking, now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from holdfast.codec import dumps, encode_exception, loads
from holdfast.engine import PendingCall
from holdfast.errors import ConfigurationError, InstanceNotFound
from holdfast.ids import InstanceId
from holdfast.model.instance import Commit, Delivery, DeliveryKind, Ending, InstanceView, Status

LOOK_AFTER = 30.0
"""Seconds after which a parent looks at a child it has joined."""

_WORD = "hf_i_"


class Children:
    """What is known of one instance's calls of children under ids that others may have used before."""

    __slots__ = ("joined", "look_at", "unknown")

    def __init__(self) -> None:
        self.unknown: set[int] = set()
        """Calls of which it is not known yet who started the child. Nobody sleeps on them: they would never be told."""
        self.joined: set[int] = set()
        """Calls whose child another has started."""
        self.look_at: float | None = None
        """When to look at those again, for a parent that stays in memory until then."""


def may_be_anothers(instance: InstanceId, call: PendingCall) -> bool:
    """Whether the child of a call has an id that was chosen, and does not follow from its parent."""
    return call.child is not None and call.child_id != f"{instance}.{call.id}"


def is_own(instance: InstanceId, call: int, child: InstanceView) -> bool:
    """Whether this very call has started the child, so that its end is told anyway."""
    return child.parent == instance and child.parent_call == str(call)


def refusal(instance: InstanceId, call: PendingCall, child: InstanceView | None) -> Exception | None:
    """Why the call cannot have the outcome of what it finds under its id."""
    if child is None:
        return InstanceNotFound(f"there is no instance {call.child_id!r} any more; it was deleted after it had ended")
    if child.name != call.name:
        return ConfigurationError(f"the id {child.id!r} belongs to an instance of {child.name}; choose another")
    if child.id == instance:
        return ConfigurationError(f"the instance {instance!r} cannot wait for its own end")
    return None


def word_of(instance: InstanceId, call: int) -> str:
    """What a joining parent leaves with the child."""
    return f"{_WORD}{quote(instance, safe='')}/{call}"


def is_word(waiter: str) -> bool:
    """Whether one who waits is a parent, and not the channel of a client."""
    return waiter.startswith(_WORD)


def refused(instance: InstanceId, call: PendingCall, error: Exception, now: float) -> Delivery:
    """An error in place of the child's outcome."""
    return _result(instance, str(call.id), f"{call.child_id}:refused", {"error": encode_exception(error)}, now)


def lost(instance: InstanceId, call: PendingCall, now: float) -> Delivery:
    """What ends the wait for a child that was given up and cannot tell of its end."""
    error = encode_exception(asyncio.CancelledError())
    return _result(instance, str(call.id), f"{call.child_id}:lost:{call.id}", {"error": error}, now)


def outcome(instance: InstanceId, call: int, child: InstanceView, now: float) -> Delivery:
    """The outcome of a child that has ended."""
    return _ended(f"{child.id}", child.status, child.outcome or b"null", instance, str(call), now)


def outcomes(commits: Sequence[Commit], waiters: Iterable[tuple[str, InstanceId]], now: float) -> list[Delivery]:
    """What parents that have joined are owed by the endings among `commits`."""
    words = [(waiter, id) for waiter, id in waiters if is_word(waiter)]
    if not words:
        return []
    endings: Mapping[InstanceId, Ending] = {
        each.instance: each.close for each in commits if isinstance(each.close, Ending)
    }
    told: list[Delivery] = []
    for waiter, id in words:
        parent, _, call = waiter.removeprefix(_WORD).rpartition("/")
        ending = endings[id]
        told.append(_ended(id, ending.status, ending.payload, InstanceId(unquote(parent)), call, now))
    return told


def _ended(child: str, status: Status, payload: bytes, instance: InstanceId, call: str, now: float) -> Delivery:
    tree = loads(payload)
    result = {"value": tree} if status is Status.DONE else {"error": tree}
    return _result(instance, call, f"{child}:end:{call}", result, now)


def _result(instance: InstanceId, call: str, id: str, result: Mapping[str, Any], now: float) -> Delivery:
    return Delivery(id=id, instance=instance, kind=DeliveryKind.RESULT, key=call, payload=dumps(dict(result)), at=now)
