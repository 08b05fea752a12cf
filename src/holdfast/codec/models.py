"""Pydantic models: fields, extra and private attributes, and which fields were set.
Never validates, never imports.

A model of a generic class is stored under the name of the class it came from, with its arguments under
"args". When no such model exists in this process yet, pydantic is asked to make it, unless the class has
hooks of its own.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

import copy
import sys
from typing import Any

from holdfast.codec.class_values import decode_argument, encode_argument
from holdfast.codec.graph import DecodingGraph, EncodingGraph
from holdfast.codec.instances import read_state, write_state
from holdfast.codec.kinds import PLAIN_FACTORIES, Plan, builtin_maker, namespace_in, plan_of, state_of
from holdfast.codec.names import bases_of, name_of, namespace_of
from holdfast.codec.shapes import array, mapping, wrong
from holdfast.codec.tree import Tree
from holdfast.errors import DecodeError

_EXTRA, _PRIVATE, _SET = "__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__"
_GENERIC = "__pydantic_generic_metadata__"
_HOOKS = ("__init_subclass__", "__pydantic_init_subclass__", "__class_getitem__")


def origin_of(cls: type) -> type | None:
    """The generic class that a model such as `Box[int]` came from."""
    origin = namespace_of(cls).get(_GENERIC, {}).get("origin")
    return origin if isinstance(origin, type) else None


def encode_model(graph: EncodingGraph, value: Any, plan: Plan) -> Tree:
    """A model as its state, without its serializers."""
    met = graph.meet(value)
    if met is not None:
        return met
    tree: dict[str, Tree] = {"$": plan.name}
    origin = origin_of(plan.cls)
    if origin is not None:
        tree["$"] = name_of(origin)
        tree["args"] = [encode_argument(graph, argument) for argument in namespace_of(plan.cls)[_GENERIC]["args"]]
    graph.being_filled.add(id(value))
    state = state_of(value, plan)
    tree["f"] = write_state(graph, state)
    extra, private = _part(value, _EXTRA), _part(value, _PRIVATE)
    if extra is not None:
        tree["extra"] = write_state(graph, extra)
    if private is not None:
        tree["private"] = write_state(graph, private)
    graph.being_filled.discard(id(value))
    fields_set = _part(value, _SET)
    if fields_set is not None and fields_set != {*state, *(extra or ())}:
        tree["set"] = sorted(fields_set)
    return tree


def _part(value: object, name: str) -> Any:
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return None


def decode_model(graph: DecodingGraph, tree: dict[str, Any], plan: Plan) -> Any:
    """The model, blank first and then filled, as if by `model_construct`."""
    if "args" in tree:
        plan = _specialised(graph, tree, plan)
    value: Any = builtin_maker(plan.cls).__new__(plan.cls)
    graph.keep(value)
    fields = mapping(tree, "f")
    _set(value, _EXTRA, None)
    _set(value, _PRIVATE, None)
    _set(value, _SET, set(fields))
    read_state(graph, value, plan, fields)
    for key, name in (("extra", _EXTRA), ("private", _PRIVATE)):
        if key in tree:
            part: dict[str, Any] = {}
            _set(value, name, part)
            graph.deeper()
            graph.being_filled += 1
            for field, item in mapping(tree, key).items():
                part[field] = graph.visit(item)
            graph.being_filled -= 1
            graph.depth -= 1
    _fill_new_fields(value, plan, fields)
    names = array(tree, "set") if "set" in tree else [*fields, *mapping(tree, "extra")]
    if any(type(name) is not str for name in names):
        raise wrong(tree, "set", "the names of fields")
    _set(value, _SET, set(names))
    return value


def _fill_new_fields(value: Any, plan: Plan, stored: dict[str, Any]) -> None:
    """Fields that the model has got since it was stored take their defaults, where these need no code of the user's."""
    state = namespace_in(value)
    for name, info in getattr(plan.cls, "__pydantic_fields__", {}).items():
        if name in stored:
            continue
        if info.default_factory in PLAIN_FACTORIES:
            state[name] = info.default_factory()
        elif info.default_factory is None and not info.is_required():
            state[name] = copy.deepcopy(info.default) if type(info.default) in PLAIN_FACTORIES else info.default


def _set(value: object, name: str, part: object) -> None:
    slot: Any = namespace_of(_base_model())[name]
    slot.__set__(value, part)


def _base_model() -> Any:
    return sys.modules["pydantic.main"].BaseModel


def _specialised(graph: DecodingGraph, tree: dict[str, Any], plan: Plan) -> Plan:
    arguments = tuple(decode_argument(graph, argument) for argument in array(tree, "args"))
    found = _existing(plan.cls, arguments) or _made(plan, arguments)
    specialised = plan_of(found)
    if specialised is None or specialised.kind != "pydantic":
        raise wrong(tree, "args", "the arguments of a generic model")
    return specialised


def _existing(origin: type, arguments: tuple[Any, ...]) -> type | None:
    for cls in type.__subclasses__(origin):
        metadata = namespace_of(cls).get(_GENERIC, {})
        if metadata.get("origin") is origin and metadata.get("args") == arguments:
            return cls
    return None


def _made(plan: Plan, arguments: tuple[Any, ...]) -> type:
    base = _base_model()
    own = bases_of(plan.cls)[: bases_of(plan.cls).index(base)]
    if any(hook in namespace_of(cls) for cls in own for hook in _HOOKS):
        raise DecodeError(f"{plan.name} was not used with these arguments here yet; do so in the worker's module")
    return namespace_of(base)["__class_getitem__"].__func__(plan.cls, arguments)
