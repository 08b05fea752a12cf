"""Work in the background: tasks that are begun and not waited for, held until they end. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """Tasks that nobody awaits. The event loop alone would hold them weakly, and might lose them halfway."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether any of them runs."""
        return bool(self._tasks)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside everything else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ended(self) -> None:
        """Return when all of them have ended; raises what the first to fail has raised."""
        await asyncio.gather(*self._tasks)

    def cancel(self) -> None:
        """Ask all of them to end."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """End all of them; returns when they have ended, in whichever way."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
