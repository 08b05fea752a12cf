"""Kinds: which classes are data, and how their state is read and written. Never calls a user's method."""

from __future__ import annotations

import enum
import sys
import types
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeAlias

from holdfast.codec.names import bases_of, name_of, namespace_of
from holdfast.codec.refusals import Refusal
from holdfast.errors import DecodeError

Kind: TypeAlias = Literal["fields", "struct", "pydantic", "namedtuple", "enum", "exception"]

_INSTANCE_DICT = "__dict__"
# typing puts it on instances of a subscripted generic; it is a hint, not state.
_NOT_STATE = "__orig_class__"
_MACHINERY = frozenset({"asyncio", "holdfast", "pydantic", "pydantic_settings"})
_DATA_IN_MACHINERY = (
    "holdfast.cli.demo_app.",
    "holdfast.engine.iterate.",
    "holdfast.model.",
    "holdfast.retry.",
    "pydantic.root_model.",
)
_BLANK_MAKERS = (object, Generic)  # Generic is written in C from Python 3.12 on


@dataclass(frozen=True, slots=True)
class Plan:
    """How instances of one class are taken apart and put together."""

    cls: type
    name: str
    kind: Kind
    slots: dict[str, Any]  # name -> the descriptor that reads and writes it
    has_dict: bool


@lru_cache(maxsize=4096)
def plan_of(cls: type) -> Plan | None:
    """The plan for a class, or None when its instances are not data."""
    kind = _kind_of(cls)
    if kind is None:
        return None
    return Plan(cls, name_of(cls), kind, _slots_of(cls), _has_dict(cls))


def _kind_of(cls: type) -> Kind | None:
    bases = bases_of(cls)
    if BaseException in bases:
        return "exception" if builtin_maker(cls).__module__ == "builtins" or is_validation_error(cls) else None
    if enum.Enum in bases:
        return "enum"
    if _is_machinery(cls):
        return None
    struct = _loaded("msgspec", "Struct")
    if struct is not None and struct in bases and struct is not cls:
        return "struct"
    if tuple in bases:
        fields = next((vars_["_fields"] for vars_ in map(namespace_of, bases) if "_fields" in vars_), None)
        return "namedtuple" if type(fields) is tuple else None
    if builtin_maker(cls) not in _BLANK_MAKERS:
        return "fields" if cls is types.SimpleNamespace else None
    model = _loaded("pydantic.main", "BaseModel")
    if model is not None and model in bases:
        return "pydantic" if model is not cls else None
    marks = ("__dataclass_fields__", "__attrs_attrs__")
    return "fields" if any(mark in namespace_of(base) for base in bases for mark in marks) else None


def is_validation_error(cls: type) -> bool:
    """Whether it is that of pydantic, which is made in one piece from what is wrong with each field."""
    return cls is _loaded("pydantic_core", "ValidationError")


def _is_machinery(cls: type) -> bool:
    """Whether a class is part of what runs workflows, and no data of anybody's even where it has fields."""
    module = name_of(cls).partition(":")[0]
    return module.partition(".")[0] in _MACHINERY and not f"{module}.".startswith(_DATA_IN_MACHINERY)


def is_plain_class(cls: type) -> bool:
    """Whether a class may stand as a value: calling it makes an object of data, and reads and makes nothing else."""
    bases = bases_of(cls)
    if type in bases:
        return False
    if enum.Enum in bases:
        # One without members makes classes when it is called.
        return bool(namespace_of(cls).get("_member_map_"))
    settings = _loaded("pydantic_settings.main", "BaseSettings")
    return settings is None or settings not in bases


def _loaded(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


PLAIN_FACTORIES = (list, dict, set, tuple, frozenset, str, int, float, bool, bytes)
"""Default factories that run no code of the user's."""


def builtin_maker(cls: type) -> Any:
    """The base, written in C, whose `__new__` makes a blank instance of the class."""
    for base in bases_of(cls):
        if type(namespace_of(base).get("__new__")) is types.BuiltinFunctionType:
            return base
    return object


def _slots_of(cls: type) -> dict[str, Any]:
    slots: dict[str, Any] = {}
    for base in reversed(bases_of(cls)):
        members = namespace_of(base)
        if "__slots__" not in members:
            continue
        for name, member in members.items():
            if type(member) is types.MemberDescriptorType and not _is_dunder(name):
                slots[name] = member
    return slots


def _has_dict(cls: type) -> bool:
    return cls.__dictoffset__ != 0


def namespace_in(value: object) -> dict[str, Any]:
    """The instance's own `__dict__`."""
    return object.__getattribute__(value, _INSTANCE_DICT)


def state_of(value: object, plan: Plan) -> dict[str, Any]:
    """What an instance holds, in its slots and its `__dict__`. Fields that were never set are absent."""
    state: dict[str, Any] = {}
    for name, slot in plan.slots.items():
        try:
            state[name] = slot.__get__(value)
        except AttributeError:
            continue
    if plan.has_dict:
        for name, item in namespace_in(value).items():
            if _is_dunder(name):
                if name == _NOT_STATE or plan.kind == "exception":
                    continue
                raise Refusal(f"the attribute {name} of a {plan.name} cannot be saved", kind=plan.name)
            state[name] = item
    return state


def set_state(value: object, plan: Plan, name: str, item: object) -> None:
    """Sets one field as if by its slot or in `__dict__`, past properties and `__setattr__`."""
    slot = plan.slots.get(name)
    if slot is not None:
        slot.__set__(value, item)
    elif plan.has_dict and not _is_dunder(name):
        namespace_in(value)[name] = item
    else:
        raise DecodeError(f"{plan.name} has no field {name[:100]!r}")


def _is_dunder(name: Any) -> bool:
    return type(name) is not str or (name.startswith("__") and name.endswith("__"))
