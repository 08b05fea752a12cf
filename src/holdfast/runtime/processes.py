"""Processes for calls that must not share one: each runs one call at a time, and can be ended without its neighbours.

Knows no action's outcome and no timeout. A process is spawned when a call needs one, used again, and replaced when it
dies or is ended. `concurrent.futures` shares one pipe among the workers of a pool, so that all of them break with one.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib
import multiprocessing
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from holdfast.codec import TRACEBACK, decode, encode_exception
from holdfast.runtime.background import Background
from holdfast.runtime.current import RUNNING, CurrentJob, Progress, Running
from holdfast.runtime.threads import Threads
from holdfast.task import ACTIONS

START_WITHIN = 60.0
"""Seconds within which a process must have started and imported the action's module."""
END_WITHIN = 1.0
"""Seconds that a process has to end after SIGTERM, before SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCall:
    """A call of an action as it is sent to a process."""

    action: str
    module: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    job: CurrentJob | None = None
    """The job that it belongs to, if any."""


class ProcessLost(Exception):
    """A process gave no answer; the message says what became of it."""


class Processes:
    """Gives each call a process of its own. Who limits the number of calls limits that of processes."""

    def __init__(self) -> None:
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._threads = Threads()
        self._endings = Background()
        # The interpreter waits for its child processes when it exits; an App that nobody closed must not hang there.
        atexit.register(self._end_at_exit)

    async def run(self, call: RemoteCall, *, begins: Callable[[], None], told: Callable[[Progress], None]) -> Any:
        """What the function returns or raises; `begins` is called when a process is ready for it.

        `told` hears how far it is, in a thread.

        Raises ProcessLost if the process did not live to say so. Cancelled, it ends the process.
        """
        process = self._take()
        try:
            if call.module not in process.modules:
                await self._prepare(process, call.module)
            begins()
            answer = await self._threads.run(process, process.ask, call, told)
        except (asyncio.CancelledError, ProcessLost):
            self._end(process)
            raise
        finally:
            if process in self._all:
                self._idle.append(process)
        return answer.value()

    async def close(self) -> None:
        """End all processes; returns when they have ended."""
        for process in list(self._all):
            self._end(process)
        await self._endings.ended()
        self._threads.close()
        atexit.unregister(self._end_at_exit)

    def _take(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            self._end(process)
        process = _Process()
        self._all.add(process)
        return process

    async def _prepare(self, process: _Process, module: str) -> None:
        limit = asyncio.timeout(START_WITHIN)
        try:
            async with limit:
                await self._threads.run(process, process.prepare, module)
        except TimeoutError as error:
            if limit.expired():
                raise ProcessLost(
                    f"was not ready within {START_WITHIN:g} seconds (it imports the main script: what that does when run "
                    'belongs under `if __name__ == "__main__":`)'
                ) from error
            raise

    def _end(self, process: _Process) -> None:
        if process not in self._all:
            return
        self._all.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        self._endings.begin(self._threads.run(process, process.end))

    def _end_at_exit(self) -> None:
        for process in self._all:
            process.end()


@dataclass(frozen=True, slots=True)
class _Returned:
    result: Any

    def value(self) -> Any:
        return self.result


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException
    traceback: str

    def value(self) -> Any:
        if self.traceback:
            # What happened over there is what its reader looks for, not how it came here.
            BaseException.__setattr__(self.error, TRACEBACK, self.traceback)
        raise self.error


_Answer = _Returned | _Failed


class _Process:
    """One process, as seen from here. All but `alive` blocks, and runs in a thread."""

    def __init__(self) -> None:
        # A forked process would inherit the loop, its connections and its locks.
        context = multiprocessing.get_context("spawn")
        self.modules: set[str] = set()
        """Those it has imported."""
        self._here, self._there = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._there,), name="holdfast-action")
        self._started = False
        self._ended = False
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        return self._started and self._process.is_alive()

    def prepare(self, module: str) -> None:
        """Start it, if that was not done yet, and have it import a module. Raises what the import raises."""
        with self._lock:
            if self._ended:
                raise ProcessLost("was ended before it began")
            if not self._started:
                self._process.start()
                self._started = True
                # Only the process itself holds that end now: when it dies, the pipe says so.
                self._there.close()
        self._send(module).value()
        self.modules.add(module)

    def ask(self, call: RemoteCall, told: Callable[[Progress], None]) -> _Answer:
        """Have it run a call."""
        return self._send(call, told)

    def end(self) -> None:
        """End it, whatever it does."""
        with self._lock:
            self._ended = True
            if not self._started:
                return
        self._process.terminate()
        self._process.join(END_WITHIN)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def _send(self, what: str | RemoteCall, told: Callable[[Progress], None] | None = None) -> _Answer:
        try:
            self._here.send(what)
            while isinstance(answer := _unpacked(self._here.recv_bytes()), Progress):
                if told is not None:
                    told(answer)
        except (EOFError, OSError) as error:
            raise ProcessLost("died") from error
        return answer


# --- on the other side


def _serve(link: Connection) -> None:
    """Answer one request after another, until the other side has gone."""
    # Ctrl-C reaches all processes of a terminal; this one ends when its worker says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            link.send_bytes(_packed(_answered(link.recv_bytes(), _Teller(link))))
    except (EOFError, OSError):
        return


class _Teller:
    """Sends what the running call says of itself, before its answer. Its threads may say it, too."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._ended = False

    def tell(self, progress: Progress) -> None:
        with self._lock:
            if not self._ended:
                self._link.send_bytes(pickle.dumps(progress))

    def end(self) -> None:
        """The answer comes next: what a thread that was left behind says is not heard."""
        with self._lock:
            self._ended = True


def _answered(asked: bytes, teller: _Teller) -> _Answer:
    try:
        match pickle.loads(asked):
            case RemoteCall() as call:
                context = copy_context()
                if call.job is not None:
                    context.run(RUNNING.set, Running(call.job, teller.tell))
                return _Returned(context.run(_function(call), *call.args, **call.kwargs))
            case module:
                if module != "__main__":
                    importlib.import_module(module)
                return _Returned(None)
    except BaseException as error:  # noqa: BLE001 - user code, as in the executor, whose place this takes here
        return _failed(error)
    finally:
        teller.end()


def _function(call: RemoteCall) -> Callable[..., Any]:
    name = call.action
    if call.module == "__main__" and name not in ACTIONS:
        # A spawned process has the parent's main module under another name.
        name = name.replace("__main__:", "__mp_main__:", 1)
    return ACTIONS[name].function


def _failed(error: BaseException) -> _Failed:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return _Failed(error, "".join(traceback.format_exception(type(error), error, trace)))


def _packed(answer: _Answer) -> bytes:
    try:
        packed = pickle.dumps(answer)
        if isinstance(answer, _Failed):
            # An exception whose class takes other arguments than `args` fails only here.
            pickle.loads(packed)
        return packed
    except Exception as error:  # noqa: BLE001 - pickling runs what users wrote
        if isinstance(answer, _Failed):
            return pickle.dumps(encode_exception(answer.error))
        return _packed(_failed(error))


def _unpacked(sent: bytes) -> _Answer | Progress:
    got: Any = pickle.loads(sent)
    return got if isinstance(got, _Returned | _Failed | Progress) else _Failed(decode(got), "")
