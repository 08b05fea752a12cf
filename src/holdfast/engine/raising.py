"""Raising as Python does: what is being handled, what is chained to what, and tracebacks that show user code only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.engine.branch import Branch, Frame
from holdfast.model import call

_OWN = frozenset(
    str(Path(__file__).with_name(f"{name}.py"))
    for name in ("machine", "core", "calling", "timing", "waiting", "scopes", "cancelling", "raising")
) | {str(call.__file__)}
"""The files of the machine, which no traceback begins with."""


def handling(error: Any, block: Callable[[Any], int | None], vars: Any) -> int | None:
    """Run a block while `error` is being handled, so that bare `raise` and implicit chaining work as in Python."""
    if not isinstance(error, BaseException):
        return block(vars)
    trace = error.__traceback__
    try:
        raise error
    except BaseException:  # noqa: BLE001 - entered on purpose
        error.__traceback__ = trace
        return block(vars)


def handled_at(branch: Branch, *, above: int = 0) -> Any:
    """The exception that is being handled where the branch stands, its callers' included; `above` skips frames."""
    for frame in reversed(branch.frames[max(branch.floor, 0) : len(branch.frames) - above]):
        context = frame.code.contexts[frame.block]
        if context is not None and isinstance(error := frame.vars.get(context), BaseException):
            return error
    return None


def chain(error: BaseException | None, handled: Any) -> None:
    """Raised while another is handled, an error has that one as its context. As in Python, no circle is made."""
    if error is None or not isinstance(handled, BaseException) or handled is error:
        return
    inner: BaseException = handled
    met: set[int] = set()
    while (above := inner.__context__) is not None and id(above) not in met:
        if above is error:
            inner.__context__ = None
            break
        met.add(id(above))
        inner = above
    error.__context__ = handled


def innermost(error: BaseException) -> BaseException:
    """The error that was raised first of those that led to this one: it met what the caller of them all was handling."""
    met = {id(error)}
    while (inner := error.__context__) is not None and id(inner) not in met:
        met.add(id(inner))
        error = inner
    return error


def as_it_leaves(error: StopIteration) -> RuntimeError:
    """What a StopIteration becomes that leaves a coroutine: what awaits it would take it for its end (PEP 479)."""
    made = RuntimeError("coroutine raised StopIteration")
    made.__cause__ = made.__context__ = error
    made.__traceback__ = error.__traceback__
    return made


def strip(error: BaseException) -> None:
    """Leave the machine's own frames out of the traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OWN:
        trace = trace.tb_next
    error.__traceback__ = trace


def at_line(error: BaseException, frame: Frame, line: int) -> None:
    """Say where an await failed that never ran."""
    if not isinstance(error, asyncio.CancelledError) and error.__traceback__ is None:
        error.add_note(f'in {frame.code.title}, file "{frame.code.file}", line {line}')
