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
from holdfast.model.call import Once, Receive, Send


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


def _register_once(kind: type[Once], name: str, *parts: str) -> None:
    """Have what can be awaited once saved by these of its attributes, and by whether it was."""

    def encode(thing: Any) -> list[Any]:
        written = [getattr(thing, part) for part in parts]
        return [*written, True] if thing.spent else written

    def decode(written: Any) -> Any:
        made = kind(*written[: len(parts)])
        made.spent = written[len(parts) :] == [True]
        return made

    register_type(kind, encode=encode, decode=decode, name=name)


for _kind in (Task, Gathered, Shielded, ChildHandle, Timeout, TaskGroup, Completed, Future):
    register_type(_kind, encode=_id, decode=_tracked, name=_kind.kind)

# The durable class of each program is saved under this tag; see `durable_class`.
BY_TAG[":self"] = Registered(object, ":self", _no_attributes, _self)
_register_once(Sub, "sub", "function", "bound")
_register_once(Sleep, "sleep", "seconds", "result")
register_type(Ready, encode=lambda r: [r.value], decode=lambda v: Ready(*v), name="ready")
_register_once(WaitFor, "wait_for", "item", "timeout")
_register_once(WaitSet, "wait", "items", "timeout", "mode")
register_type(NextDone, encode=lambda n: [n.source, n.boxed], decode=lambda v: NextDone(*v), name="next_done")
register_type(StartedChild, encode=_handle, decode=lambda v: StartedChild(*v), name="started_child")
register_type(Send, encode=lambda s: [s.instance, s.key, s.payload], decode=lambda v: Send(*v), name="send")
_register_once(Receive, "receive", "key", "timeout")
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
