"""Threads for calls that block: as many as are needed, used again, and left behind where they are stuck.

Knows no action. Its threads are daemons: neither the interpreter nor a closing worker waits for one that is stuck.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any


class Threads:
    """Gives each call a thread at once. Who limits the number of calls limits that of threads, but for stuck ones."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self.stuck: set[Hashable] = set()
        """Whose calls go on although nobody waits for them any more; `changed` is called when it changes."""
        self._changed = changed
        self._idle: list[_Thread] = []
        self._closed = False
        self._loop = asyncio.get_running_loop()

    async def run(self, caller: Hashable, function: Callable[..., Any], *args: Any) -> Any:
        """What the function returns or raises. Cancelled, it leaves the thread to the function until that ends."""
        answer: asyncio.Future[_Answer] = self._loop.create_future()
        thread = self._idle.pop() if self._idle else _Thread(self._loop)
        thread.calls.put((function, args, lambda given: self._ended(thread, caller, answer, given)))
        try:
            value, error = await answer
        except asyncio.CancelledError:
            if answer.cancelled():
                self.stuck.add(caller)
                self._changed()
            raise
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """End the threads that are idle, and each other one when its call ends."""
        self._closed = True
        for thread in self._idle:
            thread.calls.put(None)
        self._idle.clear()

    def _ended(self, thread: _Thread, caller: Hashable, answer: asyncio.Future[_Answer], given: _Answer) -> None:
        if self._closed:
            thread.calls.put(None)
        else:
            self._idle.append(thread)
        if not answer.done():
            answer.set_result(given)
        elif caller in self.stuck:
            self.stuck.discard(caller)
            self._changed()


_Answer = tuple[Any, BaseException | None]


class _Thread:
    """A thread and what it is asked to call: a function, its arguments, and whom to tell in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], Callable[[_Answer], None]] | None]
        self.calls = SimpleQueue()
        self._loop = loop
        threading.Thread(target=self._work, name="holdfast-action", daemon=True).start()

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            function, args, tell = call
            answer = _answer(function, args)
            try:
                self._loop.call_soon_threadsafe(tell, answer)
            except RuntimeError:
                # The loop is closed: nobody waits, and nobody will call again.
                return
            # An idle thread keeps nothing of its last call alive.
            del call, function, args, tell, answer


def _answer(function: Callable[..., Any], args: tuple[Any, ...]) -> _Answer:
    try:
        return function(*args), None
    except BaseException as error:  # noqa: BLE001 - it is raised again where the call is awaited
        return None, error
