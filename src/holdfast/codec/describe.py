"""Stored values for people and for `--json`, without importing their types. Never decodes anything."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast.codec.shown import Call, Items, Pairs, Part, Reference, Value, look_at, short_name, type_name
from holdfast.codec.tree import MAX_DEPTH, Tree

_MOST_NODES = 100_000


def describe(tree: Tree, *, limit: int | None = 10_000) -> str:
    """A value as Python would show it, such as `User(id=3, name='ada')`, cut after `limit` characters.

    An object that stands at a second place is `<same list as above>` there.
    """
    text = _Text(limit).show(tree, 0)
    return text if limit is None or len(text) <= limit else text[: max(limit - 3, 0)] + "..."


def plain(tree: Tree) -> str:
    """The whole of `describe`, however long."""
    return describe(tree, limit=None)


def describe_error(tree: Tree, *, limit: int = 500) -> str:
    """An exception in a line, such as `ValueError: cannot 3`, cut after `limit` characters. Other values as they are."""
    if type(tree) is not dict or "lineage" not in tree:
        return describe(tree, limit=limit)
    name = short_name(str(tree.get("$", "")))
    said = _said(name, tree, limit)
    text = f"{name}: {said}" if said else name
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _said(name: str, tree: dict[str, Any], limit: int) -> str:
    """What `str` gives of most exceptions, made of what is stored."""
    args: Any = tree.get("args")
    match tree, args:
        case {"message": message, "exceptions": [*inner]}, _:
            return f"{message} ({'; '.join(describe_error(one, limit=limit) for one in inner)})"
        case {"wrong": [title, _, _, *found]}, _:
            said = "; ".join(_wrong_field(each) for each in found)
            return f"{len(found)} validation error{'' if len(found) == 1 else 's'} for {title}: {said}"
        case {"native": {"errno": errno, "strerror": strerror} as native}, _ if errno is not None:
            file = native.get("filename")
            return f"[Errno {errno}] {strerror}" + (f": {describe(file, limit=limit)}" if file is not None else "")
        case _, [str(text)] if name != "KeyError":
            return text
        case _, [one]:
            return describe(one, limit=limit)
        case _, [_, *_]:
            return describe({"$": "tuple", "v": args}, limit=limit)
        case _:
            return ""


def _wrong_field(each: Any) -> str:
    match each:
        case [_, {"$": "tuple", "v": [*loc]}, _, _, message]:
            return f"{'.'.join(map(str, loc))}: {message}" if loc else f"{message}"
        case _:
            return describe(each, limit=200)


def stored_traceback(tree: Tree) -> str:
    """The traceback text that is stored with an exception; "" where there is none."""
    text: Any = tree.get("traceback") if type(tree) is dict else None
    return text if type(text) is str else ""


def chain_of(tree: Tree) -> list[Tree]:
    """An exception, its cause or what it was raised in, the cause of that, and so on."""
    chain: list[Tree] = []
    while type(tree) is dict and "lineage" in tree and len(chain) < MAX_DEPTH:
        chain.append(tree)
        tree = tree.get("cause") or (None if tree.get("suppress") else tree.get("context"))
    return chain


def describe_type(tree: Tree) -> str:
    """The type of a value: `int`, `list`, `datetime`, or `module:qualname` of a class."""
    return type_name(tree)


def lineage(tree: Tree) -> list[str]:
    """The class of an encoded exception and its bases as `module:qualname`, nearest first;
    [] for anything else.
    """
    names: Any = tree.get("lineage") if type(tree) is dict else None
    return [name for name in names if type(name) is str] if type(names) is list else []


def to_json(tree: Tree) -> Any:
    """The nearest plain JSON: instances as objects of their fields, moments as ISO text, sets as arrays.

    What stands at two places is given at both, unless it holds itself or would grow beyond all bounds.
    """
    return _Json().convert(tree, 0)


class _Text:
    """One rendering. Counts objects as the encoder did."""

    def __init__(self, limit: int | None) -> None:
        self.names: list[str] = []
        self.left = limit if limit is not None else None

    def show(self, tree: Tree, depth: int) -> str:
        if depth > 2 * MAX_DEPTH:
            return "..."
        match look_at(tree):
            case Value(text=text, numbered=name):
                self.count(name, bool(name))
                return self.spend(text)
            case Reference(number=number):
                known = type(number) is int and 0 <= number < len(self.names)
                return self.spend(f"<same {self.names[number]} as above>" if known else "<unknown reference>")
            case Items(name, opening, closing, items, numbered):
                self.count(name, numbered)
                return self.join(opening, (self.show(item, depth + 1) for item in items), closing)
            case Pairs(name, opening, closing, pairs):
                self.count(name, True)
                shown = (f"{self.show(key, depth + 1)}: {self.show(item, depth + 1)}" for key, item in pairs)
                return self.join(opening, shown, closing)
            case Call(name, parts, numbered):
                self.count(name, numbered)
                shown = (self.part(part, depth + 1) for part in parts)
                return self.join(f"{name}(", (text for text in shown if text), ")")

    def part(self, part: Part, depth: int) -> str:
        if not part.in_text:
            left = self.left
            self.show(part.tree, depth)  # only to keep the count
            self.left = left
            return ""
        text = self.show(part.tree, depth)
        return text if part.name is None else f"{part.name}={text}"

    def count(self, name: str, numbered: bool) -> None:
        if numbered:
            self.names.append(name)

    def spend(self, text: str) -> str:
        if self.left is not None:
            self.left -= len(text) + 2
        return text

    def join(self, opening: str, texts: Iterable[str], closing: str) -> str:
        shown: list[str] = []
        for text in texts:
            shown.append(text)
            if self.left is not None and self.left < 0:
                return opening + ", ".join(shown) + ", ..."
        return self.spend(opening) + ", ".join(shown) + closing


class _Json:
    """One conversion. Counts objects as the encoder did, and how large each has become."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, int] | None] = []  # its JSON and how many nodes that is; None while it is made
        self.began: list[int] = []
        self.names: list[str] = []
        self.nodes = 0

    def convert(self, tree: Tree, depth: int) -> Any:
        self.nodes += 1
        if depth > 2 * MAX_DEPTH:
            return "..."
        match look_at(tree):
            case Value(json=json, numbered=name):
                return self.finish(self.begin(name) if name else None, json)
            case Reference(number=number):
                return self.again(number)
            case Items(name, _, _, items, numbered):
                place = self.begin(name) if numbered else None
                return self.finish(place, [self.convert(item, depth + 1) for item in items])
            case Pairs(name, _, _, pairs):
                place = self.begin(name)
                keyed: dict[str, Any] = {}
                for key, item in pairs:
                    name = self.key(key, depth + 1)
                    keyed[name] = self.convert(item, depth + 1)
                return self.finish(place, keyed)
            case Call(name, parts, numbered):
                place = self.begin(name) if numbered else None
                return self.finish(place, self.call(parts, depth + 1))

    def call(self, parts: list[Part], depth: int) -> Any:
        converted = [(part.name, self.convert(part.tree, depth)) for part in parts]
        unnamed = [json for name, json in converted if name is None]
        named = {name: json for name, json in converted if name is not None}
        if named or len(unnamed) != 1:
            return {**named, "args": unnamed} if unnamed else named
        return unnamed[0]

    def key(self, key: Tree, depth: int) -> str:
        if type(key) is str:
            return key
        text = _Text(200)
        text.names = self.names[:]
        shown = text.show(key, depth)
        self.convert(key, depth)
        return shown

    def begin(self, name: str) -> int:
        self.done.append(None)
        self.began.append(self.nodes)
        self.names.append(name)
        return len(self.done) - 1

    def finish(self, place: int | None, json: Any) -> Any:
        if place is not None:
            self.done[place] = (json, self.nodes - self.began[place])
        return json

    def again(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self.done):
            return "<unknown reference>"
        done = self.done[number]
        if done is None or self.nodes + done[1] > _MOST_NODES:
            return f"<same {self.names[number]} as above>"
        self.nodes += done[1]
        return done[0]
