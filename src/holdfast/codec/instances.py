"""Instances of data classes, field by field.
Decoding makes blank objects and sets fields; it calls no user code.

Dataclasses, attrs classes, msgspec structs, NamedTuples and SimpleNamespace are `{"$": "module:Name", "f":
{...}}`; an enum member is stored by its name, a combination of flags by its value, a registered type by
what stands for it.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Any

from holdfast.codec.graph import DecodingGraph, EncodingGraph
from holdfast.codec.kinds import PLAIN_FACTORIES, Plan, builtin_maker, namespace_in, set_state, state_of
from holdfast.codec.names import namespace_of
from holdfast.codec.refusals import Refusal
from holdfast.codec.registry import Registered
from holdfast.codec.shapes import array, mapping, text, wrong
from holdfast.codec.tree import Tree
from holdfast.errors import DecodeError

_LARGEST_FLAG = 2**1024
_TUPLE: Any = tuple  # its methods are called past those of a subclass


def encode_fields(graph: EncodingGraph, value: Any, plan: Plan) -> Tree:
    """An instance with fields."""
    met = graph.meet(value)
    if met is not None:
        return met
    graph.being_filled.add(id(value))
    fields = write_state(graph, state_of(value, plan))
    graph.being_filled.discard(id(value))
    deleted = [name for name, _ in _made_anew(plan.cls) if name not in fields]
    return {"$": plan.name, "f": fields, "deleted": deleted} if deleted else {"$": plan.name, "f": fields}


def write_state(graph: EncodingGraph, state: dict[str, Any]) -> dict[str, Tree]:
    """The trees of named fields; they are part of their owner and carry no number themselves."""
    graph.deeper()
    written: dict[str, Tree] = {}
    name = ""
    try:
        for name, item in state.items():
            written[name] = graph.visit(item)
    except Refusal as refusal:
        raise refusal.inside(f".{name}") from refusal.__cause__
    graph.depth -= 1
    return written


def decode_fields(graph: DecodingGraph, tree: dict[str, Any], plan: Plan) -> Any:
    """The instance: blank first, so that a cycle may lead back to it."""
    value = _blank_struct(plan) if plan.kind == "struct" else builtin_maker(plan.cls).__new__(plan.cls)
    graph.keep(value)
    stored = mapping(tree, "f")
    read_state(graph, value, plan, stored)
    deleted = array(tree, "deleted") if "deleted" in tree else ()
    for name, factory in _made_anew(plan.cls):
        # A field that came after the instance was stored; plain defaults are found on the class.
        if name not in stored and name not in deleted:
            set_state(value, plan, name, factory())
    return value


@lru_cache(maxsize=1024)
def _made_anew(cls: type) -> tuple[tuple[str, Any], ...]:
    """The fields of a dataclass whose default is made by a factory that runs no code of the user's."""
    fields: dict[str, Any] = getattr(cls, "__dataclass_fields__", {})
    factories = ((name, getattr(field, "default_factory", None)) for name, field in fields.items())
    return tuple((name, factory) for name, factory in factories if factory in PLAIN_FACTORIES)


def read_state(graph: DecodingGraph, value: object, plan: Plan, fields: dict[str, Any]) -> None:
    """Sets the stored fields on a blank instance."""
    graph.deeper()
    graph.being_filled += 1
    for name, tree in fields.items():
        set_state(value, plan, name, graph.visit(tree))
    graph.being_filled -= 1
    graph.depth -= 1


def _blank_struct(plan: Plan) -> Any:
    # msgspec offers no way to a blank struct, so a silent twin of the class is made and told its real class.
    # Lists as placeholders make the garbage collector track it.
    twin = _silent_twin(plan.cls)
    value = twin(**{name: [] for name in twin.__struct_fields__})
    _CLASS_OF.__set__(value, plan.cls)
    for slot in plan.slots.values():
        slot.__delete__(value)
    return value


