"""Iterators and dict views that Python can describe without running code. Encoding never consumes one.

An iterator over a list, tuple, text, bytes or range keeps the object it walks and its position there. One
over a dict or a set keeps its remaining items, and comes back as an iterator over a list of them.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

import gc
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

from holdfast.codec.graph import DecodeFunction, DecodingGraph, EncodeFunction, EncodingGraph
from holdfast.codec.refusals import Refusal
from holdfast.codec.shapes import array, number, wrong
from holdfast.codec.tree import Tree

_DICTS = (dict, OrderedDict, defaultdict, Counter)
_RANGE = type(iter(range(0)))
_LONG_RANGE = type(iter(range(10**30)))
_DEQUE = type(iter(deque[Any]()))
_DEQUE_REVERSED = type(reversed(deque[Any]()))

# tag -> (types it may walk, how to begin). The methods of the exact built-in types are called, not a
# subclass's.
_WALKS: dict[str, tuple[tuple[type, ...], Callable[[Any], Any]]] = {
    "list_iterator": ((list,), list.__iter__),
    "tuple_iterator": ((tuple,), tuple.__iter__),
    "str_iterator": ((str,), str.__iter__),
    "bytes_iterator": ((bytes,), bytes.__iter__),
    "bytearray_iterator": ((bytearray,), bytearray.__iter__),
    "range_iterator": ((range,), range.__iter__),
    "list_reverseiterator": ((list,), list.__reversed__),
    "reversed": ((tuple, str, bytes, bytearray), reversed),
}
_EMPTY: dict[str, Any] = {
    "tuple_iterator": (),
    "str_iterator": "",
    "bytes_iterator": b"",
    "range_iterator": range(0),
    "reversed": (),
}

_TYPES: dict[type, str] = {
    type(iter([])): "list_iterator",
    type(iter(())): "tuple_iterator",
    type(iter("")): "str_iterator",
    type(iter("é")): "str_iterator",
    type(iter(b"")): "bytes_iterator",
    type(iter(bytearray())): "bytearray_iterator",
    _RANGE: "range_iterator",
    _LONG_RANGE: "range_iterator",
    type(reversed([])): "list_reverseiterator",
    reversed: "reversed",
    # What is left of these is a list.
    type(iter({})): "list_iterator",
    type(iter({}.values())): "list_iterator",
    type(iter({}.items())): "list_iterator",
    type(reversed({})): "list_iterator",
    type(reversed({}.values())): "list_iterator",
    type(reversed({}.items())): "list_iterator",
    type(iter(set[Any]())): "list_iterator",
    type(iter(OrderedDict[Any, Any]())): "list_iterator",
}

_VIEWS: dict[type, str] = {
    type({}.keys()): "dict_keys",
    type({}.values()): "dict_values",
    type({}.items()): "dict_items",
    type(OrderedDict[Any, Any]().keys()): "dict_keys",
    type(OrderedDict[Any, Any]().values()): "dict_values",
    type(OrderedDict[Any, Any]().items()): "dict_items",
}


def _walk(tag: str) -> EncodeFunction:
    def write(graph: EncodingGraph, value: Any) -> Tree:
        met = graph.meet(value)
        if met is not None:
            return met
        try:
            parts = value.__reduce__()
        except RuntimeError as error:
            raise Refusal(f"this iterator is spent: {error}", kind=type(value).__name__) from error
        walked = parts[1][0]
        if len(parts) == 2 and not walked:
            return {"$": tag, "done": True}
        # Python 3.12 gives None here for a range that it has already cut to what is left.
        at = parts[2] if len(parts) == 3 and parts[2] is not None else 0
        if tag == "reversed" and type(walked) not in _WALKS["reversed"][0]:
            raise Refusal(f"a reversed {type(walked).__name__} cannot be saved; make it a list", kind="reversed")
        if len(parts) == 2 and tag in ("list_reverseiterator", "reversed"):
            at = len(walked) - 1
        return {"$": tag, "v": _within(graph, value, walked), "at": graph.visit(at)}

    return write


def _within(graph: EncodingGraph, owner: Any, inner: Any) -> Tree:
    graph.closed.add(id(owner))
    graph.deeper()
    try:
        tree = graph.visit(inner)
    except Refusal as refusal:
        raise refusal.inside("<iterated>") from refusal.__cause__
    graph.depth -= 1
    graph.closed.discard(id(owner))
    return tree


def _enumerate(graph: EncodingGraph, value: enumerate[Any]) -> Tree:
    met = graph.meet(value)
    if met is not None:
        return met
    inner, count = value.__reduce__()[1]  # type: ignore[misc]
    return {"$": "enumerate", "v": _within(graph, value, inner), "at": graph.visit(count)}


def _zip(graph: EncodingGraph, value: zip[Any]) -> Tree:
    met = graph.meet(value)
    if met is not None:
        return met
    parts: Any = value.__reduce__()
    inner = [_within(graph, value, part) for part in parts[1]]
    strict = {"strict": True} if len(parts) == 3 and parts[2] else {}
    return {"$": "zip", "v": inner, **strict}


def _over_deque(graph: EncodingGraph, value: Any) -> Tree:
    met = graph.meet(value)
    if met is not None:
        return met
    inner, at = value.__reduce__()[1]
    tag = "deque_iterator" if type(value) is _DEQUE else "deque_reverse_iterator"
    return {"$": tag, "v": _within(graph, value, inner), "at": at}


def _view(tag: str) -> EncodeFunction:
    def write(graph: EncodingGraph, value: Any) -> Tree:
        met = graph.meet(value)
        if met is not None:
            return met
        viewed = gc.get_referents(value)[0]  # `.mapping` gives only a proxy of it
        if type(viewed) not in _DICTS:
            raise Refusal(f"a view of a {type(viewed).__name__} cannot be saved; make it a list", kind=tag)
        return {"$": tag, "v": _within(graph, value, viewed)}

    return write


ENCODERS: dict[type, EncodeFunction] = {
    **{cls: _walk(tag) for cls, tag in _TYPES.items()},
    **{cls: _view(tag) for cls, tag in _VIEWS.items()},
    enumerate: _enumerate,
    zip: _zip,
    _DEQUE: _over_deque,
    _DEQUE_REVERSED: _over_deque,
}

# What zip and enumerate may take: for these, iter() runs no code of a user.
_ITERATORS = frozenset({*_TYPES, enumerate, zip, _DEQUE, _DEQUE_REVERSED})


def _read_walk(tag: str) -> DecodeFunction:
    types, begin = _WALKS[tag]

    def read(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
        place = graph.reserve()
        if tree.get("done") is True:
            spent: Any = begin(_EMPTY.get(tag, types[0]()))
            next(spent, None)
            return graph.fulfil(place, spent)
        walked = _inside(graph, tree.get("v"))
        exact = type(walked) in types or (tag == "tuple_iterator" and tuple in type(walked).__mro__)
        if not exact:
            raise wrong(tree, "v", " or ".join(cls.__name__ for cls in types))
        iterator: Any = begin(walked)
        at = graph.visit(tree.get("at"))
        if type(at) is not int:
            raise wrong(tree, "at", "an int")
        # The list may still be empty here, if it holds its own iterator; a position past the end is cut.
        graph.later(lambda: iterator.__setstate__(at))
        return graph.fulfil(place, iterator)

    return read


def _inside(graph: DecodingGraph, tree: Tree) -> Any:
    graph.deeper()
    value = graph.visit(tree)
    graph.depth -= 1
    return value


def _read_enumerate(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
    place = graph.reserve()
    inner = _read_iterator(graph, tree, tree.get("v"))
    count = graph.visit(tree.get("at"))
    if type(count) is not int:
        raise wrong(tree, "at", "an int")
    return graph.fulfil(place, enumerate(inner, count))


def _read_zip(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
    place = graph.reserve()
    inner = [_read_iterator(graph, tree, part) for part in array(tree)]
    return graph.fulfil(place, zip(*inner, strict=tree.get("strict") is True))


def _read_iterator(graph: DecodingGraph, tree: dict[str, Any], part: Tree) -> Any:
    inner = _inside(graph, part)
    if type(inner) not in _ITERATORS:
        raise wrong(tree, "v", "iterators")
    return inner


def _read_over_deque(cls: Any) -> DecodeFunction:
    def read(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
        place = graph.reserve()
        walked, at = _inside(graph, tree.get("v")), number(tree, "at")
        if type(walked) is not deque or not 0 <= at <= len(walked):
            raise wrong(tree, "v", "a deque and a position in it")
        return graph.fulfil(place, cls(walked, at))

    return read


def _read_view(take: Callable[[Any], Any]) -> DecodeFunction:
    def read(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
        place = graph.reserve()
        viewed = _inside(graph, tree.get("v"))
        if type(viewed) not in _DICTS:
            raise wrong(tree, "v", "a dict")
        return graph.fulfil(place, take(viewed))

    return read


DECODERS: dict[str, DecodeFunction] = {
    **{tag: _read_walk(tag) for tag in _WALKS},
    "enumerate": _read_enumerate,
    "zip": _read_zip,
    "deque_iterator": _read_over_deque(_DEQUE),
    "deque_reverse_iterator": _read_over_deque(_DEQUE_REVERSED),
    "dict_keys": _read_view(lambda viewed: viewed.keys()),
    "dict_values": _read_view(lambda viewed: viewed.values()),
    "dict_items": _read_view(lambda viewed: viewed.items()),
}
