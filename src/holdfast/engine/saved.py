"""How the engine's own values are written inside a state: tracked objects by their id, awaitables by their parts."""

from __future__ import annotations

from typing import Any

from holdfast.codec import register_type
from holdfast.codec.registry import BY_TAG, Registered
from holdfast.engine.iterate import DictIterator, SetIterator
from holdfast.engine.leaving import stays
from holdfast.engine.values import (
    CURRENT,
    ChildHandle,
    Completed,
    Future,
    Gathered,
    NextDone,
    Ready,
    Shielded,
    Sleep,
    StartedChild,
    Sub,
    Task,
    TaskGroup,
    Timeout,
    Tracked,
    WaitFor,
    WaitSet,
)
from holdfast.errors import DecodeError
from holdfast.model.call import Receive, Send


def _tracked(id: Any) -> Any:
    try:
        return CURRENT.get().objects[id]
    except (LookupError, TypeError):
        raise DecodeError("a task or timeout has a meaning only inside the state it belongs to") from None


def _self(_: Any) -> Any:
    try:
        return CURRENT.get().self_object
    except LookupError:
        raise DecodeError("the workflow object has a meaning only inside its own state") from None


def _id(thing: Tracked) -> int:
    if isinstance(thing, Future):
        stays(f"a {type(thing).__name__.lower()}", "await it, and pass on its result", thing.kind)
    else:
        stays(f"a {type(thing).__name__}", "pass on what was made with it", thing.kind)
    return thing.id


def _handle(started: StartedChild) -> list[Any]:
    stays("the handle of a child", "pass on its id", "started_child")
    return [started.future]


def _no_attributes(_: object) -> None:
    stays("the workflow object", "pass on those of its attributes that are needed", "self")


for _kind in (Task, Gathered, Shielded, ChildHandle, Timeout, TaskGroup, Completed, Future):
    register_type(_kind, encode=_id, decode=_tracked, name=_kind.kind)

# The durable class of each program is saved under this tag; see `durable_class`.
BY_TAG[":self"] = Registered(object, ":self", _no_attributes, _self)
register_type(Sub, encode=lambda s: [s.function, s.bound], decode=lambda v: Sub(*v), name="sub")
register_type(Sleep, encode=lambda s: [s.seconds, s.result], decode=lambda v: Sleep(*v), name="sleep")
register_type(Ready, encode=lambda r: [r.value], decode=lambda v: Ready(*v), name="ready")
register_type(WaitFor, encode=lambda w: [w.item, w.timeout], decode=lambda v: WaitFor(*v), name="wait_for")
register_type(WaitSet, encode=lambda w: [w.items, w.timeout, w.mode], decode=lambda v: WaitSet(*v), name="wait")
register_type(NextDone, encode=lambda n: [n.source, n.boxed], decode=lambda v: NextDone(*v), name="next_done")
register_type(StartedChild, encode=_handle, decode=lambda v: StartedChild(*v), name="started_child")
register_type(Send, encode=lambda s: [s.instance, s.key, s.payload], decode=lambda v: Send(*v), name="send")
register_type(Receive, encode=lambda r: [r.key, r.timeout], decode=lambda v: Receive(*v), name="receive")
register_type(
    DictIterator,
    encode=DictIterator.parts,
    decode=lambda v: DictIterator(*v),
    name="dict_iterator",
)
register_type(
    SetIterator,
    encode=lambda it: [it.members, it.order, it.size, it.taken],
    decode=lambda v: SetIterator(*v),
    name="set_iterator",
)
