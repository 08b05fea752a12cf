"""Reporting: how far jobs are, as their tasks say, written together and not too often. Knows no outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson

from holdfast.errors import DecodeError, LeaseLost, StoreError
from holdfast.ids import JobId, WorkerId
from holdfast.logs import get_logger
from holdfast.ports import Broker
from holdfast.runtime.background import Background
from holdfast.runtime.current import Progress

log = get_logger("holdfast.worker")

EVERY = 0.5
"""Seconds between two writings."""


class Reporter:
    """What the jobs of one worker have said of themselves since the last writing."""

    def __init__(self, worker: WorkerId, *, broker: Broker, background: Background) -> None:
        self._worker = worker
        self._broker = broker
        self._background = background
        self._loop = asyncio.get_running_loop()
        self._said: dict[JobId, Progress] = {}
        self._due: asyncio.TimerHandle | None = None

    def tell(self, id: JobId, progress: Progress) -> None:
        """Keep what a job says, from whichever thread."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._keep(id, progress)
        else:
            self._loop.call_soon_threadsafe(self._keep, id, progress)

    def forget(self, id: JobId) -> None:
        """The job has ended, or is held here no more."""
        self._said.pop(id, None)

    def close(self) -> None:
        """Write nothing more."""
        self._said.clear()
        if self._due is not None:
            self._due.cancel()

    def _keep(self, id: JobId, progress: Progress) -> None:
        self._said[id] = progress
        if self._due is None:
            self._write()

    def _write(self) -> None:
        """Write what was said, and nothing for a while."""
        self._due = None
        if self._said:
            said, self._said = self._said, {}
            self._due = self._loop.call_later(EVERY, self._write)
            self._background.begin(self._report({id: written(each) for id, each in said.items()}))

    async def _report(self, said: Mapping[JobId, bytes]) -> None:
        try:
            await self._broker.report(self._worker, said)
        except LeaseLost:
            # Whoever holds them now tells how far they are.
            return
        except StoreError as error:
            log.warning("progress not written", jobs=len(said), error=str(error))


def written(progress: Progress) -> bytes:
    """How far a job is, as brokers keep it."""
    return orjson.dumps(list(progress))


def read(said: bytes | None) -> Progress | None:
    """What brokers keep, as it was said. Raises DecodeError."""
    if said is None:
        return None
    try:
        done, of, note = orjson.loads(said)
        return Progress(float(done), None if of is None else float(of), str(note))
    except (TypeError, ValueError) as error:
        raise DecodeError(f"this is no progress: {said[:100]!r}") from error
