"""One look at everything for all who watch. Taken when somebody asks, and not more often than it may cost."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from holdfast.errors import HoldfastError

T = TypeVar("T")

EVERY = 2.0
"""Seconds between two looks, at least."""
SHARE = 20
"""A look takes this part of the time at most: after one that took a second comes none for twenty."""


class Watch(Generic[T]):
    """Keeps the last look. While nobody asks, nothing happens."""

    def __init__(self, take: Callable[[], Awaitable[T]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._take = take
        self._clock = clock
        self._last: T | None = None
        self._trouble: HoldfastError | None = None
        self._again_at = -math.inf
        self._looking = asyncio.Lock()

    async def look(self) -> T:
        """The last look if it is young enough, else a new one; those who ask meanwhile get the same, or the same error."""
        if self._clock() >= self._again_at:
            async with self._looking:
                # Somebody else may have looked while this one waited.
                if self._clock() >= self._again_at:
                    await self._look()
        if self._trouble is not None:
            raise self._trouble
        assert self._last is not None
        return self._last

    async def _look(self) -> None:
        begun = self._clock()
        try:
            self._last = await self._take()
            self._trouble = None
            took = self._clock() - begun
            self._again_at = begun + max(EVERY, took * SHARE)
        except HoldfastError as error:
            # For all who wait: a database that is gone is not asked by each of them in turn.
            self._trouble = error
            self._again_at = self._clock() + EVERY

    def forget(self) -> None:
        """Something was changed here: whoever asks next gets a new look."""
        self._again_at = -math.inf
