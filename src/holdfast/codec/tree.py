"""Trees: the JSON-able form of values, and their way to bytes and back.
Knows no Python type beyond JSON's own.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

from typing import Any, TypeAlias

import orjson

from holdfast.errors import DecodeError, EncodeError

# A tree is None, bool, int, float, str, a list of trees or a dict of trees by str. It is spelled Any
# because each reader checks the shape it needs at run time: stored bytes are not to be trusted.
Tree: TypeAlias = Any

LOWEST = -(2**63)
HIGHEST = 2**63 - 1

# Levels of values inside values. One level is at most four of JSON and four frames of Python, so this
# stays below the parser's 1024 and, from an ordinary stack, below Python's own 1000, both ways.
MAX_DEPTH = 150

PRIMITIVES: frozenset[type] = frozenset({type(None), bool, int, float, str})

_SAFE = 2**53

_WRITER_DEPTH = 100  # orjson writes at most 254 levels at once; deeper trees are written in pieces


def is_plain(value: object) -> bool:
    """Whether a value is seen at a glance to be its own tree; of others that may be so as well."""
    if type(value) is int:
        return -_SAFE < value < _SAFE
    if type(value) is str:
        return value.isascii()
    return value is None or value is True or value is False


def dumps(tree: Tree) -> bytes:
    """The bytes of a tree, as compact JSON in UTF-8. Raises EncodeError for what is not a tree."""
    try:
        return orjson.dumps(tree)
    except TypeError as error:
        if "Recursion" not in str(error):
            raise EncodeError(f"this is not a tree and cannot be written as JSON: {error}") from error
    try:
        return orjson.dumps(_in_pieces(tree, 0))
    except (TypeError, RecursionError) as error:
        raise EncodeError(f"the tree cannot be written as JSON: {error}") from error


def loads(data: bytes) -> Tree:
    """The tree in these bytes. Raises DecodeError for anything that is not JSON, or nests too deep."""
    try:
        return orjson.loads(data)
    except ValueError as error:
        raise DecodeError(f"stored bytes are not valid JSON: {error}") from error


def raw(data: bytes) -> orjson.Fragment:
    """Bytes that `dumps` made before, to be placed inside another tree without parsing them again."""
    return orjson.Fragment(data)


def _in_pieces(tree: Tree, level: int) -> Tree:
    if level == _WRITER_DEPTH:
        return orjson.Fragment(orjson.dumps(_in_pieces(tree, 0)))
    if type(tree) is list:
        return [_in_pieces(item, level + 1) for item in tree]
    if type(tree) is dict:
        return {key: _in_pieces(item, level + 1) for key, item in tree.items()}
    return tree
