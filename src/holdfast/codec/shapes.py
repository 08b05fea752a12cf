"""Shapes: small checks that a stored tree has the form its tag promises. Never repairs anything."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

from typing import Any

from holdfast.errors import DecodeError


def text(tree: dict[str, Any], key: str = "v", *, longest: int = 10_000) -> str:
    """The str at a key, of bounded length."""
    value = tree.get(key)
    if type(value) is not str or len(value) > longest:
        raise wrong(tree, key, f"a text of at most {longest} characters")
    return value


def number(tree: dict[str, Any], key: str = "v") -> int:
    """The int of at most 64 bits at a key."""
    value = tree.get(key)
    if type(value) is not int:
        raise wrong(tree, key, "an int")
    return value


def array(tree: dict[str, Any], key: str = "v", *, length: int | None = None) -> list[Any]:
    """The JSON array at a key."""
    value = tree.get(key)
    if type(value) is not list or (length is not None and len(value) != length):
        raise wrong(tree, key, "an array" if length is None else f"an array of {length}")
    return value


def mapping(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """The JSON object at a key; an absent one is empty."""
    value = tree.get(key, {})
    if type(value) is not dict:
        raise wrong(tree, key, "an object")
    return value


def wrong(tree: dict[str, Any], key: str, wanted: str) -> DecodeError:
    """The error for a part that has another form than its tag promises."""
    return DecodeError(f"a stored {str(tree.get('$'))[:100]!r} needs {wanted} at {key!r}")
