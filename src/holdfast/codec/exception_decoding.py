"""Exceptions back from storage: blank objects of built-in making, then filled.
Never calls a user's `__init__`.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

from holdfast.codec.describe import describe
from holdfast.codec.exceptions import NATIVE, NOTES
from holdfast.codec.graph import DecodingGraph
from holdfast.codec.instances import read_state
from holdfast.codec.kinds import Plan, builtin_maker, is_validation_error, namespace_in
from holdfast.codec.shapes import array, mapping, text, wrong
from holdfast.codec.tracebacks import TRACEBACK
from holdfast.errors import DecodeError, WorkflowFailed

_ROOT: Any = BaseException.__dict__
_LONGEST_TRACEBACK = 100_000
_UNICODE: dict[type[BaseException], type] = {
    UnicodeDecodeError: bytes,
    UnicodeEncodeError: str,
    UnicodeTranslateError: str,
}


def decode_raised(graph: DecodingGraph, tree: dict[str, Any], plan: Plan) -> BaseException:
    """The exception, with its type, arguments, attributes, links and traceback text."""
    maker = builtin_maker(plan.cls)
    is_group = BaseExceptionGroup in plan.cls.__mro__
    if is_group:
        error = _read_group(graph, tree, plan)
    elif is_validation_error(plan.cls):
        error = _read_validation_error(graph, tree, plan.cls)
    else:
        error = maker.__new__(plan.cls)
        if type(error) is not plan.cls:
            raise DecodeError(f"{plan.name} cannot be made as a blank exception")
        graph.keep(error)
    was_lenient, graph.lenient = graph.lenient, graph.lenient or graph.lenient_exceptions
    graph.deeper()
    graph.being_filled += 1
    if not is_group or "args" in tree:
        _ROOT["args"].__set__(error, _read_args(graph, tree))
    if "native" in tree:
        _read_native(graph, error, tree)
    if "f" in tree:
        read_state(graph, error, plan, mapping(tree, "f"))
    _read_notes_and_links(graph, error, tree)
    graph.being_filled -= 1
    graph.depth -= 1
    graph.lenient = was_lenient
    return error


def stand_in_for(graph: DecodingGraph, name: str, tree: dict[str, Any]) -> BaseException:
    """A WorkflowFailed that tells what an exception of an unknown type was.
    Counts objects as `decode_raised` does.
    """
    if "exceptions" in tree:
        place, was = graph.reserve(), graph.lenient
        graph.lenient = True
        members = [graph.visit(member) for member in array(tree, "exceptions")]
        message = graph.visit(tree.get("message"))
        args: tuple[Any, ...] = (message, members)
        graph.lenient = was
        error = WorkflowFailed("", original_type=name, original_args=args)
        graph.fulfil(place, error)
    else:
        error = WorkflowFailed("", original_type=name)
        graph.keep(error)
    was, graph.lenient = graph.lenient, True
    graph.deeper()
    graph.being_filled += 1
    if "exceptions" not in tree:
        error.original_args = _read_args(graph, tree)
    for key in ("native", "f"):
        for part in mapping(tree, key).values():
            graph.visit(part)  # only to keep the count
    _read_notes_and_links(graph, error, tree)
    graph.being_filled -= 1
    graph.depth -= 1
    graph.lenient = was
    error.traceback_text = namespace_in(error).get(TRACEBACK, "")
    error.args = (describe(tree, limit=500),)
    return error


def _read_args(graph: DecodingGraph, tree: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(graph.visit(item) for item in array(tree, "args"))


def _read_group(graph: DecodingGraph, tree: dict[str, Any], plan: Plan) -> BaseException:
    place = graph.reserve()
    graph.deeper()
    members = [graph.visit(member) for member in array(tree, "exceptions")]
    graph.depth -= 1
    message = graph.visit(tree.get("message"))
    if type(message) is not str or any(BaseException not in type(member).__mro__ for member in members):
        raise wrong(tree, "exceptions", "a message and exceptions")
    make: Any = BaseExceptionGroup.__new__
    return graph.fulfil(place, make(plan.cls, message, members))


def _read_validation_error(graph: DecodingGraph, tree: dict[str, Any], cls: Any) -> BaseException:
    place = graph.reserve()
    written = array(tree, "wrong")
    graph.deeper()
    try:
        title, mode, hidden, *found = written
        if type(title) is not str:
            raise wrong(tree, "wrong", "a title first")
        details = [_details(graph, each) for each in found]
        made = cls.from_exception_data(title, details, mode, hidden)
    except (TypeError, ValueError, KeyError) as error:
        raise wrong(tree, "wrong", "a title, a mode, and what is wrong where") from error
    graph.depth -= 1
    return graph.fulfil(place, made)


def _details(graph: DecodingGraph, written: Any) -> InitErrorDetails:
    kind, loc, given, context, message = [graph.visit(part) for part in written]
    details: InitErrorDetails = {"type": kind, "loc": loc, "input": given}
    try:
        PydanticKnownError(kind, context)
    except KeyError:
        # A validator's own kind of error.
        details["type"] = PydanticCustomError(kind, message, context)
    else:
        if context is not None:
            details["ctx"] = context
    return details


def _read_native(graph: DecodingGraph, error: BaseException, tree: dict[str, Any]) -> None:
    native = {name: graph.visit(part) for name, part in mapping(tree, "native").items()}
    for cls, names in NATIVE.items():
        if cls not in type(error).__mro__:
            continue
        if cls in _UNICODE:
            _set_unicode(cls, error, native, tree)
            continue
        for name in names:
            if name in native and name in cls.__dict__:
                cls.__dict__[name].__set__(error, native.pop(name))
    if native:
        raise wrong(tree, "native", "attributes of its built-in base")


def _set_unicode(cls: Any, error: Any, native: dict[str, Any], tree: dict[str, Any]) -> None:
    # Python reads memory by these positions when it prints the error, so they are checked before they are
    # set.
    kept = [native.pop(name, None) for name in NATIVE[cls]]
    source, start, end = kept[-4], kept[-3], kept[-2]
    if (
        type(source) is not _UNICODE[cls]
        or type(start) is not int
        or type(end) is not int
        or not 0 <= start <= end <= len(source)
        or type(kept[-1]) is not str
        or (type(kept[0]) is not str and cls is not UnicodeTranslateError)
    ):
        raise wrong(tree, "native", "encoding, object, start, end and reason")
    arguments = _ROOT["args"].__get__(error)
    cls.__init__(error, *(kept[1:] if cls is UnicodeTranslateError else kept))
    _ROOT["args"].__set__(error, arguments)


def _read_notes_and_links(graph: DecodingGraph, error: BaseException, tree: dict[str, Any]) -> None:
    own = namespace_in(error)
    if "notes" in tree:
        own[NOTES] = graph.visit(tree["notes"])
    for key in ("cause", "context"):
        if key in tree:
            linked = graph.visit(tree[key])
            if linked is None or BaseException not in type(linked).__mro__:
                if not graph.lenient:
                    raise wrong(tree, key, "an exception")
                continue
            _ROOT[f"__{key}__"].__set__(error, linked)
    _ROOT["__suppress_context__"].__set__(error, tree.get("suppress") is True)
    if "traceback" in tree:
        own[TRACEBACK] = text(tree, "traceback", longest=_LONGEST_TRACEBACK)
