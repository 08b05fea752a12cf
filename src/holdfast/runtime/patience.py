"""Patience: repeat what the store could not do while it is out of reach. Every verb of a store may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from holdfast.errors import StoreError, StoreUnavailable
from holdfast.logs import get_logger

T = TypeVar("T")
log = get_logger("holdfast.store")


async def patiently(
    act: Callable[[], Awaitable[T]],
    *,
    first: float = 0.05,
    longest: float = 2.0,
    trouble: type[StoreError] = StoreUnavailable,
    stopping: asyncio.Event | None = None,
) -> T:
    """Do it, again and again while it ends in `trouble`. Raises that only once `stopping` is set.

    The pauses grow from `first` to `longest` seconds.
    """
    pause = first
    while True:
        try:
            return await act()
        except trouble as error:
            log.warning("store unavailable", error=str(error), retry_in=pause)
            if await _stopped(stopping, pause):
                raise
            pause = min(pause * 2, longest)


async def _stopped(stopping: asyncio.Event | None, pause: float) -> bool:
    """Let the pause pass, or less: whether to stop was asked meanwhile."""
    if stopping is None:
        await asyncio.sleep(pause)
        return False
    try:
        async with asyncio.timeout(pause):
            await stopping.wait()
    except TimeoutError:
        return False
    return True
