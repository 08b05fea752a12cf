"""Exception classes of closed modules: code may name them, as they only say what an action has failed with. Calls nothing."""

from __future__ import annotations

from types import ModuleType
from typing import TypeGuard

from holdfast.codec.names import can_be_found, name_of
from holdfast.ir.program import Ref
from holdfast.ir.rules import closed, is_closed


def closed_exception(value: object) -> Ref | None:
    """The ref of an exception class that is closed to workflow code, but for its name."""
    if _is_exception(value) and is_closed(value) and can_be_found(value):
        return Ref("exception", name_of(value))
    return None


def exception_of(value: object, *, root: object) -> Ref | None:
    """The ref of an exception class that a dotted name leads to, by way of the module `root` or as one of its own."""
    if isinstance(root, ModuleType) and closed(root.__name__) and _is_exception(value):
        return Ref("exception", name_of(value)) if can_be_found(value) else None
    return closed_exception(value)


def _is_exception(value: object) -> TypeGuard[type[BaseException]]:
    return isinstance(value, type) and issubclass(value, BaseException)
