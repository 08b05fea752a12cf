"""What a stored tree is made of, for those who show it: values, items, pairs and calls.
Imports no stored type.

Damaged trees are taken as they come; showing one is not the moment to complain.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

import binascii
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from holdfast.codec.tree import PRIMITIVES, Tree


@dataclass(frozen=True, slots=True)
class Value:
    """A leaf: its text in the manner of Python, and its nearest JSON."""

    text: str
    json: Any
    numbered: str = ""
    """The name of its type, if it has a number."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The object with this number, again."""

    number: Any


@dataclass(frozen=True, slots=True)
class Items:
    """A sequence or set between its brackets."""

    name: str
    opening: str
    closing: str
    items: list[Tree]
    numbered: bool = True


@dataclass(frozen=True, slots=True)
class Pairs:
    """A mapping between its brackets. Keys are trees."""

    name: str
    opening: str
    closing: str
    pairs: list[tuple[Tree, Tree]]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an instance: a field, or a positional argument if it has no name."""

    name: str | None
    tree: Tree
    in_text: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """An instance, as a call that would make it."""

    name: str
    parts: list[Part]
    numbered: bool = True


Shown: TypeAlias = Value | Reference | Items | Pairs | Call

_BRACKETS = {"set": ("{", "}"), "frozenset": ("frozenset({", "})"), "deque": ("deque([", "])")}
_MAPPINGS = frozenset({"dict", "OrderedDict", "Counter", "defaultdict"})
_NAMES = {
    "uuid": "UUID",
    "decimal": "Decimal",
    "path": "Path",
    "zone": "ZoneInfo",
    "pattern": "re.compile",
    "pydantic-zone": "TzInfo",
}
_AS_TYPES = {
    **_NAMES,
    "pattern": "Pattern",
    "fraction": "Fraction",
    "zone": "ZoneInfo",
    "Ellipsis": "ellipsis",
}


def look_at(tree: Tree) -> Shown:
    """The parts of one node of a tree."""
    if type(tree) in PRIMITIVES:
        return Value(repr(tree), tree)
    if type(tree) is list:
        return Items("list", "[", "]", tree)
    if type(tree) is not dict:
        return Value(f"<{type(tree).__name__}>", None)
    if "$" not in tree:
        return Pairs("dict", "{", "}", list(tree.items()))
    tag: str = str(tree["$"])
    return _look_at_tagged(tag, tree)


def type_name(tree: Tree) -> str:
    """The name of the type of a tree's value: `int`, `datetime`, or `module:qualname` for classes."""
    if type(tree) is not dict or "$" not in tree:
        return type(tree).__name__ if tree is not None else "None"
    tag: str = str(tree["$"])
    return _AS_TYPES.get(tag, tag.removeprefix(":"))


def short_name(tag: str) -> str:
    """The class alone, without its module."""
    return tag.rpartition(":")[2]


def _look_at_tagged(tag: str, tree: dict[str, Any]) -> Shown:
    stored = tree.get("v")
    if tag == "ref":
        return Reference(stored)
    if ":" in tag:
        return _look_at_instance(tag, tree)
    if tag == "tuple":
        items = _list(stored)
        return Items("tuple", "(", ",)" if len(items) == 1 else ")", items, numbered=bool(items))
    if tag in _BRACKETS:
        items = _list(stored)
        opening, closing = _BRACKETS[tag] if items or tag == "deque" else (f"{tag}(", ")")
        return Items(tag, opening, closing, items, numbered=bool(items) or tag != "frozenset")
    if tag in _MAPPINGS:
        opening, closing = ("{", "}") if tag == "dict" else (f"{tag}({{", "})")
        return Pairs(tag, opening, closing, _pairs(stored))
    if tag in ("slice", "range"):
        return Call(tag, [Part(None, part) for part in _list(stored)], numbered=False)
    if tag == "zip":
        return Call(tag, [Part(None, part) for part in _list(stored)])
    if "at" in tree or tag.startswith("dict_") or tree.get("done") is True:
        parts = [Part(None, stored)] if "v" in tree else []
        return Call(tag, [*parts, *([Part("at", tree["at"])] if "at" in tree else [])])
    return _look_at_scalar(tag, tree)


