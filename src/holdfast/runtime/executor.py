"""Run one attempt of an action: in the loop, a thread or a process; with its dependencies and its timeout.

Turns whatever happens into a value or an error. Knows no instance and no store.
"""

from __future__ import annotations

import asyncio
import heapq
import importlib
import inspect
import multiprocessing
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from holdfast.codec import PRIMITIVES, Tree, decode, encode, encode_exception
from holdfast.errors import ActionTimeout, CodecError, ProgramError
from holdfast.inject import provided
from holdfast.retry import DEFAULT_TIMEOUT
from holdfast.task import ACTIONS, Action


@dataclass(frozen=True, slots=True)
class Gave:
    """The action returned; `tree` is its encoded value."""

    value: Any
    tree: Tree


@dataclass(frozen=True, slots=True)
class Raised:
    """The action failed; `tree` is its encoded exception."""

    error: BaseException
    tree: Tree


Report = Callable[[Gave | Raised], None]


class Attempt:
    """One attempt: what to call with what, for how long at most, and whom to tell."""

    __slots__ = ("arguments", "dropped", "expired", "name", "payload", "report", "task", "timeout")

    def __init__(
        self,
        name: str,
        payload: Tree,
        arguments: tuple[tuple[Any, ...], dict[str, Any]] | None,
        timeout: float | None,
        report: Report,
    ) -> None:
        self.name = name
        self.payload = payload
        self.arguments = arguments
        self.timeout = DEFAULT_TIMEOUT if timeout is None else timeout
        self.report = report
        self.task: asyncio.Task[Gave | Raised | None] | None = None
        self.expired = False
        self.dropped = False


class Deadlines:
    """Ends attempts that run for too long. One timer for all: a timer each would cost more than a short action."""

    def __init__(self, running: set[Attempt]) -> None:
        self._running = running
        self._heap: list[tuple[float, int, Attempt]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, attempt: Attempt) -> None:
        """Watch an attempt that begins now."""
        if len(self._heap) > 1000 + 4 * len(self._running):
            # Attempts that ended in time are left in the heap until there are too many of them.
            self._heap = [entry for entry in self._heap if entry[2] in self._running]
            heapq.heapify(self._heap)
        self._count += 1
        at = self._loop.time() + attempt.timeout
        heapq.heappush(self._heap, (at, self._count, attempt))
        if self._timer is None or at < self._timer.when():
            self._arm()

    def close(self) -> None:
        """Watch no more."""
        self._heap.clear()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0][0], self._ring) if self._heap else None

    def _ring(self) -> None:
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            attempt = heapq.heappop(self._heap)[2]
            if attempt in self._running and attempt.task is not None:
                attempt.expired = True
                attempt.task.cancel()
        self._timer = None
        self._arm()


