"""What decorators have made of functions, and what they say that they have wrapped. Looks at objects; runs nothing of them."""

from __future__ import annotations

import functools
import inspect
import sysconfig
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any, TypeGuard, cast


def is_async(value: object) -> TypeGuard[FunctionType]:
    """Whether it is itself an `async def`, whatever a decorator has marked it as."""
    return isinstance(value, FunctionType) and bool(value.__code__.co_flags & inspect.CO_COROUTINE)


def hides_async(value: object) -> bool:
    """Whether it has wrapped an async function without being one: calling it gives a coroutine that nothing can keep."""
    if isinstance(value, type) or is_async(plain(value)) or action_of(value) is not None:
        return False
    for inner in wrapped_in(plain(value)):
        if action_of(inner) is not None:
            return False
        if is_async(inner):
            return True
    return False


def binds_async(value: object) -> bool:
    """Whether it is an async function with arguments or an object put into it: what it calls cannot be compiled in."""
    while isinstance(value, functools.partial):
        value = cast("functools.partial[object]", value).func
        if is_async(value):
            return True
    return isinstance(value, MethodType) and action_of(value) is None and is_async(plain(value))


def plain(value: object) -> Any:
    """The function behind a method, a static or class method, or a descriptor of the workflow layer; else the value itself."""
    if isinstance(value, FunctionType):
        return value  # it may have copied the attributes of what it wraps
    if type(value) in (staticmethod, classmethod, MethodType):
        return cast(Any, value).__func__
    return getattr(value, "__holdfast_original__", value)


def behind_static(value: object) -> object:
    """The function of a static method, which a decorator may hold; else the value itself."""
    return cast(Any, value).__func__ if type(value) is staticmethod else value


def action_of(value: object) -> str | None:
    """The name of the action that it is. A wrapper of one has copied its attributes, and is none."""
    name = getattr(value, "__holdfast_action__", None)
    if not isinstance(name, str):
        return None
    wraps_one = any(hasattr(inner, "__holdfast_action__") for inner in wrapped_in(value))
    return None if wraps_one and not type(value).__module__.startswith("holdfast.") else name


def wrapped_in(value: object) -> Iterator[object]:
    """What it says that it wraps, what that wraps, and so on."""
    for _ in range(100):
        value = cast("dict[str, object]", getattr(value, "__dict__", {})).get("__wrapped__")
        if value is None:
            return
        value = plain(value)
        yield value


def module_of(function: FunctionType) -> str:
    """The module that a function stands in; a wrapper has copied the name of another."""
    space: dict[str, Any] = cast(Any, function).__globals__
    return str(space.get("__name__")) if "__wrapped__" in vars(function) else function.__module__


def title_of(function: FunctionType) -> str:
    """A function's qualified name where it stands; a wrapper has copied that of another."""
    return function.__code__.co_qualname if "__wrapped__" in vars(function) else function.__qualname__


def class_around(function: FunctionType) -> str | None:
    """The name of the class in whose body a function stands, if it stands in one."""
    parts = function.__code__.co_qualname.split(".")[:-1]
    while parts and parts[-1] == "<locals>":
        del parts[-2:]
    return parts[-1] if parts else None


def users_own(function: FunctionType) -> bool:
    """Whether a function belongs to the application and not to an installed library."""
    file = function.__code__.co_filename
    if "site-packages" in file or "dist-packages" in file:
        return False
    return not file.startswith((sysconfig.get_path("stdlib"), "<frozen"))


def librarys_wrapper(function: FunctionType) -> bool:
    """Whether a decorator of an installed library has put its own function in the place of the user's."""
    wrapped = [inner for inner in wrapped_in(function) if isinstance(inner, FunctionType)]
    return not users_own(function) and any(map(users_own, wrapped))
