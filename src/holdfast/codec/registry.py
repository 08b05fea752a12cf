"""Types that users taught the codec. Holds functions by type and by name; never calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from holdfast.codec.names import name_of
from holdfast.errors import ConfigurationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registered:
    """One custom type: how it becomes another value, and how it comes back."""

    cls: type
    tag: str
    encode: Callable[[Any], object]
    decode: Callable[[Any], object]


BY_TYPE: dict[type, Registered] = {}
BY_TAG: dict[str, Registered] = {}

# What the codec writes by itself, and no one may write otherwise.
BUILT_IN: set[type] = set()

# How to write each user's type seen so far; a type registered later is learned anew.
LEARNED: dict[type, Callable[[Any, Any], Any]] = {}


def register_type(
    cls: type[T],
    *,
    encode: Callable[[T], object],
    decode: Callable[[Any], T],
    name: str | None = None,
) -> None:
    """Teaches the codec a type. `encode` gives any value that can be saved; `decode` makes the object of it.

    `name` is what is stored, `module:qualname` by default; give one to be free to move the class. Only
    objects of exactly this type are meant. Raises ConfigurationError when the type or the name is taken.

        register_type(Money, encode=lambda money: [money.amount, money.currency], decode=lambda v: Money(*v))
    """
    tag = name_of(cls) if name is None else f":{name}"
    if cls in BUILT_IN:
        raise ConfigurationError(f"{name_of(cls)} is known to the codec already; it cannot be changed")
    if cls in BY_TYPE:
        raise ConfigurationError(f"{name_of(cls)} is registered already; register each type once")
    if tag in BY_TAG:
        raise ConfigurationError(f"the name {tag!r} belongs to {name_of(BY_TAG[tag].cls)}; pick another name=")
    entry = Registered(cls, tag, encode, decode)
    BY_TYPE[cls] = entry
    BY_TAG[tag] = entry
    LEARNED.pop(cls, None)
