"""Containers: lists, dicts, sets and their kin, with their identity. Never touches a subclass a user defined.

A list is a JSON array. A dict is a JSON object when its keys are texts and none of them is "$"; its relatives
carry a tag, and under "v" an object when the keys are texts, or else an array of pairs.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from math import isfinite
from typing import Any

from holdfast.codec.graph import DecodeFunction, DecodingGraph, EncodeFunction, EncodingGraph
from holdfast.codec.refusals import Refusal
from holdfast.codec.scalars import from_base64, to_base64, well_formed
from holdfast.codec.shapes import array, text, wrong
from holdfast.codec.tree import HIGHEST, LOWEST, PRIMITIVES, Tree
from holdfast.errors import DecodeError

_NONE_AND_BOOL = frozenset({type(None), bool})
_EASY_KEYS = frozenset({str, int, bytes, bool, type(None), float})
_FACTORIES: dict[str, type] = {
    "list": list,
    "dict": dict,
    "set": set,
    "int": int,
    "float": float,
    "str": str,
    "tuple": tuple,
    "bool": bool,
    "bytes": bytes,
    "frozenset": frozenset,
}


def encode_list(graph: EncodingGraph, value: list[Any]) -> Tree:
    """A list of one plain kind is copied after a look at its extremes; anything else goes item by item."""
    met = graph.meet(value)
    return _items(graph, value) if met is None else met


def encode_dict(graph: EncodingGraph, value: dict[Any, Any]) -> Tree:
    """Measured on a 2-core test machine with CPython 3.11: see tests/codec/test_speed.py."""
    met = graph.meet(value)
    if met is not None:
        return met
    if "$" in value or not _has_plain_keys(value):
        return {"$": "dict", "v": _pairs(graph, value)}
    return _object(graph, value)


def _items(graph: EncodingGraph, value: list[Any]) -> list[Tree]:
    kinds = set(map(type, value))
    if kinds <= PRIMITIVES:
        if kinds == {int}:
            if min(value) >= LOWEST and max(value) <= HIGHEST:
                return value.copy()
        elif kinds == {str}:
            if all(map(str.isascii, value)):
                return value.copy()
        elif (kinds == {float} and all(map(isfinite, value))) or kinds <= _NONE_AND_BOOL:
            return value.copy()
    return _one_by_one(graph, value)


def _one_by_one(graph: EncodingGraph, value: Iterable[Any], step: str = "[{}]") -> list[Tree]:
    graph.deeper()
    written: list[Tree] = []
    visit = graph.visit
    try:
        for item in value:
            written.append(visit(item))
    except Refusal as refusal:
        raise refusal.inside(step.format(len(written))) from refusal.__cause__
    graph.depth -= 1
    return written


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    for key in value:
        if type(key) is not str or not (key.isascii() or well_formed(key)):
            return False
    return True


def _object(graph: EncodingGraph, value: dict[str, Any]) -> dict[str, Tree]:
    graph.deeper()
    written: dict[str, Tree] = {}
    key = ""
    try:
        for key, item in value.items():
            kind = type(item)
            if kind is str and item.isascii():
                written[key] = item
            else:
                written[key] = graph.visit(item)
    except Refusal as refusal:
        raise refusal.inside(f"[{key!r}]") from refusal.__cause__
    graph.depth -= 1
    return written


def _pairs(graph: EncodingGraph, value: dict[Any, Any]) -> Tree:
    if _has_plain_keys(value):
        return _object(graph, value)
    graph.deeper()
    written: list[Tree] = []
    step = ""
    try:
        for key, item in value.items():
            step = f".keys()[{len(written)}]"
            pair = [graph.visit(key)]
            step = f"[{_short(key)}]"
            pair.append(graph.visit(item))
            written.append(pair)
    except Refusal as refusal:
        raise refusal.inside(step) from refusal.__cause__
    graph.depth -= 1
    return written


def _short(key: object) -> str:
    return repr(key)[:60] if type(key) in _EASY_KEYS else type(key).__name__


def _tuple(graph: EncodingGraph, value: tuple[Any, ...]) -> Tree:
    # The empty tuple and the empty frozenset are single objects of the interpreter and take no number.
    return _in_one_piece(graph, value, "tuple") if value else {"$": "tuple", "v": []}


def _frozenset(graph: EncodingGraph, value: frozenset[Any]) -> Tree:
    return _in_one_piece(graph, value, "frozenset") if value else {"$": "frozenset", "v": []}


def _in_one_piece(graph: EncodingGraph, value: Any, tag: str) -> Tree:
    met = graph.meet(value)
    if met is not None:
        return met
    key = id(value)
    graph.closed.add(key)
    if tag == "tuple":
        items = _one_by_one(graph, value)
    else:
        if any(
            id(item) in graph.being_filled and type(item).__hash__ is not object.__hash__ for item in value
        ):
            raise Refusal(
                "a frozenset holds the object that holds it, whose hash would not exist yet", kind=tag
            )
        items = _one_by_one(graph, _in_order(value), "<item {}>")
    graph.closed.discard(key)
    return {"$": tag, "v": items}


def _set(graph: EncodingGraph, value: set[Any]) -> Tree:
    met = graph.meet(value)
    return {"$": "set", "v": _one_by_one(graph, _in_order(value), "<item {}>")} if met is None else met


def _in_order(value: set[Any] | frozenset[Any]) -> Iterable[Any]:
    # One set is written as the same bytes by every process, where its items let themselves be sorted.
    return sorted(value) if set(map(type, value)) in ({str}, {int}) else value


def _bytearray(graph: EncodingGraph, value: bytearray) -> Tree:
    met = graph.meet(value)
    return {"$": "bytearray", "v": to_base64(value)} if met is None else met


def _tagged_dict(tag: str) -> EncodeFunction:
    def write(graph: EncodingGraph, value: dict[Any, Any]) -> Tree:
        met = graph.meet(value)
        return {"$": tag, "v": _pairs(graph, value)} if met is None else met

    return write


def _defaultdict(graph: EncodingGraph, value: defaultdict[Any, Any]) -> Tree:
    met = graph.meet(value)
    if met is not None:
        return met
    factory: Any = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", "")
    if name is not None and _FACTORIES.get(name) is not factory:
        raise Refusal(
            "a defaultdict can be saved with a plain type as its factory, such as list or int, not with "
            f"{name or type(factory).__name__}",
            kind="collections.defaultdict",
        )
    return {"$": "defaultdict", "factory": name, "v": _pairs(graph, value)}


def _deque(graph: EncodingGraph, value: deque[Any]) -> Tree:
    met = graph.meet(value)
    if met is not None:
        return met
    return {"$": "deque", "maxlen": value.maxlen, "v": _one_by_one(graph, value)}


ENCODERS: dict[type, EncodeFunction] = {
    list: encode_list,
    dict: encode_dict,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    bytearray: _bytearray,
    OrderedDict: _tagged_dict("OrderedDict"),
    Counter: _tagged_dict("Counter"),
    defaultdict: _defaultdict,
    deque: _deque,
}


def decode_list(graph: DecodingGraph, tree: list[Any]) -> list[Any]:
    """The list of a JSON array."""
    if set(map(type, tree)) <= PRIMITIVES:
        flat = tree.copy()
        graph.keep(flat)
        return flat
    return _fill(graph, [], tree)


def decode_dict(graph: DecodingGraph, tree: dict[str, Any]) -> dict[str, Any]:
    """The dict of an untagged JSON object."""
    value: dict[str, Any] = {}
    graph.keep(value)
    graph.deeper()
    for key, item in tree.items():
        value[key] = item if type(item) in PRIMITIVES else graph.visit(item)
    graph.depth -= 1
    return value


def _fill(graph: DecodingGraph, value: Any, items: list[Any]) -> Any:
    graph.keep(value)
    graph.deeper()
    for item in items:
        value.append(graph.visit(item))
    graph.depth -= 1
    return value


def _visit_all(graph: DecodingGraph, items: list[Any]) -> list[Any]:
    graph.deeper()
    values = [graph.visit(item) for item in items]
    graph.depth -= 1
    return values


def _read_in_one_piece(make: Callable[[list[Any]], Any]) -> DecodeFunction:
    def read(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
        items = array(tree)
        if not items:
            return make(items)
        number = graph.reserve()
        value = make(_visit_all(graph, items))
        if len(value) != len(items):
            raise DecodeError("a stored frozenset has an item twice")
        return graph.fulfil(number, value)

    return read


def _read_set(graph: DecodingGraph, tree: dict[str, Any]) -> set[Any]:
    value: set[Any] = set()
    graph.keep(value)
    items = _visit_all(graph, array(tree))

    def fill() -> None:
        value.update(items)
        if len(value) != len(items):
            raise DecodeError("a stored set has an item twice")

    _now_or_later(graph, items, fill)
    return value


def _now_or_later(graph: DecodingGraph, keys: list[Any], fill: Callable[[], None]) -> None:
    # While an instance is being filled its hash may be missing, or worse, be wrong.
    if graph.being_filled and not set(map(type, keys)) <= _EASY_KEYS:
        graph.later(fill)
    else:
        fill()


def _read_bytearray(graph: DecodingGraph, tree: dict[str, Any]) -> bytearray:
    value = bytearray(from_base64(text(tree, longest=2**31)))
    graph.keep(value)
    return value


def _read_dict(
    make: Callable[[], dict[Any, Any]], graph: DecodingGraph, tree: dict[str, Any]
) -> dict[Any, Any]:
    value = make()
    graph.keep(value)
    stored = tree.get("v")
    if type(stored) is dict:
        graph.deeper()
        for key, item in stored.items():  # pyright: ignore[reportUnknownVariableType]
            value[key] = graph.visit(item)
        graph.depth -= 1
        return value
    graph.deeper()
    keys: list[Any] = []
    items: list[Any] = []
    for pair in array(tree):
        if type(pair) is not list or len(pair) != 2:  # pyright: ignore[reportUnknownArgumentType]
            raise wrong(tree, "v", "pairs of key and value")
        keys.append(graph.visit(pair[0]))
        items.append(graph.visit(pair[1]))
    graph.depth -= 1

    def fill() -> None:
        for key, item in zip(keys, items, strict=True):
            value[key] = item
        if len(value) != len(keys):
            raise DecodeError("a stored dict has a key twice")

    _now_or_later(graph, keys, fill)
    return value


def _read_defaultdict(graph: DecodingGraph, tree: dict[str, Any]) -> defaultdict[Any, Any]:
    name = tree.get("factory")
    if name is not None and (type(name) is not str or name not in _FACTORIES):
        raise wrong(tree, "factory", "the name of a plain type")
    factory = None if name is None else _FACTORIES[name]
    made: Any = _read_dict(partial(defaultdict[Any, Any], factory), graph, tree)
    return made


def _read_deque(graph: DecodingGraph, tree: dict[str, Any]) -> deque[Any]:
    limit, items = tree.get("maxlen"), array(tree)
    if limit is not None and (type(limit) is not int or limit < len(items)):
        raise wrong(tree, "maxlen", "room for its items")
    return _fill(graph, deque(maxlen=limit), items)


DECODERS: dict[str, DecodeFunction] = {
    "tuple": _read_in_one_piece(tuple),
    "frozenset": _read_in_one_piece(frozenset),
    "set": _read_set,
    "bytearray": _read_bytearray,
    "dict": partial(_read_dict, dict),
    "OrderedDict": partial(_read_dict, OrderedDict),
    "Counter": partial(_read_dict, Counter),
    "defaultdict": _read_defaultdict,
    "deque": _read_deque,
}
