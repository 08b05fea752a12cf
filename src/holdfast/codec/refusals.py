"""Refusals: why a value cannot be saved, and what to do instead. Only words; decides nothing."""

from __future__ import annotations

import functools
import io
import logging
import random
import socket
import sys
import threading
import types
from collections.abc import Iterator


class Refusal(Exception):
    """Travels outwards while each container adds its own step: the path costs nothing until needed."""

    def __init__(self, reason: str, *, kind: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.steps: list[str] = []

    def inside(self, step: str) -> Refusal:
        """The same refusal, one level further out."""
        self.steps.append(step)
        return self

    @property
    def path(self) -> str:
        """The way from the root to the offending part, such as `.user.files[3]`."""
        return "".join(reversed(self.steps))


_FUNCTION = "save its arguments and name the function in the code that calls it"
_FILE = "keep its path and open it in an @action"
_LOCK = "a lock belongs to one process; make it where it is used"

_HINTS: tuple[tuple[type | tuple[type, ...], str, str], ...] = (
    (types.GeneratorType, "a generator", "make it a list"),
    (types.AsyncGeneratorType, "an async generator", "collect its items into a list in an @action"),
    (types.CoroutineType, "a coroutine", "await it, and keep its result"),
    (io.IOBase, "an open file", _FILE),
    (types.LambdaType, "a function", _FUNCTION),
    ((types.BuiltinFunctionType, types.MethodType), "a bound method or built-in function", _FUNCTION),
    (functools.partial, "a functools.partial", _FUNCTION),
    (types.ModuleType, "a module", "import it where it is used"),
    (socket.socket, "a socket", "keep its address and connect in an @action"),
    ((type(threading.Lock()), type(threading.RLock())), "a lock", _LOCK),
    ((threading.Event, threading.Condition, threading.Semaphore), "a lock", _LOCK),
    (threading.Thread, "a thread", "run the work in an @action"),
    (memoryview, "a memoryview", "make it bytes"),
    (types.TracebackType, "a traceback", "format it as text"),
    (types.FrameType, "a frame", "keep the values you need from it"),
    (types.CodeType, "a code object", _FUNCTION),
    ((map, filter), "a map or filter", "make it a list"),
    (types.MappingProxyType, "a mappingproxy", "make it a dict"),
    (
        (logging.Logger, logging.LoggerAdapter),
        "a logger",
        "ask for it again after the await, or at the top of the module",
    ),
    (random.Random, "a random generator", "keep its seed or the numbers that it gave"),
)


def refusal_of(value: object) -> Refusal:
    """What to say about a value of a type that nothing here can encode."""
    cls = type(value)
    kind = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__name__ == "<lambda>" or getattr(value, "__name__", "") == "<lambda>":
        return Refusal(f"a lambda cannot be saved; {_FUNCTION}", kind=kind)
    for types_, noun, hint in _HINTS:
        if isinstance(value, types_):
            return Refusal(f"{noun} ({kind}) cannot be saved; {hint}", kind=kind)
    if callable(value) and hasattr(value, "__wrapped__"):
        return Refusal(f"a decorated function ({kind}) cannot be saved; {_FUNCTION}", kind=kind)
    if isinstance(value, Iterator):
        return Refusal(f"an iterator of type {kind} cannot be saved; make it a list", kind=kind)
    for base in _EXTENDED:
        if isinstance(value, base):
            return Refusal(
                f"{kind} is a subclass of {base.__name__} and would lose what it adds; make it a plain "
                f"{base.__name__}, or teach the codec with register_type({cls.__name__}, encode=, decode=)",
                kind=kind,
            )
    return Refusal(
        f"an object of type {kind} cannot be saved; make the class a dataclass or a pydantic model, "
        f"or teach the codec with register_type({cls.__name__}, encode=, decode=)",
        kind=kind,
    )


def refusal_of_local(name: str) -> Refusal:
    """A class that was found by nobody under its own name."""
    if "<locals>" in name:
        return Refusal(f"the class {name} is defined inside a function; move it to the top of its module", kind=name)
    module = name.partition(":")[0]
    reason = "its module is not imported" if module not in sys.modules else "another object has this name there"
    return Refusal(f"the class {name} cannot be found again under its name: {reason}", kind=name)


_EXTENDED = (dict, list, tuple, str, bool, int, float, bytes, bytearray, set, frozenset, complex)
