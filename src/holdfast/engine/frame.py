"""The variables of one running function."""

from __future__ import annotations

import re
from typing import Any, NoReturn

_COMPILERS = re.compile(r"^_hf\d+_")


class Vars(dict[str, Any]):
    """A frame's namespace. Reading an unbound name fails as it does in Python."""

    __slots__ = ("value",)

    value: Any
    """What the block that just ran returns or waits for."""

    def __missing__(self, name: str) -> NoReturn:
        # A comprehension's variable has a name of the compiler's before its own.
        own = _COMPILERS.sub("", name)
        raise UnboundLocalError(f"cannot access local variable {own!r} where it is not associated with a value")

    def free(self, name: str) -> Any:
        """The variable as a nested function reads it."""
        if name not in self:
            raise NameError(
                f"cannot access free variable {name!r} where it is not associated with a value in enclosing scope"
            )
        return self[name]

    def let(self, name: str, value: Any) -> Any:
        """`(name := value)`"""
        self[name] = value
        return value

    def bind(self, /, **names: Any) -> bool:
        """Bind several names; always true, so that it may stand in a guard."""
        self.update(names)
        return True

    def drop(self, name: str) -> None:
        """`del name`"""
        if name not in self:
            self.__missing__(name)
        del self[name]

    def unbind(self, name: str) -> None:
        """Unbind a name that may be unbound already."""
        self.pop(name, None)
