"""What programs that nobody vouches for call where they read or change an attribute. Gives what Python gives, or refuses."""

from __future__ import annotations

import _string  # pyright: ignore[reportMissingImports] - what str.format splits fields with
import builtins
import types
import typing
from collections import UserString
from collections.abc import Callable, Iterable, Iterator
from string import Formatter
from sys import stdlib_module_names
from typing import Any, cast

from pydantic import BaseModel

from holdfast.ir.rules import hidden

READ, OWNER, ITEM, SLICE = "_hf_read", "_hf_owner", "_hf_item", "_hf_slice"
"""What rewritten text calls, by its names there."""

_FORMATS = frozenset({"format", "format_map"})
_MODEL_TOOLS = frozenset({"parse_raw", "parse_file", "model_rebuild", "update_forward_refs"})
"""What models inherit that loads pickles or evaluates annotations."""

CHECKED = _FORMATS | _MODEL_TOOLS | {"mro", "__class__"}
"""Attributes that are open or closed depending on their object."""

_NAMED_TUPLE = frozenset({"_replace", "_asdict", "_fields", "_make", "_field_defaults"})
_CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)
_split: Callable[[str], tuple[object, Iterable[tuple[bool, str | int]]]] = cast(Any, _string).formatter_field_name_split


def read(target: Any, name: str) -> Any:
    """`target.name`. Raises AttributeError where it leads behind the declared names."""
    found: Any = getattr(target, name)
    if name in _FORMATS:
        return _checked_format(found)
    if name == "__class__":
        return _instance_class(found)
    if name == "mro" and isinstance(target, type):
        raise closed(name)
    if name in _MODEL_TOOLS and (isinstance(target, BaseModel) or _is_model(target)):
        raise closed(name)
    if _is_internal(target, name):
        raise closed(name)
    return found


def owner(target: Any, name: str) -> Any:
    """`target`, whose attribute `name` is about to change. Raises AttributeError where that would change code."""
    if isinstance(target, _CODE) or _is_internal(target, name):
        raise closed(name)
    return target


def item(target: Any, key: Any) -> Any:
    """`target[key]`. Raises TypeError for a generic model of a text, which pydantic would evaluate."""
    if _is_model(target) and any(_texts(key)):
        raise TypeError(f"{target.__name__}[…] is closed to texts, which would be evaluated")
    return target[key]


def closed(name: str) -> AttributeError:
    """The error for an attribute that is not for workflow code."""
    return AttributeError(f"the attribute {name!r} is closed to workflow code")


def _is_model(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseModel)


def _is_internal(target: Any, name: str) -> bool:
    """Whether `name` is one that a library keeps to itself: among them are ways to run code."""
    if not name.startswith("_") or name.startswith("__") or name in _NAMED_TUPLE:
        return False
    named = target if isinstance(target, _CODE) else type(target)
    module = getattr(named, "__module__", None)
    if not isinstance(module, str) or module == "__main__":
        return False
    library = module.partition(".")[0] in stdlib_module_names | {"pydantic", "pydantic_core"}
    return library or module.startswith("holdfast.engine.")


def _texts(key: Any) -> Iterator[object]:
    if isinstance(key, str | typing.ForwardRef):
        yield key
    several = isinstance(key, tuple | list)
    for part in cast("Iterable[Any]", key if several else getattr(key, "__args__", None) or ()):
        yield from _texts(part)


def _checked_format(found: Any) -> Any:
    """The formatter of a text with its fields checked; anything else that is called `format` as it is."""
    bound: object = getattr(found, "__self__", None)
    plain = getattr(found, "__func__", found)
    if plain is UserString.format or plain is UserString.format_map:
        check_first = bound is None
    elif isinstance(found, types.BuiltinMethodType) and isinstance(bound, str):
        check_first = False
    elif found is str.format or found is str.format_map:
        check_first = True
    else:
        return found

    def formatted(*args: Any, **kwargs: Any) -> Any:
        text = args[0] if check_first and args else bound
        while isinstance(text, UserString):
            text = text.data
        if isinstance(text, str):
            _check_fields(text)
        return found(*args, **kwargs)

    formatted.__name__ = formatted.__qualname__ = found.__name__
    return formatted


def _check_fields(text: str) -> None:
    for _, field, spec, _ in Formatter().parse(text):
        if field:
            for is_attribute, name in _split(field)[1]:
                if is_attribute and isinstance(name, str) and (hidden(name) or name.startswith("_")):
                    raise closed(name)
        if spec:
            _check_fields(spec)


# --- builtins in the place of Python's


def _get(target: Any, name: str, *default: Any) -> Any:
    if not isinstance(name, str) or len(default) > 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        return getattr(target, name, *default)
    if hidden(name):
        raise closed(name)
    try:
        return read(target, name)
    except AttributeError:
        if default:
            return default[0]
        raise


def _set(target: Any, name: str, value: Any) -> None:
    if isinstance(name, str) and hidden(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise closed(name)
    setattr(owner(target, name), name, value)


def _delete(target: Any, name: str) -> None:
    if isinstance(name, str) and hidden(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise closed(name)
    delattr(owner(target, name), name)


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    return function


def _instance_class(found: Any) -> Any:
    if isinstance(found, type) and issubclass(cast("type[Any]", found), type):
        raise TypeError("the class of a class is closed to workflow code: it makes classes")
    return cast(Any, found)


class _OneArgument(type):
    """Makes `type` answer as Python's does, but make no class."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or kwargs:
            raise TypeError("type() takes one argument in workflow code; define the class in a module")
        return _instance_class(builtins.type(args[0]))

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, builtins.type)

    def __subclasscheck__(cls, subclass: Any) -> bool:
        return issubclass(subclass, builtins.type)

    def __getitem__(cls, item: Any) -> types.GenericAlias:
        return types.GenericAlias(cls, item)

    def __repr__(cls) -> str:
        return repr(builtins.type)


_Type = _OneArgument("type", (), {"__module__": __name__})


GUARD: dict[str, Any] = {READ: read, OWNER: owner, ITEM: item, SLICE: slice}
"""What rewritten text calls."""

GUARDED_BUILTINS: dict[str, Any] = {
    "getattr": _named(_get, "getattr"),
    "setattr": _named(_set, "setattr"),
    "delattr": _named(_delete, "delattr"),
    "type": _Type,
}
"""Builtins that take the place of Python's in such a program."""
