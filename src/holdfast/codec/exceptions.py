"""Exceptions: arguments, attributes, notes, causes, groups and the traceback as text.
Never raises or runs one.

The tree names the class and all its bases under "lineage", so that a retry policy can decide without
importing it. What C keeps outside of `__dict__` (errno, value, code, ...) stands under "native". A decoded
exception has no frames; the stored text stays with it (see `tracebacks.py`), and is not written again as an
attribute but as the traceback. A chain of causes and contexts is cut after 20. `AttributeError.obj` is left out: it may be
anything, and is only a help for suggestions.
"""

from __future__ import annotations

import operator
from typing import Any, cast

from holdfast.codec.graph import EncodingGraph
from holdfast.codec.kinds import Plan, is_validation_error, namespace_in, state_of
from holdfast.codec.names import bases_of, name_of
from holdfast.codec.refusals import Refusal
from holdfast.codec.scalars import well_formed
from holdfast.codec.tracebacks import own_notes, traceback_of
from holdfast.codec.tree import Tree

NOTES = "__notes__"

# The attributes of built-in exceptions that live in C.
NATIVE: dict[type[BaseException], tuple[str, ...]] = {
    OSError: ("errno", "strerror", "filename", "filename2", "characters_written"),
    ImportError: ("msg", "name", "path"),
    SyntaxError: ("msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset"),
    StopIteration: ("value",),
    SystemExit: ("code",),
    NameError: ("name",),
    AttributeError: ("name",),
    UnicodeDecodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeEncodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeTranslateError: ("encoding", "object", "start", "end", "reason"),
}

_LONGEST_CHAIN = 20
_LONGEST_REPR = 1_000
_ROOT: Any = BaseException.__dict__
_GROUP: Any = BaseExceptionGroup.__dict__


def encode_raised(graph: EncodingGraph, error: BaseException, plan: Plan) -> Tree:
    """An exception and all that hangs on it. What can't be saved of that becomes text."""
    met = graph.meet(error)
    if met is not None:
        return met
    tree: dict[str, Tree] = {"$": plan.name, "lineage": lineage_of(type(error))}
    if BaseExceptionGroup in bases_of(type(error)):
        tree.update(_group(graph, error))
    if is_validation_error(type(error)):
        tree["wrong"] = _wrong(graph, error)
    graph.being_filled.add(id(error))
    if "message" not in tree or not _follow(error):
        tree["args"] = _each(graph, _ROOT["args"].__get__(error))
    for key, state in (("native", _native(error)), ("f", state_of(error, plan))):
        if state:
            tree[key] = _fields(graph, state)
    own = namespace_in(error)
    if NOTES in own and (notes := own_notes(own[NOTES])) is not None:
        tree["notes"] = _part(graph, notes)
    _links(graph, error, tree)
    graph.being_filled.discard(id(error))
    text = traceback_of(error)
    if text:
        tree["traceback"] = text
    return tree


def lineage_of(cls: type) -> list[str]:
    """The class and its bases, nearest first, as `module:qualname`."""
    return [name_of(base) for base in bases_of(cls) if base is not object]


def bounded_repr(value: object) -> str:
    """The repr of a value, which never fails and has at most 1,000 characters."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - user code
        text = f"<unprintable {type(value).__qualname__}>"
    text = text if len(text) <= _LONGEST_REPR else text[: _LONGEST_REPR - 3] + "..."
    return text if well_formed(text) else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _group(graph: EncodingGraph, error: Any) -> dict[str, Tree]:
    # A group is made in one piece from its exceptions, which therefore come first.
    graph.closed.add(id(error))
    graph.deeper()
    members: list[Tree] = []
    try:
        for member in _GROUP["exceptions"].__get__(error):
            members.append(graph.visit(member))
    except Refusal as refusal:
        raise refusal.inside(f".exceptions[{len(members)}]") from refusal.__cause__
    graph.depth -= 1
    graph.closed.discard(id(error))
    return {"message": _part(graph, _GROUP["message"].__get__(error)), "exceptions": members}


def _follow(group: BaseException) -> bool:
    """Whether the arguments of a group are what follows from its message and a list of its exceptions."""
    args: tuple[Any, ...] = _ROOT["args"].__get__(group)
    if len(args) != 2 or type(args[1]) is not list:
        return False
    given, members = cast("list[object]", args[1]), _GROUP["exceptions"].__get__(group)
    same = len(given) == len(members) and all(map(operator.is_, given, members))
    return same and args[0] is _GROUP["message"].__get__(group)


def _wrong(graph: EncodingGraph, error: Any) -> list[Tree]:
    """Of a `pydantic.ValidationError`: what was validated, how, whether its inputs are shown, and what is wrong where."""
    title, _, mode, hidden = error.__reduce__()[1]
    graph.closed.add(id(error))
    graph.deeper()
    written: list[Tree] = [str(title), mode, hidden]
    for each in error.errors(include_url=False):
        parts = (each["type"], each["loc"], each["input"], each.get("ctx"), each["msg"])
        written.append([_part(graph, part) for part in parts])
    graph.depth -= 1
    graph.closed.discard(id(error))
    return written


def _native(error: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cls, names in NATIVE.items():
        if isinstance(error, cls):
            for name in names:
                try:
                    item = cls.__dict__[name].__get__(error)
                except (AttributeError, TypeError):  # never set
                    continue
                if item is not None:
                    found[name] = item
    return found


def _each(graph: EncodingGraph, values: tuple[Any, ...]) -> list[Tree]:
    graph.deeper()
    written = [_part(graph, item) for item in values]
    graph.depth -= 1
    return written


def _fields(graph: EncodingGraph, state: dict[str, Any]) -> dict[str, Tree]:
    graph.deeper()
    written = {name: _part(graph, item) for name, item in state.items()}
    graph.depth -= 1
    return written


def _part(graph: EncodingGraph, value: object) -> Tree:
    try:
        return graph.attempt(value)
    except Refusal:
        graph.softened = True
        return bounded_repr(value)


def _links(graph: EncodingGraph, error: BaseException, tree: dict[str, Tree]) -> None:
    if graph.chain < _LONGEST_CHAIN:
        graph.chain += 1
        for key in ("cause", "context"):
            linked = _ROOT[f"__{key}__"].__get__(error)
            if linked is not None and not _closes_a_circle(graph, linked):
                tree[key] = _part(graph, linked)
        graph.chain -= 1
    if _ROOT["__suppress_context__"].__get__(error):
        tree["suppress"] = True


def _closes_a_circle(graph: EncodingGraph, linked: BaseException) -> bool:
    # A circle through a group cannot be rebuilt; others can, but make chains endless for those who walk them.
    return id(linked) in graph.closed or (graph.lenient and id(linked) in graph.being_filled)
