"""Histories told short: of what is alike the first, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

from holdfast.observe.history import StepView

T = TypeVar("T")


def told(events: Sequence[str]) -> list[str]:
    """Events for people: of several that are the same one, of several of one kind the first, and how many there are."""
    return [_folded(alike) for alike in runs(events, kind_of)]


def alike_steps(views: Sequence[StepView]) -> list[list[StepView]]:
    """The steps in order, neighbours together that tell of the same kinds of events, at one line."""
    return runs(views, _shape)


def kind_of(event: str) -> str:
    """What an event says, without arguments, values and moments."""
    if event.startswith("calls "):
        return event.partition("(")[0]
    return event.partition(" gave ")[0] if " gave " in event else event.partition(" until ")[0]


def runs(items: Sequence[T], key: Callable[[T], object]) -> list[list[T]]:
    """The items in order, neighbours of one key together."""
    return [list(group) for _, group in groupby(items, key)]


def _folded(alike: Sequence[str]) -> str:
    first, count = alike[0], len(alike)
    if count == 1:
        return first
    return f"{first} × {count}" if len(set(alike)) == 1 else f"{first} … and {count - 1} more"


def _shape(view: StepView) -> tuple[object, ...]:
    return tuple(map(kind_of, view.events)), tuple(view.changed), view.line
