"""How functions are written inside a state: by the names that its program has for them. What it does not name is refused."""

from __future__ import annotations

import functools
import inspect
from inspect import getattr_static
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, cast

from holdfast.codec import register_type
from holdfast.codec.refusals import Refusal, refusal_of
from holdfast.engine.guarded import read
from holdfast.engine.leaving import is_leaving
from holdfast.engine.values import CURRENT
from holdfast.errors import DecodeError
from holdfast.ir.rules import hidden

NAMED: set[type] = {FunctionType, BuiltinFunctionType, MethodType}
"""Types whose objects are found by name, so that two variables may hold one without being saved together."""


def _machine() -> Any:
    """The machine whose state is being written or read; None where there is none, or what is written leaves it."""
    return None if is_leaving() else CURRENT.get(None)


def _key(function: Any) -> str:
    machine = _machine()
    if machine is not None:
        key = machine.code.keys.get(id(function))
        if key is not None:
            return key
        for name, module in machine.code.modules.items():
            if getattr(module, function.__name__, None) is function:
                return f"module {name} {function.__name__}"
    raise refusal_of(function)


def is_named(function: Any) -> bool:
    """Whether the program that is running could keep it."""
    try:
        if isinstance(function, MethodType):
            _name_of_method(function)
        else:
            _key(function)
    except Refusal:
        return False
    return True


def _function(key: object) -> Any:
    machine = _machine()
    found: object = None
    if machine is not None and isinstance(key, str):
        kind, _, name = key.partition(" ")
        if kind == "module":
            module, _, name = name.partition(" ")
            found = _held(machine.code.modules.get(module), name)
        else:
            found = machine.code.named.get(key)
    if not isinstance(found, FunctionType | BuiltinFunctionType):
        raise DecodeError(f"the program has no name for the function {key!r}")
    return found


def _held(view: object, name: str) -> object:
    """What a module has under a name already: asking for another might import it."""
    module = cast("dict[str, object]", getattr(view, "__dict__", {})).get("_hf_module", view)
    return getattr(view, name, None) if name in getattr(module, "__dict__", {}) else None


def _name_of_method(method: MethodType) -> str:
    machine = _machine()
    if machine is not None and method.__self__ is machine.self_object:
        for cls in type(method.__self__).__mro__:
            for name, raw in vars(cls).items():
                if raw is method.__func__:
                    return name
    raise refusal_of(method)


def _method(name: object) -> MethodType:
    machine = _machine()
    found = None
    if machine is not None and isinstance(name, str) and not hidden(name):
        found = inspect.getattr_static(machine.code.cls, name, None)
    if machine is None or not isinstance(found, FunctionType):
        raise DecodeError(f"the workflow has no method {name!r}")
    return MethodType(found, machine.self_object)


def _parts(made: functools.partial[Any]) -> list[Any]:
    if _machine() is None or vars(made):
        raise refusal_of(made)
    return [made.func, list(made.args), made.keywords]


def _partial(parts: Any) -> functools.partial[Any]:
    if _machine() is None:
        raise DecodeError("a functools.partial has a meaning only inside the state it belongs to")
    try:
        function, args, keywords = parts
        return functools.partial(function, *args, **keywords)
    except (TypeError, ValueError) as error:
        raise DecodeError("a functools.partial is damaged") from error


class BoundMethod:
    """A method of an object of the state, by its name: kept between where it is looked up and where it is called."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name

    @classmethod
    def of(cls, found: Any) -> Any:
        """That of a bound method; anything else as it is."""
        owner, name = getattr(found, "__self__", None), getattr(found, "__name__", "")
        if owner is None or hidden(name) or getattr_static(owner.__class__, name, None) is None:
            return found
        return cls(owner, name)


def looked(found: Any) -> Any:
    """What is to be called of what was looked up."""
    return read(found.owner, found.name) if isinstance(found, BoundMethod) else found


def _bound_method(parts: Any) -> BoundMethod:
    try:
        owner, name = parts
    except (TypeError, ValueError) as error:
        raise DecodeError("a method is damaged") from error
    if _machine() is None or not isinstance(name, str) or hidden(name):
        raise DecodeError("a method has a meaning only inside the state it belongs to")
    return BoundMethod(owner, name)


register_type(BoundMethod, encode=lambda m: [m.owner, m.name], decode=_bound_method, name="bound_method")
register_type(FunctionType, encode=_key, decode=_function, name="function")
register_type(BuiltinFunctionType, encode=_key, decode=_function, name="builtin")
register_type(MethodType, encode=_name_of_method, decode=_method, name="method")
register_type(cast("type[functools.partial[Any]]", functools.partial), encode=_parts, decode=_partial, name="partial")
