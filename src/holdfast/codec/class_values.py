"""Classes as values: data classes and plain built-in types, by name.
Never a function, a module or another class.

The arguments of generic models are written here as well: classes, unions, and built-in generics such as
`list[int]`.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

import types
import typing
from typing import Any

from holdfast.codec import containers, mappings, scalars, times
from holdfast.codec.graph import DecodingGraph, EncodingGraph
from holdfast.codec.kinds import is_plain_class, plan_of
from holdfast.codec.names import can_be_found, name_of
from holdfast.codec.refusals import Refusal, refusal_of_local
from holdfast.codec.registry import BY_TYPE
from holdfast.codec.shapes import array, text, wrong
from holdfast.codec.tree import Tree
from holdfast.errors import DecodeError

_PLAIN = frozenset({*scalars.ENCODERS, *containers.ENCODERS, *mappings.ENCODERS, *times.ENCODERS, object})
_UNIONS = (types.UnionType, typing.Union)


def encode_class(graph: EncodingGraph, cls: type) -> Tree:
    """A class by its name."""
    if not _is_allowed(cls):
        raise Refusal(
            f"the class {name_of(cls)} cannot be saved as a value; only data classes, enums with members, exceptions "
            "and plain built-in types can",
            kind="type",
        )
    if not can_be_found(cls):
        raise refusal_of_local(name_of(cls))
    return {"$": "class", "v": name_of(cls)}


def decode_class(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
    """The class, which must be one that could have been written."""
    name = text(tree)
    try:
        return _resolved(graph, name)
    except DecodeError:
        if graph.lenient:
            return name
        raise


def _resolved(graph: DecodingGraph, name: str) -> type:
    cls = graph.resolve(name)
    if not _is_allowed(cls):
        raise DecodeError(f"{name} is not a class that may stand as a value")
    return cls


def _is_allowed(cls: type) -> bool:
    return cls in _PLAIN or ((cls in BY_TYPE or plan_of(cls) is not None) and is_plain_class(cls))


def encode_argument(graph: EncodingGraph, argument: Any) -> Tree:
    """One argument of a generic class."""
    if argument is None or argument is type(None):
        return None
    if argument is Any:
        return {"$": "any"}
    origin, parts = typing.get_origin(argument), typing.get_args(argument)
    if origin in _UNIONS:
        return {"$": "union", "args": [encode_argument(graph, part) for part in parts]}
    if isinstance(origin, type):
        head = encode_class(graph, origin)
        return {"$": "alias", "v": head["v"], "args": [encode_argument(graph, part) for part in parts]}
    if isinstance(argument, type):
        return encode_class(graph, argument)
    raise Refusal(f"a generic model of {argument!r:.100} cannot be saved; use classes as its arguments", kind="generic")


def decode_argument(graph: DecodingGraph, tree: Tree) -> Any:
    """One argument of a generic class."""
    if tree is None:
        return type(None)
    tag = tree.get("$") if type(tree) is dict else None
    if tag == "any":
        return Any
    if tag == "class":
        return _resolved(graph, text(tree))
    if tag not in ("union", "alias"):
        raise DecodeError("a stored generic model has an argument that is not a class")
    graph.deeper()
    parts = tuple(decode_argument(graph, part) for part in array(tree, "args"))
    graph.depth -= 1
    if tag == "union":
        return typing.Union[parts]  # noqa: UP007
    origin = _resolved(graph, text(tree))
    if origin.__module__ not in ("builtins", "collections"):
        raise wrong(tree, "v", "a built-in generic")
    return types.GenericAlias(origin, parts)
