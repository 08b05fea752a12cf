"""What changed inside a large entry, as a cut of its text: a list that grows costs what was added, not what it holds.

An entry's text is its tree as compact JSON, which is the same bytes whenever it is written. A cut is a list of three: how
many bytes stay at the head, how many at the tail, and the text that comes between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from holdfast.errors import DecodeError

WORTH = 512
"""Bytes below which an entry is written whole."""


def cut(old: bytes, new: bytes) -> list[Any] | None:
    """What makes `new` of `old`; None where writing `new` whole is as good."""
    shorter = min(len(old), len(new))
    if shorter < WORTH:
        return None
    head = _longest(shorter, lambda n: old.startswith(new[:n]))
    while head < len(new) and _continues(new[head]):
        head -= 1
    tail = _longest(shorter - head, lambda n: old.endswith(new[len(new) - n :]))
    while tail and _continues(new[len(new) - tail]):
        tail -= 1
    between = new[head : len(new) - tail]
    if len(between) > len(new) // 2:
        return None
    return [head, tail, between.decode()]


def paste(old: bytes, piece: Any) -> bytes:
    """The text that a cut makes of `old`. Raises DecodeError for a cut that does not fit it."""
    match piece:
        case [int(head), int(tail), str(between)] if min(head, tail) >= 0 and head + tail <= len(old):
            return old[:head] + between.encode() + old[len(old) - tail :]
        case [*_]:
            raise DecodeError(f"a saved change does not fit the {len(old)} bytes it is to change")
        case _:
            raise DecodeError(f"a saved change is no list of three but {type(cast(object, piece)).__name__}")


def _longest(most: int, same: Callable[[int], bool]) -> int:
    """The largest number up to `most` for which `same` holds, where it holds for all below that."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        if same(middle):
            low = middle
        else:
            most = middle - 1
    return low


def _continues(byte: int) -> bool:
    """Whether it is inside a character of UTF-8, where text cannot be cut."""
    return byte & 0xC0 == 0x80
