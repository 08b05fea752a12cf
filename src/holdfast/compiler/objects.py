"""Targets: the name under which a program holds an object, and the object that a name leads to. Runs nothing but imports."""

from __future__ import annotations

import functools
import importlib
import io
import logging
import sys
from types import FrameType, MethodType, ModuleType
from typing import Any, cast

from holdfast.codec.names import bases_of
from holdfast.errors import ProgramError
from holdfast.ir.plain import is_accelerator
from holdfast.ir.rules import closed, is_builtin, is_closed, open_builtin

LOCAL_OBJECTS: dict[str, object] = {}
"""Objects defined inside functions, by the target of their ref. Only this process can resolve them."""

_MISSING = object()


def target_of(value: object) -> str | None:
    """`module:qualname` if importing that gives this very object."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(value, MethodType):
        # The functions of `random` are methods of an object that it keeps to itself.
        name = value.__name__
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if _is_standard(module) and reachable(public := _public(module), name) is value:
        module = public
    return f"{module}:{name}" if reachable(module, name) is value else None


def _public(module: str) -> str:
    """The module that gives out what a private one defines: `io` for `_io`, `pathlib` for `pathlib._local`."""
    parts = module.removeprefix("_").split(".")
    kept = next((i for i, part in enumerate(parts) if part.startswith("_")), len(parts))
    return ".".join(parts[:kept]) if kept else module


def local_target(value: object) -> str:
    """A target for an object that no module has a name for: it is found in this process alone."""
    module, name = getattr(value, "__module__", "?"), getattr(value, "__qualname__", type(value).__qualname__)
    target = f"{module}:{name}"
    if reachable(module, name) is not _MISSING:
        # Elsewhere the name must not lead to what stands there now, such as the wrapper of this very function.
        target = f"{target}.<wrapped>"
    if LOCAL_OBJECTS.get(target, value) is not value:
        target = f"{target}.{id(value):x}"
    LOCAL_OBJECTS[target] = value
    return target


def reachable(module: str, name: str) -> object:
    """What a dotted name of a module leads to; something that nothing is where it leads nowhere."""
    found: object = sys.modules.get(module)
    if found is None:
        try:
            found = importlib.import_module(module)
        except ImportError:
            return _MISSING
    for part in name.split("."):
        found = getattr(found, part, _MISSING)
    return found


def object_of(target: str) -> object:
    """The object of a target. Raises ProgramError where there is none, or where it is closed to workflow code."""
    if target in LOCAL_OBJECTS:
        return LOCAL_OBJECTS[target]
    module, _, name = target.partition(":")
    found: Any = open_module(module)
    internal = module.partition(".")[0] in ("holdfast", "pydantic", "asyncio", "logging")
    for part in name.split("."):
        if part.startswith("__") or is_private(module, part) or not hasattr(found, part):
            raise ProgramError(f"{target} does not exist here any more; bring it back, or cancel what needs it")
        found = getattr(found, part)
        if isinstance(found, ModuleType) or is_closed(found):
            # An object is reached through classes of its own module, never through what that module has imported.
            raise ProgramError(f"{target} leads to something that is closed to workflow code")
    bases = bases_of(found) if isinstance(found, type) else ()
    data = bool(bases) and not {io.IOBase, logging.Handler} & set(bases)
    if module.partition(".")[0] == "asyncio":
        # Loops, runners and transports are classes too.
        data = BaseException in bases
    public = getattr(sys.modules.get("holdfast"), name, None) is found
    if (internal and not data and not public) or _hides(found, of_module="." not in name):
        raise ProgramError(f"{target} leads to something that is closed to workflow code")
    return found


def _hides(found: object, *, of_module: bool) -> bool:
    """Whether an object would call what is closed. What a class binds to itself is called by way of the class."""
    if isinstance(found, FrameType) or is_builtin(found):
        return True  # builtins, under whatever name, are refs of their own
    if isinstance(found, MethodType):
        return not of_module or is_closed(found.__self__) is not None or is_builtin(found.__func__)
    if isinstance(found, functools.partial):
        inner: object = cast("functools.partial[object]", found).func
        open_one = open_builtin(inner) is not None
        return not of_module or is_closed(inner) is not None or (not open_one and _hides(inner, of_module=True))
    return False


def open_module(module: str) -> ModuleType:
    """Import a module that a program names; only from packages that this process uses anyway. Raises ProgramError."""
    top = module.partition(".")[0]
    hidden = top in sys.stdlib_module_names and any(part.startswith("_") for part in module.split("."))
    hidden = hidden and not is_accelerator(module)
    found = None if closed(module) or (hidden and module != "__main__") else sys.modules.get(module)
    if found is not None:
        return found
    if top not in sys.modules or closed(module) or hidden:
        raise ProgramError(
            f"the module {module!r} is not loaded here; import it in the worker (HOLDFAST_USER_MODULE or its app module)"
        )
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ProgramError(f"the module {module!r} cannot be imported here: {error}") from error


def is_private(module: str, name: str) -> bool:
    """Whether a name is one that the standard library keeps to itself: among them are ways to run code."""
    return name.startswith("_") and _is_standard(module)


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}
