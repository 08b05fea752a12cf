"""Arguments and results as trees, and refusals that name whose they are: `argument 2 of action shop:charge cannot be saved`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

from holdfast.codec.decoder import decode
from holdfast.codec.encoder import encode, encode_softly
from holdfast.codec.tree import PRIMITIVES, Tree, is_plain
from holdfast.errors import DecodeError, EncodeError


def encode_result(value: object, kind: str, name: str) -> Tree:
    """The tree of what a call or workflow gave. Raises EncodeError that says whose it is."""
    try:
        return encode(value)
    except EncodeError as error:
        raise _told(error, f"the result of {kind} {name}", error.path) from None


def exception_as_saved(error: BaseException) -> tuple[BaseException, Tree]:
    """An exception as it is once it was saved and read again, and its tree. Itself, unless something in it became text."""
    tree, softened = encode_softly(error)
    if softened:
        try:
            read = decode(tree)
        except DecodeError:
            # Its class is known only here.
            return error, tree
        if type(read) is type(error):
            return read, tree
    return error, tree


def encode_call(args: Sequence[object], kwargs: dict[str, Any], kind: str, name: str) -> Tree:
    """The tree of arguments: a list by place and a dict by name. Raises EncodeError that names the argument."""
    if not kwargs and all(map(is_plain, args)):
        # The plainest ones are their own encoding, and need no encoder.
        return [list(args), {}]
    try:
        return encode([list(args), kwargs])
    except EncodeError as error:
        raise _argument(error, f"{kind} {name}", listed=True) from None


def decode_call(tree: Tree) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments by place and by name in what `encode_call` made. Raises DecodeError."""
    args, kwargs = _parts(tree)
    if _are_primitive(args) and "$" not in kwargs and _are_primitive(kwargs.values()):
        # The plainest ones are themselves, and need no decoder.
        return tuple(args), dict(kwargs)
    args, kwargs = _parts(decode(tree))
    return tuple(args), kwargs


def _parts(call: Any) -> tuple[list[Any], dict[str, Any]]:
    if type(call) is not list or len(cast("list[Any]", call)) != 2 or list(map(type, call)) != [list, dict]:  # pyright: ignore[reportUnknownArgumentType]
        raise DecodeError("these are not the arguments of a call")
    return cast("tuple[list[Any], dict[str, Any]]", call)


def _are_primitive(values: Iterable[object]) -> bool:
    return PRIMITIVES.issuperset(map(type, values))


def encode_start(attributes: dict[str, Any], arguments: dict[str, Any], kind: str, name: str) -> Tree:
    """The tree of a workflow object's attributes and the arguments of `run`. Raises EncodeError, as `encode_call`."""
    try:
        return encode([attributes, arguments])
    except EncodeError as error:
        raise _argument(error, f"{kind} {name}", listed=False) from None


_PLACE = re.compile(r"\[([01])\]\[(\d+|'\w+')\](.*)", re.DOTALL)


def _argument(error: EncodeError, of: str, *, listed: bool) -> EncodeError:
    found = _PLACE.fullmatch(error.path)
    if found is None:
        return _told(error, f"the arguments of {of}", error.path)
    part, key, rest = found.groups()
    if part == "1":
        return _told(error, f"argument {key} of {of}", rest)
    if listed:
        return _told(error, f"argument {int(key) + 1} of {of}", rest)
    return _told(error, f"attribute {key} of the object of {of}", rest)


def _told(error: EncodeError, what: str, path: str) -> EncodeError:
    reason = str(error).removeprefix(f"at {error.path}: ")
    where = f"at {path}: " if path else ""
    return EncodeError(f"{what} cannot be saved: {where}{reason}", path=path, kind=error.kind)
