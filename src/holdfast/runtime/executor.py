"""Run one attempt of an action: in the loop, a thread or a process; with its dependencies and its timeout.

Turns whatever happens into a value or an error. Knows no instance and no store.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from types import coroutine
from typing import Any, NamedTuple

from holdfast.codec import (
    PRIMITIVES,
    Tree,
    decode,
    decode_call,
    encode_exception,
    encode_result,
    exception_as_saved,
    forget_last_raise,
    is_plain,
    remember_raise,
)
from holdfast.errors import ActionTimeout, CodecError, ProgramError
from holdfast.inject import STATE, provided
from holdfast.logs import get_logger
from holdfast.retry import DEFAULT_TIMEOUT
from holdfast.runtime import processes, threads
from holdfast.runtime.counting import AttemptKind, Counts
from holdfast.runtime.current import RUNNING, Progress
from holdfast.runtime.current import Running as RunningJob
from holdfast.runtime.deadlines import Deadlines
from holdfast.runtime.processes import Processes, ProcessLost, RemoteCall
from holdfast.runtime.threads import Threads
from holdfast.task import ACTIONS, Action, unfit

log = get_logger("holdfast.worker")


class Gave(NamedTuple):
    """The action returned; `tree` is its encoded value."""

    value: Any
    tree: Tree


class Raised(NamedTuple):
    """The action failed; `tree` is its encoded exception."""

    error: BaseException
    tree: Tree


class CannotRun(ProgramError):
    """The action of a workflow's call is not there, or takes other arguments by now: its instance waits until that is mended."""


Report = Callable[[Gave | Raised], None]
Running = Coroutine[Any, Any, Gave | Raised | None]

BREATH = 50
"""After so many attempts that had nothing to wait for, everything else in the loop has its turn."""


class Attempt:
    """One attempt: what to call with what, for how long at most, and whom to tell."""

    __slots__ = (
        "arguments",
        "before",
        "began",
        "dropped",
        "expired",
        "job",
        "kind",
        "name",
        "payload",
        "report",
        "task",
        "timeout",
    )

    def __init__(
        self,
        name: str,
        payload: Tree | None,
        arguments: tuple[tuple[Any, ...], dict[str, Any]] | None,
        timeout: float | None,
        report: Report,
        job: RunningJob | None = None,
        before: Callable[[], Coroutine[Any, Any, None]] | None = None,
        *,
        batch: bool = False,
    ) -> None:
        self.name = name
        self.payload = payload
        self.arguments = arguments
        self.timeout = DEFAULT_TIMEOUT if timeout is None else timeout
        self.report = report
        self.job = job
        """The job it is an attempt of; None: it is a workflow's call, or that of a batch of jobs."""
        self.kind: AttemptKind = "batch" if batch else "call" if job is None else "job"
        self.before = before
        """What comes before the call; if that raises, the attempt has failed."""
        self.task: asyncio.Task[None] | None = None
        """What runs it; None before it has made its first step."""
        self.began = 0.0
        """The time of the loop at its first step."""
        self.expired = False
        self.dropped = False