class Executor:
    """Runs attempts, `concurrency` at a time; the others wait in order."""

    def __init__(self, *, concurrency: int, stub: Callable[[str], Callable[..., Any] | None] | None = None) -> None:
        self.concurrency = concurrency
        self.running: set[Attempt] = set()
        self.waiting: deque[Attempt] = deque()
        self.finished = 0
        self._closed = False
        self._stub = stub
        self._threads: ThreadPoolExecutor | None = None
        self._processes: ProcessPoolExecutor | None = None
        self._deadlines = Deadlines(self.running)
        self._idle = asyncio.Event()
        self._idle.set()

    def stubbed(self, name: str) -> bool:
        """Whether a test has put something in place of this action."""
        return self._stub is not None and self._stub(name) is not None

    @property
    def load(self) -> int:
        """How many attempts run or wait."""
        return len(self.running) + len(self.waiting)

    def submit(self, attempt: Attempt) -> None:
        """Run it as soon as there is room. Its report is called from the event loop, once, unless it is dropped."""
        if self._closed:
            return
        if len(self.running) < self.concurrency:
            self._begin(attempt)
        else:
            self.waiting.append(attempt)

    def drop(self, attempt: Attempt) -> None:
        """Stop it if it can be stopped; its report is not called any more."""
        attempt.report = _nobody
        attempt.dropped = True
        if attempt.task is not None:
            attempt.task.cancel()
        else:
            try:
                self.waiting.remove(attempt)
            except ValueError:
                return

    async def drained(self) -> None:
        """Return once nothing runs."""
        await self._idle.wait()

    def close(self) -> None:
        """Stop everything. Threads that run user code end with it."""
        self._closed = True
        self.waiting.clear()
        self._deadlines.close()
        for attempt in list(self.running):
            self.drop(attempt)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            for process in list((self._processes._processes or {}).values()):
                process.terminate()
            self._processes.shutdown(wait=False, cancel_futures=True)

    def _begin(self, attempt: Attempt) -> None:
        self.running.add(attempt)
        self._idle.clear()
        self._deadlines.add(attempt)
        attempt.task = asyncio.create_task(self._outcome(attempt))
        attempt.task.add_done_callback(lambda _: self._ended(attempt))

    def _ended(self, attempt: Attempt) -> None:
        """Its task has ended, in whichever way, perhaps before its first step."""
        self.running.discard(attempt)
        self.finished += 1
        task = attempt.task
        assert task is not None
        outcome: Gave | Raised | None = None
        if not task.cancelled():
            error = task.exception()
            outcome = task.result() if error is None else _raised(error)
        if outcome is not None:
            attempt.report(outcome)
        while self.waiting and len(self.running) < self.concurrency:
            self._begin(self.waiting.popleft())
        if not self.running:
            self._idle.set()

    async def _outcome(self, attempt: Attempt) -> Gave | Raised | None:
        """What became of it; None if it was cancelled from here."""
        try:
            value = await self._call(attempt)
        except asyncio.CancelledError as error:
            if not attempt.expired:
                if attempt.dropped or self._closed:
                    raise
                # Nobody here cancelled it: the action did so itself.
                return _raised(error)
            timeout = ActionTimeout(f"action {attempt.name} ran longer than its {attempt.timeout:g} seconds")
            return Raised(timeout, encode_exception(timeout))
        except BrokenProcessPool as error:
            lost = ActionTimeout(f"the process that ran action {attempt.name} died")
            lost.__cause__ = error
            self._processes = None
            return Raised(lost, encode_exception(lost))
        except BaseException as error:  # noqa: BLE001 - this is where user code runs
            return _raised(error)
        try:
            tree = encode(value)
            return Gave(value if type(value) in PRIMITIVES else decode(tree), tree)
        except CodecError as error:
            error.add_note(f"it was returned by action {attempt.name}")
            return Raised(error, encode_exception(error))

    async def _call(self, attempt: Attempt) -> Any:
        args, kwargs = _arguments(attempt)
        stub = self._stub(attempt.name) if self._stub is not None else None
        if stub is not None:
            result = stub(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        action = ACTIONS.get(attempt.name)
        if action is None:
            raise ProgramError(f"no action {attempt.name!r} is defined here")
        if action.is_async and not action.plan.needs:
            return await action.function(*args, **kwargs)
        async with provided(action.plan) as injected:
            if action.is_async:
                return await action.function(*args, **injected, **kwargs)
            if action.pool == "process":
                call = (action.name, action.function.__module__, list(args), {**injected, **kwargs})
                return await self._in_pool(self._process_pool(), _in_process, *call)
            return await self._in_thread(action, args, {**injected, **kwargs})

    async def _in_thread(self, action: Action[Any, Any], args: Any, kwargs: Any) -> Any:
        context = copy_context()
        return await self._in_pool(self._thread_pool(), context.run, _plainly, action.function, args, kwargs)

    @staticmethod
    async def _in_pool(pool: Pool, function: Callable[..., Any], *args: Any) -> Any:
        result = await asyncio.get_running_loop().run_in_executor(pool, function, *args)
        return await result if inspect.isawaitable(result) else result

    def _thread_pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.concurrency, thread_name_prefix="holdfast-action")
        return self._threads

    def _process_pool(self) -> ProcessPoolExecutor:
        if self._processes is None:
            # A forked child would inherit the loop, its connections and its locks.
            context = multiprocessing.get_context("spawn")
            self._processes = ProcessPoolExecutor(self.concurrency, mp_context=context)
        return self._processes


def _arguments(attempt: Attempt) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments: as they are where they cannot change, else copies, as if they had come from far away."""
    if attempt.arguments is not None:
        args, kwargs = attempt.arguments
        if all(type(a) in PRIMITIVES for a in args) and all(type(a) in PRIMITIVES for a in kwargs.values()):
            return args, kwargs
    args, kwargs = decode(attempt.payload)
    return tuple(args), kwargs


def _raised(error: BaseException) -> Raised:
    trace = error.__traceback__
    # Leave out the frames of this file: a person looks for their own.
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    tree = encode_exception(error)
    error.__traceback__ = None
    return Raised(error, tree)


def _plainly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _in_process(name: str, module: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if module == "__main__":
        # A spawned process has the parent's main module under another name.
        name = name.replace("__main__:", "__mp_main__:", 1) if name not in ACTIONS else name
    else:
        importlib.import_module(module)
    return ACTIONS[name].function(*args, **kwargs)


def _nobody(outcome: Gave | Raised) -> None:
    """Takes the report of a dropped attempt."""
