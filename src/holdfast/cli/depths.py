"""How much is in each queue, for metrics: asked of the broker when somebody scrapes, by a thread of its own. Claims nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from holdfast.app import App
from holdfast.errors import HoldfastError
from holdfast.logs import get_logger
from holdfast.observe.watch import Watch
from holdfast.runtime.counting import Numbers, Tally

T = TypeVar("T")

log = get_logger("holdfast.metrics")

NAME = "holdfast_queue_depth"
MOST = 100_000
"""Jobs of a queue that are counted, at most."""
PATIENCE = 3.0
"""Seconds that an answer may take, so that a database that is out of reach keeps nobody from the other numbers."""


class Depths:
    """Asks over connections of its own, which are opened with the first question, until it is closed."""

    def __init__(self, app: App) -> None:
        self._app = App(app.name, settings=app.settings)
        self._broker = self._app.broker
        traits = self._broker.home.traits
        # In memory there is nothing to share; where messages have to be peeked at, no answer is cheap.
        self._asks = traits.lists_all and not traits.ephemeral
        self._watch = Watch(self._take)
        self._opened = False
        self._said = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="holdfast-depths", daemon=True)
        self._thread.start()

    def numbers(self) -> Numbers:
        """The gauge; nothing where the broker does not answer. Blocks for a few seconds at most. Safe to call from any thread."""
        if not self._asks:
            return {}
        asked = self._ask(self._watch.look())
        try:
            found = asked.result(PATIENCE)
        except (HoldfastError, TimeoutError) as error:
            asked.cancel()
            if not self._said:
                log.warning("queues not counted", error=str(error) or f"no answer within {PATIENCE:.0f} seconds")
            self._said = True
            return {}
        self._said = False
        return found

    def close(self) -> None:
        """Ask nothing more."""
        try:
            self._ask(self._end()).result(PATIENCE)
        except (HoldfastError, TimeoutError) as error:
            log.warning("connections not closed", error=str(error))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()

    def _ask(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _take(self) -> Numbers:
        if not self._opened:
            await self._broker.home.open(create=False)
            self._opened = True
        tally = Tally()
        for depth in await self._broker.depths(now=self._app.now(), most=MOST):
            for state in ("waiting", "delayed", "running", "dead"):
                tally.add((depth.queue, state), getattr(depth, state) or 0)
        return {NAME: tally.series}

    async def _end(self) -> None:
        if self._opened:
            await self._broker.home.close()
