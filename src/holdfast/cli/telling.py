"""What a worker tells its supervisor, from a thread: that it is ready, that it has done its share, and how it is.

A line is a word, and for some words JSON. The thread tells also while the event loop is blocked.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time

from holdfast.logs import get_logger
from holdfast.runtime.reading import Pulse, take_reading, write_reading
from holdfast.runtime.worker import Worker

log = get_logger("holdfast.worker")

VARIABLE = "HOLDFAST_SUPERVISOR_FD"
"""Where a worker finds the pipe to its supervisor."""
LOOK_EVERY = 0.1
"""Seconds between two looks whether there is something to tell, and whether the supervisor is there."""
TELL_EVERY = 1.0
"""Seconds between two readings."""
PATIENCE = 2.0
"""Seconds that a supervisor has to take the last words."""


class Teller:
    """Tells the supervisor of one worker; asks the worker to end when the supervisor is gone."""

    def __init__(self, worker: Worker, pulse: Pulse) -> None:
        self._worker = worker
        self._pulse = pulse
        self._limit = worker.settings.max_action_lifecycle
        self._parent = os.getppid()
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._told: set[str] = set()
        self._next = 0.0
        self._thread = threading.Thread(target=self._run, name="holdfast-telling", daemon=True)
        self._thread.start()

    async def end(self) -> None:
        """Tell how the worker is now, and nothing more."""
        self._ended.set()
        await asyncio.to_thread(self._thread.join, PATIENCE)

    def _run(self) -> None:
        try:
            while not self._ended.wait(LOOK_EVERY):
                if os.getppid() != self._parent:
                    self._stop_worker()
                    return
                self._tell()
            self._next = 0.0
            self._tell()
        except OSError as error:
            log.warning("supervisor gone", error=str(error))
            self._stop_worker()

    def _tell(self) -> None:
        worker = self._worker
        if worker.ready.is_set():
            self._tell_once("ready")
        if self._limit is not None and worker.finished_actions >= self._limit:
            self._tell_once("recycle")
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + TELL_EVERY
            say(b"reading " + write_reading(take_reading(worker, self._pulse)))

    def _tell_once(self, word: str) -> None:
        if word not in self._told:
            self._told.add(word)
            say(word.encode())

    def _stop_worker(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._worker.stop)
        except RuntimeError:
            # Its loop has ended, and so has the worker.
            return


def say(words: bytes) -> bool:
    """Tell the supervisor; False where there is none. Raises OSError where it does not listen any more."""
    channel = os.environ.get(VARIABLE)
    if channel is None:
        return False
    line = memoryview(words + b"\n")
    while line:
        line = line[os.write(int(channel), line) :]
    return True
