"""The decoder: picks how each tree is read by its tag.
Never imports a module and never runs a user's constructor.

What it may run of a user's are hashes and comparisons of keys, and the `decode=` of registered types.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

from typing import Any

from holdfast.codec import containers, iterators, mappings, scalars, times
from holdfast.codec.class_values import decode_class
from holdfast.codec.containers import decode_list
from holdfast.codec.describe import describe
from holdfast.codec.exception_decoding import decode_raised, stand_in_for
from holdfast.codec.graph import DecodeFunction, DecodingGraph
from holdfast.codec.instances import decode_enum, decode_fields, decode_namedtuple, decode_registered
from holdfast.codec.kinds import Plan, plan_of
from holdfast.codec.mappings import decode_dict
from holdfast.codec.models import decode_model
from holdfast.codec.registry import BY_TAG
from holdfast.codec.shapes import mapping
from holdfast.codec.tree import PRIMITIVES, Tree
from holdfast.errors import DecodeError

_DECODERS: dict[str, DecodeFunction] = {
    **scalars.DECODERS,
    **times.DECODERS,
    **containers.DECODERS,
    **mappings.DECODERS,
    **iterators.DECODERS,
    "class": decode_class,
    "ref": lambda graph, tree: graph.refer(tree.get("v")),
}

_BY_KIND: dict[str, Any] = {
    "fields": decode_fields,
    "struct": decode_fields,
    "pydantic": decode_model,
    "namedtuple": decode_namedtuple,
    "enum": decode_enum,
    "exception": decode_raised,
}


class Decoder(DecodingGraph):
    """Decodes what one Encoder encoded, in the same order.

    `resolve` turns `module:qualname` into a class, by default among the imported modules; what it gives
    must be a data class all the same. With `lenient_exceptions`, an exception of an unknown type becomes a
    WorkflowFailed.
    """

    __slots__ = ()

    def visit(self, tree: Tree) -> Any:
        """The value of one tree inside the graph."""
        kind = type(tree)
        if kind in PRIMITIVES:
            return tree
        if kind is list:
            return decode_list(self, tree)
        if kind is not dict:
            raise DecodeError(f"a {kind.__name__} is no part of a stored tree")
        if "$" not in tree:
            return decode_dict(self, tree)
        tag = tree["$"]
        if type(tag) is not str:
            raise DecodeError("a stored tag is not a text")
        function = _DECODERS.get(tag)
        if function is not None:
            return function(self, tree)
        if ":" not in tag:
            raise DecodeError(f"the stored tag {tag[:100]!r} is unknown to this version")
        return _instance(self, tag, tree)


def decode(tree: Tree) -> Any:
    """The value of a tree that `encode` made. Raises DecodeError for whatever it can't read."""
    return tree if type(tree) in PRIMITIVES else Decoder().decode(tree)


def decode_exception(tree: Tree) -> BaseException | None:
    """The exception of a tree; of an unknown type, a WorkflowFailed that tells what it was. None where that cannot be read."""
    try:
        found = Decoder(lenient_exceptions=True).decode(tree)
    except DecodeError:
        return None
    return found if isinstance(found, BaseException) else None


def _instance(graph: DecodingGraph, tag: str, tree: dict[str, Any]) -> Any:
    entry = BY_TAG.get(tag)
    if entry is not None:
        return decode_registered(graph, tree, entry)
    try:
        plan = _plan(graph, tag)
    except DecodeError:
        if "lineage" in tree and (graph.lenient_exceptions or graph.lenient):
            return stand_in_for(graph, tag, tree)
        if graph.lenient:
            return _text_for(graph, tree)
        raise
    return _BY_KIND[plan.kind](graph, tree, plan)


def _plan(graph: DecodingGraph, tag: str) -> Plan:
    known = graph.known.get(tag)
    if known is not None:
        return known
    plan = plan_of(graph.resolve(tag))
    if plan is None:
        raise DecodeError(f"{tag[:200]} is not a class of data, so nothing stored may name it")
    graph.known[tag] = plan
    return plan


def _text_for(graph: DecodingGraph, tree: dict[str, Any]) -> str:
    """What an object of an unknown type was. Counts the objects inside it as the encoder did."""
    shown = describe(tree, limit=500)
    if "f" not in tree and "v" not in tree:
        return shown  # an enum member has no number
    place = graph.reserve()
    graph.deeper()
    if "v" in tree:
        graph.visit(tree["v"])
    for key in ("f", "extra", "private"):
        for part in mapping(tree, key).values():
            graph.visit(part)
    graph.depth -= 1
    return graph.fulfil(place, shown)
