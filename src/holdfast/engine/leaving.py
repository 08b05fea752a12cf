"""Values on their way out of a state: as results, arguments and messages. What has a meaning only inside it is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from holdfast.codec.refusals import Refusal

P = ParamSpec("P")
T = TypeVar("T")

_LEAVING: ContextVar[bool] = ContextVar("holdfast_leaving", default=False)


def leaving(encode: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The encoding of what leaves a state. Raises EncodeError where a part of it has no meaning elsewhere."""
    token = _LEAVING.set(True)
    try:
        return encode(*args, **kwargs)
    finally:
        _LEAVING.reset(token)


def is_leaving() -> bool:
    """Whether what is being encoded leaves its state."""
    return _LEAVING.get()


def stays(what: str, instead: str, kind: str) -> None:
    """Raise Refusal if the value that is being encoded leaves its state."""
    if is_leaving():
        raise Refusal(f"{what} has a meaning only inside its own workflow; {instead}", kind=kind)
