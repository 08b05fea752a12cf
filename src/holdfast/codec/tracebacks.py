"""Tracebacks as text: where an exception was raised, also in another process. Raises nothing, keeps no frames.

Frames cannot be stored, and hold whatever they refer to; so the text of the first raise stays with the exception, as its
attribute `__holdfast_traceback__`, through any number of processes.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees and the namespaces of exceptions are Any until a check narrows them to list or dict.

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from typing import Any

from holdfast.codec.kinds import namespace_in
from holdfast.codec.scalars import well_formed
from holdfast.codec.tree import Tree

TRACEBACK = "__holdfast_traceback__"

LONGEST = 20_000
"""Characters of a traceback that are kept, its last ones."""
_MOST_FRAMES = 100
_EMPTY_LINES = re.compile(r"^ +\n", re.MULTILINE)
_MOST_LINKED = 50
_ROOT: Any = BaseException.__dict__
_GROUP: Any = BaseExceptionGroup.__dict__


class _Own(str):
    """The text of a traceback that this process has seen itself: the next raise of the same object has another."""

    __slots__ = ()


class _Shown(str):
    """A note that shows a traceback to whoever waits for a workflow. It is kept as the traceback, not as a note."""

    __slots__ = ()


def traceback_of(error: BaseException) -> str:
    """Where an exception was raised, as Python shows it, also if that was in another process; '' if it is not known.

    At most 20,000 characters, the last ones. An exception of an action has the action's own traceback, in the workflow
    that catches it and for whoever waits for that workflow.
    """
    stored = namespace_in(error).get(TRACEBACK)
    frames = _ROOT["__traceback__"].__get__(error)
    if isinstance(stored, str):
        text = str(stored)
    elif frames is None:
        return ""
    else:
        text = f"Traceback (most recent call last):\n{_frames(frames)}{_last_line(error)}"
    if len(text) > LONGEST:
        text = "...\n" + text[-LONGEST:]
    return text if well_formed(text) else text.encode("utf-8", "backslashreplace").decode("utf-8")


def forget_last_raise(error: BaseException) -> None:
    """An exception was raised just now: what is remembered of an earlier raise of this object in this process is stale."""
    own = namespace_in(error)
    if type(own.get(TRACEBACK)) is _Own:
        del own[TRACEBACK]


def remember_raise(error: BaseException, text: str) -> None:
    """Keep the text of its traceback with an exception, in place of its frames."""
    _ROOT["__traceback__"].__set__(error, None)
    own = namespace_in(error)
    if text and TRACEBACK not in own:
        own[TRACEBACK] = _Own(text)


def show_remote_tracebacks(error: BaseException, heading: str) -> None:
    """Add to an exception that came from elsewhere, and to those it is linked to, notes of where they were raised.

    Python shows the notes of an exception below it. One that has come through several hands gets the note once.
    """
    for one in _linked(error):
        text = traceback_of(one).rstrip()
        notes: Any = namespace_in(one).setdefault("__notes__", [])
        if text and type(notes) is list and not any(isinstance(note, str) and text in note for note in notes):
            notes.append(_Shown(f"\n{heading}:\n{text}"))
        elif not notes:
            del namespace_in(one)["__notes__"]


def own_notes(notes: Any) -> Any:
    """What an exception has under `__notes__`, less what `show_remote_tracebacks` has added; None if that is all."""
    if type(notes) is not list or all(type(note) is not _Shown for note in notes):
        return notes
    return [note for note in notes if type(note) is not _Shown] or None


def traceback_in(tree: Tree) -> str:
    """The tracebacks of an encoded exception and of those it comes from, the first one first; '' if there are none."""
    texts: list[str] = []
    pending: list[Any] = [tree]
    while pending and len(texts) < _MOST_LINKED:
        one = pending.pop()
        if type(one) is not dict:
            continue
        if type(text := one.get("traceback")) is str:
            texts.append(text)
        members = one.get("exceptions")
        pending += reversed(members) if type(members) is list else []
        pending.append(one.get("cause") or (None if one.get("suppress") else one.get("context")))
    whole = "\n".join(reversed(texts))
    return whole if len(whole) <= LONGEST else "...\n" + whole[-LONGEST:]


def _linked(error: BaseException) -> Iterator[BaseException]:
    """An exception, its causes and contexts, and the members of groups, each once."""
    pending, met = [error], {id(error)}
    while pending and len(met) < _MOST_LINKED:
        one = pending.pop()
        yield one
        linked: list[Any] = [_ROOT[name].__get__(one) for name in ("__cause__", "__context__")]
        if isinstance(one, BaseExceptionGroup):
            linked += _GROUP["exceptions"].__get__(one)
        for other in linked:
            if other is not None and id(other) not in met:
                met.add(id(other))
                pending.append(other)


def _frames(frames: Any) -> str:
    try:
        text = "".join(traceback.format_tb(frames, limit=-_MOST_FRAMES))
        # Compiled workflows have lines and no columns: what would point at a column is empty.
        return _EMPTY_LINES.sub("", text)
    except Exception:  # noqa: BLE001 - source lines may come from a loader of the user's
        return "  (its frames cannot be shown)\n"


def _last_line(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception_only(type(error), error))
    except Exception:  # noqa: BLE001 - its __str__ is user code
        return f"{type(error).__qualname__}\n"
