"""What is asked for outside of a workflow: a coroutine, which asyncio takes where it takes one. Begins nothing by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

R = TypeVar("R")


class Outside(Coroutine[Any, Any, R]):
    """A coroutine that is made when its first step is asked for. A subclass has a slot `_coroutine`."""

    __slots__ = ()

    _coroutine: Coroutine[Any, Any, R]
    """Without a value until it has begun."""

    @abstractmethod
    def begin(self) -> Coroutine[Any, Any, R]:
        """What is to run; it counts as used from now on."""

    def __await__(self) -> Generator[Any, Any, R]:
        return self._begun().__await__()

    def send(self, value: Any, /) -> Any:
        """Run until it waits, as of any coroutine."""
        return self._begun().send(value)

    def throw(self, error: Any, value: Any = None, trace: Any = None, /) -> Any:
        """Raise an exception where it waits, as of any coroutine."""
        if value is None and trace is None:
            return self._begun().throw(error)
        return self._begun().throw(error, value, trace)

    def close(self) -> None:
        """End it where it waits, as of any coroutine."""
        self._begun().close()

    def _begun(self) -> Coroutine[Any, Any, R]:
        if not hasattr(self, "_coroutine"):
            self._coroutine = self.begin()
        return self._coroutine
