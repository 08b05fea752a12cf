"""Iterators that can be saved in the middle: over dicts, their views and sets. All others are Python's own."""

from __future__ import annotations

import enum
import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(slots=True)
class DictIterator:
    """Iterates a dict's keys, values or items, and notices when it grows or shrinks meanwhile, as Python does."""

    mapping: dict[Any, Any]
    what: str
    size: int
    taken: int = 0
    behind: int = 0
    """How many of the dict's present keys lie behind it, as of when it was loaded."""
    live: Iterator[Any] | None = field(default=None, repr=False, compare=False)

    def __iter__(self) -> DictIterator:
        return self

    def __next__(self) -> Any:
        if self.live is None:
            # Just made, or just loaded: go to where it was.
            self.live = iter(self.mapping)
            for _ in range(self.behind):
                next(self.live, None)
        if len(self.mapping) != self.size:
            raise RuntimeError("dictionary changed size during iteration")
        key = next(self.live)
        if self.taken >= self.size:
            raise RuntimeError("dictionary keys changed during iteration")
        self.taken += 1
        if self.what == "keys":
            return key
        return self.mapping[key] if self.what == "values" else (key, self.mapping[key])

    def __reduce__(self) -> tuple[Any, ...]:
        return DictIterator, tuple(self.parts())

    def parts(self) -> list[Any]:
        """What it is made of. A key deleted and set again is ahead of it once more, so that counting is not enough."""
        behind = self.behind
        if self.live is not None and len(self.mapping) == self.size:
            try:
                ahead = len(cast("tuple[Any, tuple[list[Any]]]", self.live.__reduce__())[1][0])
            except RuntimeError:
                # More keys are ahead than it will give: it is to fail at one of them, as it would have.
                ahead = self.size - self.taken + 1
            behind = len(self.mapping) - ahead
        return [self.mapping, self.what, self.size, self.taken, behind]


@dataclass(slots=True)
class SetIterator:
    """Iterates a set in the order it had at the start, and notices when it grows or shrinks meanwhile."""

    members: set[Any] | frozenset[Any]
    order: list[Any]
    size: int
    taken: int = 0

    def __iter__(self) -> SetIterator:
        return self

    def __next__(self) -> Any:
        if len(self.members) != self.size:
            raise RuntimeError("Set changed size during iteration")
        if self.taken >= len(self.order):
            raise StopIteration
        self.taken += 1
        return self.order[self.taken - 1]


_EMPTY: dict[Any, Any] = {}
_VIEWS: dict[type, str] = {type(_EMPTY.keys()): "keys", type(_EMPTY.values()): "values", type(_EMPTY.items()): "items"}


_FIXED = (enum.EnumMeta.__iter__, enum.Flag.__iter__)
"""Generators over what never changes: the members of an enum, the flags in a flag."""


def iterate(source: Any) -> Iterator[Any]:
    """`iter(source)`, as something that can be saved while a loop body waits."""
    kind = cast("type[Any]", type(source))
    if kind is dict:
        return DictIterator(source, "keys", len(source))
    if kind in _VIEWS:
        # A view does not give its dict away, but the collector knows it.
        mapping = cast("dict[Any, Any]", gc.get_referents(source)[0])
        if type(mapping) is dict:
            return DictIterator(mapping, _VIEWS[kind], len(mapping))
    if kind in (set, frozenset):
        return SetIterator(source, list(source), len(source))
    if getattr(kind, "__iter__", None) in _FIXED:
        return iter(tuple(source))
    return iter(source)
