"""Names of classes, and classes by name.
Looks only at what is imported already; never imports, never runs a hook.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

from holdfast.errors import DecodeError

_CLASS_DICT: Any = type.__dict__["__dict__"]
_CLASS_MODULE: Any = type.__dict__["__module__"]
_CLASS_QUALNAME: Any = type.__dict__["__qualname__"]
_CLASS_MRO: Any = type.__dict__["__mro__"]
_SHAPE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST = 512


def name_of(cls: type) -> str:
    """`module:qualname` of a class."""
    return f"{_CLASS_MODULE.__get__(cls)}:{_CLASS_QUALNAME.__get__(cls)}"


def bases_of(cls: type) -> tuple[type, ...]:
    """The class and its bases in method resolution order, whatever its metaclass says."""
    return _CLASS_MRO.__get__(cls)


def namespace_of(cls: type) -> dict[str, Any]:
    """What the class body defined, read past any hook."""
    return _CLASS_DICT.__get__(cls)


def can_be_found(cls: type) -> bool:
    """Whether the class's own name leads back to it in this process."""
    try:
        return look_up(name_of(cls)) is cls
    except DecodeError:
        return False


def look_up(name: str) -> type:
    """The class of this name among the imported modules. Raises DecodeError and says what is missing."""
    if len(name) > _LONGEST or not _SHAPE.fullmatch(name):
        raise DecodeError(f"{name[:200]!r} is not the name of a class")
    module_name, _, qualname = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None or ModuleType not in type(module).__mro__:
        raise unknown_class(name)
    namespace: dict[str, Any] = object.__getattribute__(module, "__dict__")
    found: Any = None
    for part in qualname.split("."):
        found = namespace.get(part)
        # isinstance() would ask a proxy object for its __class__, and so run code.
        if type not in type(found).__mro__:
            raise unknown_class(name)
        namespace = namespace_of(found)
    if _CLASS_QUALNAME.__get__(found) != qualname or _CLASS_MODULE.__get__(found) != module_name:
        raise unknown_class(name)
    return found


def unknown_class(name: str) -> DecodeError:
    """The error for a stored name that no imported module has."""
    module = name.partition(":")[0]
    return DecodeError(
        f"the stored value has the type {name}, which this process does not know; "
        f"import its module in the worker (HOLDFAST_USER_MODULE), here {module!r}"
    )