class _Silent:
    """Stands before a struct class, so that neither its hooks for subclasses nor for instances are called."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        pass

    def __post_init__(self) -> None:
        pass


_CLASS_OF: Any = object.__dict__["__class__"]


@lru_cache(maxsize=1024)
def _silent_twin(cls: type) -> Any:
    meta: Any = type(cls)
    return meta(cls.__name__, (_Silent, cls), {"__module__": cls.__module__})


def encode_namedtuple(graph: EncodingGraph, value: Any, plan: Plan) -> Tree:
    """A NamedTuple; it has to be made in one piece."""
    met = graph.meet(value)
    if met is not None:
        return met
    names = _tuple_fields(plan)
    if len(names) != _TUPLE.__len__(value):
        raise Refusal(f"a {plan.name} has {_TUPLE.__len__(value)} items, not its fields", kind=plan.name)
    graph.closed.add(id(value))
    extra = namespace_in(value) if plan.has_dict else {}
    fields = write_state(graph, {**dict(zip(names, _TUPLE.__iter__(value), strict=True)), **extra})
    graph.closed.discard(id(value))
    return {"$": plan.name, "f": fields}


def decode_namedtuple(graph: DecodingGraph, tree: dict[str, Any], plan: Plan) -> Any:
    """The NamedTuple, from all of its fields."""
    place, names, fields = graph.reserve(), _tuple_fields(plan), mapping(tree, "f")
    if not set(names) <= set(fields):
        raise wrong(tree, "f", f"the fields {', '.join(names)}")
    graph.deeper()
    values = {name: graph.visit(item) for name, item in fields.items()}
    graph.depth -= 1
    made: Any = _TUPLE.__new__(plan.cls, [values.pop(name) for name in names])
    for name, item in values.items():
        set_state(made, plan, name, item)
    return graph.fulfil(place, made)


def _tuple_fields(plan: Plan) -> tuple[str, ...]:
    return next(vars_["_fields"] for vars_ in map(namespace_of, plan.cls.__mro__) if "_fields" in vars_)


def encode_enum(graph: EncodingGraph, value: Any, plan: Plan) -> Tree:
    """A member by name, or a combination of flags by value."""
    name = object.__getattribute__(value, "_name_")
    members: dict[str, Any] = namespace_of(plan.cls)["_member_map_"]
    if type(name) is str and members.get(name) is value:
        return {"$": plan.name, "name": name}
    if enum.Flag in plan.cls.__mro__:
        return {"$": plan.name, "value": graph.visit(object.__getattribute__(value, "_value_"))}
    raise Refusal(f"this is not a member of {plan.name}", kind=plan.name)


def decode_enum(graph: DecodingGraph, tree: dict[str, Any], plan: Plan) -> Any:
    """The member itself; the class's own ways of looking up a value are not asked."""
    if "value" not in tree:
        name, members = text(tree, "name"), namespace_of(plan.cls).get("_member_map_", {})
        if name not in members:
            raise DecodeError(f"the enum {plan.name} has no member {name[:100]!r} any more")
        return members[name]
    value = graph.visit(tree["value"])
    if enum.Flag not in plan.cls.__mro__ or type(value) is not int or abs(value) >= _LARGEST_FLAG:
        raise wrong(tree, "value", "the value of a Flag")
    known = namespace_of(plan.cls)["_value2member_map_"]
    if value in known:
        return known[value]
    combine: Any = enum.Flag.__dict__["_missing_"].__func__
    made = combine(plan.cls, value)
    if plan.cls not in type(made).__mro__:
        raise wrong(tree, "value", "a combination of the flags it has")
    return made


def encode_registered(graph: EncodingGraph, value: Any, entry: Registered) -> Tree:
    """An object of a registered type, through its own function."""
    met = graph.meet(value)
    if met is not None:
        return met
    graph.closed.add(id(value))
    try:
        stand_in = entry.encode(value)
    except Refusal:
        raise
    except Exception as error:  # user code
        kind = f"{entry.cls.__module__}.{entry.cls.__qualname__}"
        raise Refusal(f"the registered encode= of {kind} failed: {type(error).__name__}", kind=kind) from error
    graph.deeper()
    tree = graph.visit(stand_in)
    graph.depth -= 1
    graph.closed.discard(id(value))
    return {"$": entry.tag, "v": tree}


def decode_registered(graph: DecodingGraph, tree: dict[str, Any], entry: Registered) -> Any:
    """The object that the registered function makes of what was stored."""
    place = graph.reserve()
    graph.deeper()
    stand_in = graph.visit(tree.get("v"))
    graph.depth -= 1
    made = entry.decode(stand_in)
    if entry.cls is not object and type(made) is not entry.cls:
        raise DecodeError(f"the registered decode= of {entry.tag} gave a {type(made).__name__}")
    return graph.fulfil(place, made)
