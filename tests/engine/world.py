"""What the compared programs are written with: actions, notes, exceptions. Knows nothing of how they are run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from holdfast.task import action


class Oops(Exception):
    """An error of the programs' own."""


class Worse(Oops):
    """A kind of Oops."""


@dataclass(eq=False)
class Box:
    """A value with attributes and identity."""

    value: Any = None
    items: list[Any] = field(default_factory=list[Any])
    x: Any = 1
    box: Any = None

    def __repr__(self) -> str:
        return f"Box({self.value!r}, {self.items!r})"

    def put(self, value: Any) -> Any:
        """Keep `value` and give it back."""
        self.items.append(value)
        return value


class Managed:
    """A context manager that says what it sees, and suppresses a Worse."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __enter__(self) -> Any:
        note("enter", self.value)
        return self.value

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        note("leave", self.value, seen(error), kind is type(error) if error else kind)
        return isinstance(error, Worse)


EFFECTS: list[tuple[Any, ...]] = []
"""What the running program did, in order."""


def note(*parts: Any) -> Any:
    """An effect of native code; gives its last argument back."""
    EFFECTS.append(("note", *(repr(part) for part in parts)))
    return parts[-1] if parts else None


def seen(error: BaseException | None) -> str:
    """An exception with those it hangs on, as text."""
    parts: list[str] = []
    while error is not None and len(parts) < 6:
        inner = f"({','.join(seen(e) for e in error.exceptions)})" if isinstance(error, BaseExceptionGroup) else ""
        parts.append(f"{type(error).__name__}{error.args if not inner else inner}")
        if error.__cause__ is not None:
            parts.append("from")
            error = error.__cause__
        else:
            error = error.__context__
    return " ".join(parts)


def truth(value: Any) -> Any:
    """`value`, seen when its turn to be evaluated comes."""
    EFFECTS.append(("truth", repr(value)))
    return value


ERRORS: dict[str, type[Exception]] = {"Oops": Oops, "Worse": Worse, "ValueError": ValueError, "KeyError": KeyError}


def same(*args: Any, **kwargs: Any) -> Any:
    """The first argument; with more, all of them."""
    if kwargs:
        return [*args, dict(kwargs)]
    return args[0] if len(args) == 1 else list(args)


def made(kind: str, *args: Any) -> Any:
    """A new mutable value."""
    match kind:
        case "list":
            return [*args]
        case "dict":
            return {str(i): a for i, a in enumerate(args)}
        case _:
            return Box(args[0] if args else None)


def broken(kind: str = "Oops", *args: Any) -> Any:
    """Raises."""
    raise ERRORS[kind](*args)


PLAIN = {"act": same, "make": made, "fail": broken}
"""What each action does, by the name under which programs call it."""


@action(name="engine-tests:act")
async def act(*args: Any, **kwargs: Any) -> Any:
    return same(*args, **kwargs)


@action(name="engine-tests:make")
async def make(*args: Any) -> Any:
    return made(*args)


@action(name="engine-tests:fail")
async def fail(*args: Any) -> Any:
    return broken(*args)


NAMES: dict[str, Any] = {
    "asyncio": asyncio,
    "act": act,
    "make": make,
    "fail": fail,
    "note": note,
    "seen": seen,
    "truth": truth,
    "Oops": Oops,
    "Worse": Worse,
    "Box": Box,
    "Managed": Managed,
    "suppress": suppress,
}
"""The names that programs find in their module."""
