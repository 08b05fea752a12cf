"""The encoder: picks how each value is written by its exact type, and learns new types once. Does no I/O."""

from __future__ import annotations

from typing import Any

from holdfast.codec import containers, iterators, mappings, scalars, times
from holdfast.codec.class_values import encode_class
from holdfast.codec.exceptions import bounded_repr, encode_raised, lineage_of
from holdfast.codec.graph import EncodeFunction, EncodingGraph
from holdfast.codec.instances import encode_enum, encode_fields, encode_namedtuple, encode_registered
from holdfast.codec.kinds import plan_of
from holdfast.codec.models import encode_model, origin_of
from holdfast.codec.names import can_be_found, name_of
from holdfast.codec.refusals import refusal_of, refusal_of_local
from holdfast.codec.registry import BUILT_IN, BY_TYPE, LEARNED
from holdfast.codec.tracebacks import traceback_of
from holdfast.codec.tree import Tree, is_plain

_ENCODERS: dict[type, EncodeFunction] = {
    **scalars.ENCODERS,
    **times.ENCODERS,
    **containers.ENCODERS,
    **mappings.ENCODERS,
    **iterators.ENCODERS,
    type: encode_class,
}
BUILT_IN.update(_ENCODERS)

_BY_KIND: dict[str, Any] = {
    "fields": encode_fields,
    "struct": encode_fields,
    "pydantic": encode_model,
    "namedtuple": encode_namedtuple,
    "enum": encode_enum,
    "exception": encode_raised,
}


class Encoder(EncodingGraph):
    """Encodes values that belong together, so that what they share stays shared.

    encoder = Encoder()
    trees = [encoder.encode(value) for value in (first, second)]

    Decode with one Decoder in the same order. `objects` are the objects met so far, kept alive.
    """

    __slots__ = ()

    def visit(self, value: object) -> Tree:
        """The tree of one value inside the graph. Raises Refusal."""
        kind = type(value)
        function = _ENCODERS.get(kind) or LEARNED.get(kind)
        return function(self, value) if function is not None else _learn(self, value)(self, value)


def encode(value: object) -> Tree:
    """The tree of one value on its own. Raises EncodeError, whose `path` leads to what can't be saved."""
    return value if is_plain(value) else Encoder().encode(value)


def encode_exception(error: BaseException) -> Tree:
    """The tree of an exception, whatever it holds: what can't be saved becomes text. Never fails."""
    return encode_softly(error)[0]


def encode_softly(error: BaseException) -> tuple[Tree, bool]:
    """As `encode_exception`, and whether something that it holds became text."""
    graph = Encoder()
    graph.lenient = True
    try:
        return graph.visit(error), graph.softened
    except Exception:  # noqa: BLE001 - its attributes, hashes and reprs are user code
        text = traceback_of(error)
        tree = {"$": name_of(type(error)), "lineage": lineage_of(type(error)), "args": [bounded_repr(error)]}
        return {**tree, "traceback": text} if text else tree, True


def _learn(graph: EncodingGraph, value: object) -> EncodeFunction:
    cls = type(value)
    entry = BY_TYPE.get(cls)
    if entry is not None:
        return LEARNED.setdefault(cls, lambda graph, value: encode_registered(graph, value, entry))
    if issubclass(cls, type):
        return encode_class
    if cls.__name__ == "TzInfo" and cls.__module__.partition(".")[0] == "pydantic_core":
        return times.encode_pydantic_zone
    plan = plan_of(cls)
    if plan is None:
        raise refusal_of(value)
    by_kind = _BY_KIND[plan.kind]
    if not can_be_found(origin_of(cls) or cls if plan.kind == "pydantic" else cls):
        if plan.kind != "exception" or not graph.lenient:
            raise refusal_of_local(plan.name)
        return lambda graph, value: by_kind(graph, value, plan)
    return LEARNED.setdefault(cls, lambda graph, value: by_kind(graph, value, plan))