class Executor:
    """Runs attempts, as many as there is `room` for; the others wait in order."""

    def __init__(
        self,
        *,
        concurrency: int,
        stub: Callable[[str], Callable[..., Any] | None] | None = None,
        state: object = None,
        counts: Counts | None = None,
    ) -> None:
        self.concurrency = concurrency
        self.room = concurrency
        """How many attempts run at once: `concurrency`, less what too many stuck threads take away."""
        self.freed: Callable[[], None] | None = None
        """Called whenever something could begin at once, for whoever waits for that."""
        self.running: set[Attempt] = set()
        self.waiting: deque[Attempt] = deque()
        self.finished = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._stub = stub
        self._state = state
        """What calls get that ask for the App's state."""
        self._counts = counts
        self._threads = Threads(self._stuck_changed)
        self._processes: Processes | None = None
        self._deadlines = Deadlines(self.running, self._expire)
        self._begun: deque[Attempt] = deque()
        """Those that have not made their first step."""
        self._runner: asyncio.Task[None] | None = None
        """Makes the first steps; None while there are none to make."""
        self._drained: asyncio.Event | None = None
        """Set once nothing runs any more, where somebody waits for that."""

    def stubbed(self, name: str) -> bool:
        """Whether a test has put something in place of this action."""
        return self._stub is not None and self._stub(name) is not None

    @property
    def stuck(self) -> int:
        """How many threads go on with calls whose time is over."""
        return len(self._threads.stuck)

    @property
    def load(self) -> int:
        """How many attempts run or wait."""
        return len(self.running) + len(self.waiting)

    def submit(self, attempt: Attempt) -> None:
        """Run it as soon as there is room. Its report is called from the event loop, once, unless it is dropped."""
        if self._closed:
            return
        if len(self.running) < self.room:
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
        while self.running:
            self._drained = self._drained or asyncio.Event()
            await self._drained.wait()
            self._drained = None

    async def close(self) -> None:
        """Stop everything; returns when no process runs user code any more. Threads that do are left to themselves."""
        self._closed = True
        self.freed = None
        self.waiting.clear()
        self._begun.clear()
        self._deadlines.close()
        for attempt in list(self.running):
            self.drop(attempt)
        self._threads.close()
        if self._processes is not None:
            await self._processes.close()

    def _begin(self, attempt: Attempt) -> None:
        self.running.add(attempt)
        self._begun.append(attempt)
        if self._runner is None:
            self._start_runner()

    def _start_runner(self) -> None:
        self._runner = self._loop.create_task(self._run_begun()) if self._begun else None

    async def _run_begun(self) -> None:
        """Run what has begun, one after the other, each in its own context.

        Once one has to wait, this task belongs to it alone, and another one runs those after it.
        """
        task = asyncio.current_task()
        assert task is not None
        steps = 0
        try:
            while self._begun and not task.cancelling():
                steps += 1
                if steps % BREATH == 0:
                    await asyncio.sleep(0)
                    continue
                attempt = self._begun.popleft()
                if attempt.dropped:
                    self._ended(attempt, None)
                    continue
                attempt.task = task
                attempt.began = self._loop.time()
                context, running = copy_context(), self._outcome(attempt)
                if attempt.job is not None:
                    context.run(RUNNING.set, attempt.job)
                if self._state is not None:
                    context.run(STATE.set, self._state)
                try:
                    awaited = context.run(running.send, None)
                except StopIteration as end:
                    self._ended(attempt, end.value)
                except BaseException as error:  # noqa: BLE001 - cancelled, or its outcome could not be told
                    self._ended(attempt, _unless_cancelled(error))
                else:
                    self._start_runner()
                    self._deadlines.add(attempt, attempt.timeout, attempt.began)
                    await self._run_on(attempt, running, awaited, context)
                    return
        finally:
            if self._runner is task:
                self._start_runner()

    async def _run_on(self, attempt: Attempt, running: Running, awaited: Any, context: Context) -> None:
        outcome = None
        try:
            outcome = await _rest(running, awaited, context)
        except BaseException as error:  # noqa: BLE001 - cancelled, or its outcome could not be told
            outcome = _unless_cancelled(error)
        finally:
            self._ended(attempt, outcome)

    def _expire(self, attempt: Attempt) -> None:
        assert attempt.task is not None
        attempt.expired = True
        attempt.task.cancel()

    def _ended(self, attempt: Attempt, outcome: Gave | Raised | None) -> None:
        """It has ended, in whichever way; without an outcome, because it was cancelled from here."""
        self.running.discard(attempt)
        # Its task may be another one's by now.
        attempt.task = None
        self.finished += 1
        if self._counts is not None and attempt.began:
            self._count(attempt, outcome, self._counts)
        try:
            if outcome is not None:
                attempt.report(outcome)
        finally:
            if self.waiting or self.freed is not None:
                self._fill()
            if self._drained is not None and not self.running:
                self._drained.set()

    def _count(self, attempt: Attempt, outcome: Gave | Raised | None, counts: Counts) -> None:
        match outcome:
            case None:
                how = "dropped"
            case Gave():
                how = "returned"
            case Raised(error):
                how = "timed_out" if isinstance(error, ActionTimeout) else "raised"
        counts.attempted(attempt.name, attempt.kind, how, self._loop.time() - attempt.began)

    def _fill(self) -> None:
        """Begin what waits, as far as there is room; tell whoever waits for more room than that needs."""
        while self.waiting and len(self.running) < self.room:
            self._begin(self.waiting.popleft())
        if self.freed is not None and len(self.running) < self.room:
            self.freed()

    def _stuck_changed(self) -> None:
        """A thread got stuck, or free again. As many as `concurrency` are replaced, further ones take room."""
        if self._closed:
            return
        stuck = self._threads.stuck
        before, self.room = self.room, max(0, min(self.concurrency, 2 * self.concurrency - len(stuck)))
        if self.room < before:
            names = sorted({attempt.name for attempt in stuck if isinstance(attempt, Attempt)})
            hint = "they ran out of time or were cancelled, and go on; give what they call a timeout of its own"
            log.warning("stuck threads take room", actions=names, threads=len(stuck), room=self.room, hint=hint)
        self._fill()

    async def _outcome(self, attempt: Attempt) -> Gave | Raised | None:
        """What became of it; None if it was cancelled from here."""
        try:
            if attempt.before is not None:
                await attempt.before()
            action = ACTIONS.get(attempt.name) if self._stub is None else None
            if action is not None and action.is_async and not action.plan.needs:
                args, kwargs = _arguments(attempt)
                value = await action.function(*args, **kwargs)
            else:
                value = await self._call(attempt)
        except asyncio.CancelledError as error:
            if not attempt.expired:
                if attempt.dropped or self._closed:
                    raise
                # Nobody here cancelled it: the action did so itself.
                return _raised(error)
            return _timed_out(self._too_long(attempt))
        except ProcessLost as error:
            return _timed_out(f"the process that ran action {attempt.name} {error}")
        except BaseException as error:  # noqa: BLE001 - this is where user code runs
            return _raised(self._unfit(attempt, error) or error)
        if is_plain(value) or attempt.kind == "batch":
            # Of a batch each job has a result of its own, which is encoded by itself.
            return Gave(value, value)
        try:
            tree = encode_result(value, "action", attempt.name)
            return Gave(value if type(value) in PRIMITIVES else decode(tree), tree)
        except CodecError as error:
            error.add_note(f"it was returned by action {attempt.name}")
            # Its frames are none of the user's.
            error.__traceback__ = None
            return Raised(error, encode_exception(error))

    def _unfit(self, attempt: Attempt, error: BaseException) -> CannotRun | None:
        """What to say where a workflow's call failed since the action's parameters were others when it was made."""
        action = ACTIONS.get(attempt.name) if self._stub is None else None
        if not isinstance(error, TypeError) or attempt.job is not None or action is None:
            return None
        args, kwargs = _arguments(attempt)
        try:
            action.check(*args, **kwargs)
        except TypeError as misfit:
            return CannotRun(unfit(attempt.name, misfit))
        return None

    async def _call(self, attempt: Attempt) -> Any:
        args, kwargs = _arguments(attempt)
        stub = self._stub(attempt.name) if self._stub is not None else None
        if stub is not None:
            result = stub(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        action = ACTIONS.get(attempt.name)
        if action is None:
            raise CannotRun(f"no action {attempt.name!r} is defined here; import its module in the worker")
        async with provided(action.plan) as injected:
            if action.is_async:
                return await action.function(*args, **injected, **kwargs)
            if action.pool == "process":
                return await self._in_process(attempt, action, args, {**injected, **kwargs})
            call = partial(copy_context().run, action.function, *args, **{**injected, **kwargs})
            result = await self._threads.run(attempt, call)
            return await result if inspect.isawaitable(result) else result

    async def _in_process(self, attempt: Attempt, action: Action[Any, Any], args: Any, kwargs: Any) -> Any:
        self._processes = self._processes or Processes()
        # To start a process may take longer than the action may.
        self._deadlines.hold(attempt)
        call = RemoteCall(
            action=action.name,
            module=action.function.__module__,
            args=args,
            kwargs=kwargs,
            job=None if attempt.job is None else attempt.job.job,
        )
        return await self._processes.run(
            call,
            begins=lambda: self._deadlines.begin(attempt, attempt.timeout),
            told=_unheard if attempt.job is None else attempt.job.told,
        )

    def _too_long(self, attempt: Attempt) -> str:
        message = f"action {attempt.name} ran longer than its {attempt.timeout:g} seconds"
        if attempt in self._threads.stuck:
            return f"{message}; its thread goes on, for a thread cannot be stopped"
        return message


def _unheard(progress: Progress) -> None:
    """Nobody asks how far a workflow's call is."""


def _arguments(attempt: Attempt) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments: as they are where nobody else has them or they cannot change, else copies."""
    if attempt.arguments is not None:
        args, kwargs = attempt.arguments
        if attempt.payload is None:
            return args, kwargs
        if PRIMITIVES.issuperset(map(type, args)) and (not kwargs or PRIMITIVES.issuperset(map(type, kwargs.values()))):
            return args, kwargs
    return decode_call(attempt.payload)


def _timed_out(message: str) -> Raised:
    error = ActionTimeout(message)
    return Raised(error, encode_exception(error))


def _raised(error: BaseException) -> Raised:
    trace = error.__traceback__
    # Leave out the frames that lead to user code: a person looks for their own.
    while trace is not None and trace.tb_frame.f_code.co_filename in _OUR_FILES:
        trace = trace.tb_next
    error.__traceback__ = trace
    forget_last_raise(error)
    # With what of it can be saved, as it comes from another worker, too: a handler may hold it for long.
    saved, tree = exception_as_saved(error)
    remember_raise(error, tree.get("traceback", ""))
    return Raised(saved, tree)


@coroutine
def _rest(running: Running, awaited: Any, context: Context) -> Generator[Any, Any, Gave | Raised | None]:
    """The rest of something that has made its first step, in which it came to wait for `awaited`."""
    while True:
        thrown: BaseException | None = None
        sent: Any = None
        try:
            sent = yield awaited
        except GeneratorExit:
            running.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it is given on
            thrown = error
        try:
            awaited = context.run(running.send, sent) if thrown is None else context.run(running.throw, thrown)
        except StopIteration as end:
            return end.value


def _unless_cancelled(error: BaseException) -> Raised | None:
    return None if isinstance(error, asyncio.CancelledError) else _raised(error)


def _nobody(outcome: Gave | Raised) -> None:
    """Takes the report of a dropped attempt."""


_OUR_FILES = (__file__, threads.__file__, processes.__file__)