def _look_at_scalar(tag: str, tree: dict[str, Any]) -> Value:
    stored = tree.get("v")
    match tag:
        case "int" | "float":
            return Value(str(stored), stored)
        case "complex" | "fraction":
            inner = [look_at(part) for part in _list(stored)]
            texts = [part.text for part in inner if isinstance(part, Value)]
            text = "/".join(texts) if tag == "fraction" else f"complex({', '.join(texts)})"
            return Value(text, text)
        case "bytes" | "bytearray" | "str":
            return _look_at_bytes(tag, str(stored))
        case "datetime" | "time":
            zone = tree.get("tz")
            text = f"{stored}[{zone.get('v')}]" if type(zone) is dict else str(stored)
            return Value(text, text)
        case "date":
            return Value(str(stored), stored)
        case "timedelta" | "timezone":
            return _look_at_span(tag, stored)
        case "class":
            return Value(short_name(str(stored)), stored)
        case "Ellipsis":
            return Value("...", "...")
        case _ if stored is None:
            return Value(tag, tag)
        case _:
            inner = look_at(stored)
            text, json = (inner.text, inner.json) if isinstance(inner, Value) else ("...", None)
            return Value(f"{_NAMES.get(tag, tag)}({text})", json)


def _look_at_bytes(tag: str, stored: str) -> Value:
    try:
        data = binascii.a2b_base64(stored)
    except (ValueError, UnicodeError):
        return Value(f"<damaged {tag}>", stored, numbered=tag if tag == "bytearray" else "")
    if tag == "str":
        text = data.decode("utf-8", "surrogatepass")
        return Value(repr(text), text.encode("utf-8", "backslashreplace").decode("utf-8"))
    return Value(repr(data), stored) if tag == "bytes" else Value(f"bytearray({data!r})", stored, numbered=tag)


def _look_at_span(tag: str, stored: Any) -> Value:
    try:
        days, seconds, micros = stored
        span = timedelta(days=days, seconds=seconds, microseconds=micros)
    except (TypeError, ValueError, OverflowError):
        return Value(f"<damaged {tag}>", stored)
    return Value(f"{tag}({span})", span.total_seconds())


def _look_at_instance(tag: str, tree: dict[str, Any]) -> Shown:
    name = short_name(tag)
    if "lineage" in tree:
        return Call(name, _exception_parts(tag, tree))
    if "name" in tree:
        return Value(f"{name}.{tree['name']}", tree["name"])
    if "value" in tree:
        return Value(f"{name}({tree['value']})", tree["value"])
    if "v" in tree:
        return Call(name, [Part(None, tree["v"])])
    fields = [Part(key, part) for key, part in _dict(tree.get("f")).items()]
    extra = [Part(key, part) for key, part in _dict(tree.get("extra")).items()]
    private = [Part(key, part, in_text=False) for key, part in _dict(tree.get("private")).items()]
    return Call(name, [*fields, *extra, *private])


def _exception_parts(tag: str, tree: dict[str, Any]) -> list[Part]:
    # In the order in which they were numbered; what text leaves out still counts.
    parts = [Part("type", tag, in_text=False)]
    if "exceptions" in tree:
        parts += [Part(f"exceptions[{i}]", part, in_text=False) for i, part in enumerate(_list(tree["exceptions"]))]
        parts.append(Part(None, tree.get("message")))
    parts += [Part(None, part) for part in _list(tree.get("args"))]
    parts += [Part(key, part, in_text=False) for key, part in _dict(tree.get("native")).items()]
    parts += [Part(key, part) for key, part in _dict(tree.get("f")).items()]
    parts += [Part(k, tree[k], in_text=False) for k in ("notes", "cause", "context", "traceback") if k in tree]
    return parts


def _list(stored: Any) -> list[Tree]:
    return stored if type(stored) is list else []


def _dict(stored: Any) -> dict[str, Tree]:
    return stored if type(stored) is dict else {}


def _pairs(stored: Any) -> list[tuple[Tree, Tree]]:
    if type(stored) is dict:
        return list(stored.items())
    return [(pair[0], pair[1]) for pair in _list(stored) if type(pair) is list and len(pair) == 2]
