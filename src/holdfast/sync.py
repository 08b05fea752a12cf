"""The blocking interface: tasks from code without an event loop. A bridge to the async one, and no second one.

app = App("shop", interface="sync")

@app.task
def add(a: int, b: int) -> int: ...

add.delay(1, 2).get()
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, Unpack, cast, overload

from holdfast import app as asynchronous
from holdfast import tasks
from holdfast.app import INTERFACES
from holdfast.engine.values import CURRENT
from holdfast.errors import ConfigurationError
from holdfast.ids import JobId
from holdfast.inject import provided
from holdfast.model.job import JobStatus, JobView
from holdfast.runtime.current import Progress
from holdfast.tasks import Group, JobHandle, Signature, Task
from holdfast.tasks.definition import Asked
from holdfast.tasks.options import CallOptions, TaskOptions

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

CLOSE_WITHIN = 5.0
"""Seconds that an App has to close at the end of the process."""


class Bridge:
    """Runs coroutines for threads that have no event loop: in the loop where the App is open, else in one of its own."""

    def __init__(self, app: asynchronous.App) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def run(self, awaitable: Awaitable[R]) -> R:
        """What it gives or raises. Raises ConfigurationError where waiting would stop an event loop."""
        return _waited(self._begin(awaitable))

    @contextmanager
    def inside(self, block: AbstractAsyncContextManager[T]) -> Generator[T]:
        """An async `with` block around code of this thread. It is entered and left by one task of the event loop."""
        given: Future[T] = Future()
        left: Future[BaseException | None] = Future()

        async def hold() -> None:
            async with block as value:
                given.set_result(value)
                if (error := await asyncio.wrap_future(left)) is not None:
                    raise error

        def end(held: Future[None]) -> None:
            if held.cancelled():
                given.cancel()
            elif not given.done():
                given.set_exception(held.exception())

        held = self._begin(hold())
        held.add_done_callback(end)
        value = _waited(given)
        try:
            yield value
        except BaseException as error:  # noqa: BLE001 - it is raised inside of the block
            left.set_result(error)
        else:
            left.set_result(None)
        _waited(held)

    def _begin(self, awaitable: Awaitable[R]) -> Future[R]:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise ConfigurationError(
                'a blocking call would stop the event loop that runs here: make the App with interface="async" for this code, '
                "or call it in a thread (await asyncio.to_thread(task.delay, …))"
            )
        return asyncio.run_coroutine_threadsafe(_coroutine(awaitable), self._home())

    def close(self) -> None:
        """Close the App that is open here, and end the loop."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None or self._process != os.getpid():
            return
        try:
            asyncio.run_coroutine_threadsafe(self._app.close(), loop).result(CLOSE_WITHIN)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(CLOSE_WITHIN)

    def _home(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._process != os.getpid():
                # A server has forked: its threads and connections are those of the other process.
                self._process, self._loop, self._thread = os.getpid(), None, None
                self._app.notice_fork()
            opened = self._app.home_loop
            if opened is not None and opened.is_running():
                return opened
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="holdfast-sync", daemon=True)
                self._thread.start()
                _close_at_exit(self)
            return self._loop


_OPEN: weakref.WeakSet[Bridge] = weakref.WeakSet()
"""Bridges with a loop of their own, which are closed at the end of the process."""


def _close_at_exit(bridge: Bridge) -> None:
    if not _OPEN:
        # Before the pools of threads end, without which nothing can be closed; those of `atexit` come after that.
        register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
        register(_close_all)
    _OPEN.add(bridge)


def _close_all() -> None:
    for bridge in list(_OPEN):
        bridge.close()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _waited(future: Future[R]) -> R:
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _coroutine(awaitable: Awaitable[R]) -> R:
    return await awaitable


def _drive(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that waits for nothing, here and now: the caller's connection belongs to this thread."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise ConfigurationError(_MUST_BE_AWAITED)


_MUST_BE_AWAITED = "this connection must be awaited, and there is no event loop here: give a blocking one"


class App(asynchronous.App):
    """An App whose tasks are sent and waited for without `await`. In `with app:`, it is closed at the end of the block."""

    blocking = True

    def __init__(self, name: str = "holdfast", **options: Any) -> None:
        options.pop("interface", None)
        super().__init__(name, **options)
        self.bridge = Bridge(self)

    def run(self, awaitable: Awaitable[R]) -> R:
        """What a coroutine of the async interface gives: `app.run(Greeting().run("Ada"))`."""
        return self.bridge.run(self._inside(awaitable))

    async def _inside(self, awaitable: Awaitable[R]) -> R:
        with self.used():
            return await awaitable

    def __enter__(self) -> Self:
        self.bridge.run(self.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bridge.close()

    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> BlockingTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> BlockingTask[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> BlockingDecorator: ...
    def task(  # pyright: ignore[reportIncompatibleMethodOverride] - what it gives is sent otherwise
        self, function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]
    ) -> Any:
        """Make a function, sync or async, a task: `task.delay(…)` has a worker call it. Takes what the async one takes."""
        made: Any = super().task
        return made(function, **options) if function is not None else made(**options)

    def give(self, sending: Coroutine[Any, Any, Any]) -> Any:
        """What `delay` of signatures gives: a handle that blocks, or several."""
        sent = self.bridge.run(sending)
        if isinstance(sent, list):
            return [BlockingHandle(self, handle) for handle in cast("list[JobHandle[Any]]", sent)]
        return BlockingHandle(self, sent)

    def job(self, id: str) -> BlockingHandle[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The handle of a job that exists."""
        return BlockingHandle(self, super().job(id))


class BlockingDecorator:
    """What `@app.task(…)` gives, for types alone."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> BlockingTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> BlockingTask[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any: ...


class BlockingTask(Task[P, R]):
    """A task that is sent without `await`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """What the function returns, called here and now with its dependencies. In a workflow it is an action, to be awaited."""
        if CURRENT.get(None) is not None:
            return super().__call__(*args, **kwargs)
        self.check(*args, **kwargs)
        bridge = _app_of(self).bridge
        if self.is_async:
            return bridge.run(self.run(*args, **kwargs))
        if not self.plan.needs:
            return self.function(*args, **kwargs)
        with self.with_state(), bridge.inside(provided(self.plan)) as injected:
            return self.function(*args, **{**injected, **kwargs})

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> BlockingHandle[R]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Ask for a call, to be made by whichever worker has room. Raises TypeError where the arguments don't fit."""
        return self._asked().delay(*args, **kwargs)

    def delay_many(self, calls: Iterable[Any]) -> list[BlockingHandle[R]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Ask for many calls in few statements: each item is the one argument, or a tuple of several."""
        return self._asked().delay_many(calls)

    def map(self: BlockingTask[[T], R], values: Iterable[T]) -> list[BlockingHandle[R]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Ask for a call with each of these values, a tuple included, in few statements."""
        return self._asked().map(values)

    def starmap(self, calls: Iterable[Iterable[Any]]) -> list[BlockingHandle[R]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Ask for a call with the arguments in each of these, in few statements."""
        return self._asked().starmap(calls)

    def s(self, *args: Any, **kwargs: Any) -> BlockingSignature[R]:
        """A call to be sent later, alone or after another one: see `Signature`. RESULT and ERROR may stand in it."""
        return self._asked().s(*args, **kwargs)

    def si(self, *args: Any, **kwargs: Any) -> BlockingSignature[R]:
        """A call to be sent later that takes nothing from the one before it."""
        return self._asked().si(*args, **kwargs)

    def in_transaction(self, connection: Any) -> BlockingAsked[P, R]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The same task, sent in the transaction of a blocking connection of yours, in this thread."""
        return self._asked().in_transaction(connection)

    def options(self, **options: Unpack[CallOptions]) -> BlockingAsked[P, R]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The same task with other options for one call. See `CallOptions`."""
        return BlockingAsked(_app_of(self), Asked(self, self.chosen(options)))

    def _asked(self) -> BlockingAsked[P, R]:
        return BlockingAsked(_app_of(self), Asked(self, self.jobs))


App.task_class = BlockingTask
INTERFACES["sync"] = App


class BlockingAsked(Generic[P, R]):
    """A task with the options of one call."""

    def __init__(self, app: App, asked: Asked[P, R], *, within: bool = False) -> None:
        self._app = app
        self._asked = asked
        self._run: Callable[[Coroutine[Any, Any, Any]], Any] = _drive if within else app.bridge.run

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> BlockingHandle[R]:
        """Ask for a call. Raises TypeError where the arguments don't fit."""
        return BlockingHandle(self._app, self._run(self._asked.delay(*args, **kwargs)))

    def delay_many(self, calls: Iterable[Any]) -> list[BlockingHandle[R]]:
        """Ask for many calls in few statements: each item is the one argument, or a tuple of several."""
        return self._handles(self._asked.delay_many(calls))

    def map(self: BlockingAsked[[T], R], values: Iterable[T]) -> list[BlockingHandle[R]]:
        """Ask for a call with each of these values, a tuple included, in few statements."""
        return self._handles(self._asked.map(values))

    def starmap(self, calls: Iterable[Iterable[Any]]) -> list[BlockingHandle[R]]:
        """Ask for a call with the arguments in each of these, in few statements."""
        return self._handles(self._asked.starmap(calls))

    def s(self, *args: Any, **kwargs: Any) -> BlockingSignature[R]:
        """A call to be sent later, alone or after another one. RESULT and ERROR may stand in it."""
        return cast("BlockingSignature[R]", self._asked.s(*args, **kwargs))

    def si(self, *args: Any, **kwargs: Any) -> BlockingSignature[R]:
        """A call to be sent later that takes nothing from the one before it."""
        return cast("BlockingSignature[R]", self._asked.si(*args, **kwargs))

    def _handles(self, sending: Coroutine[Any, Any, list[JobHandle[R]]]) -> list[BlockingHandle[R]]:
        return [BlockingHandle(self._app, handle) for handle in self._run(sending)]

    def in_transaction(self, connection: Any) -> BlockingAsked[P, R]:
        """See `BlockingTask.in_transaction`."""
        if inspect.iscoroutinefunction(getattr(connection, "execute", None)):
            raise ConfigurationError(_MUST_BE_AWAITED)
        return BlockingAsked(self._app, self._asked.in_transaction(connection), within=True)


class BlockingSignature(Signature[R]):
    """What `s` and `si` of a blocking task give, for types alone."""

    def delay(self) -> BlockingHandle[R]: ...  # pyright: ignore[reportIncompatibleMethodOverride]


class BlockingGroup(Group):
    """What `group` gives for calls of blocking tasks, for types alone."""

    def delay(self) -> list[BlockingHandle[Any]]: ...  # pyright: ignore[reportIncompatibleMethodOverride]


class BlockingHandle(Generic[R]):
    """A job, or the jobs of a chain or chord, from outside."""

    def __init__(self, app: App, handle: JobHandle[R]) -> None:
        self.app = app
        self.handle = handle
        """The same, for code with an event loop."""

    @property
    def id(self) -> JobId:
        """The job's id."""
        return self.handle.id

    def get(self, timeout: timedelta | float | None = None) -> R:
        """Its result, once it is there. Raises TaskFailed, TaskCancelled, WaitTimeout, JobNotFound."""
        return self.app.bridge.run(self._opened(self.handle.get(timeout)))

    def status(self) -> JobStatus:
        """Where it stands. Raises JobNotFound."""
        return self.app.bridge.run(self._opened(self.handle.status()))

    def view(self) -> JobView:
        """All that is known of it. Raises JobNotFound."""
        return self.app.bridge.run(self._opened(self.handle.view()))

    def progress(self) -> Progress | None:
        """How far it is, as its task has said last (`report_progress`); None if it has said nothing. Raises JobNotFound."""
        return self.app.bridge.run(self._opened(self.handle.progress()))

    def cancel(self) -> bool:
        """Ask for its end. False if it had ended before, or there is none of this id."""
        return self.app.bridge.run(self._opened(self.handle.cancel()))

    def retry(self) -> bool:
        """Queue it again, if it has ended. Returns whether it is queued. Raises JobNotFound where it is not there any more."""
        return self.app.bridge.run(self._opened(self.handle.retry()))

    async def _opened(self, asked: Awaitable[Any]) -> Any:
        await self.app.open()
        return await asked

    def __repr__(self) -> str:
        return repr(self.handle)


def gather(handles: Iterable[BlockingHandle[R]], *, return_exceptions: bool = False) -> list[Any]:
    """The results of all, in order. Without `return_exceptions` the first failure is raised; the others go on."""
    listed = list(handles)
    if not listed:
        return []
    asked = tasks.gather([each.handle for each in listed], return_exceptions=return_exceptions)
    return listed[0].app.bridge.run(asked)


def wait(
    handles: Iterable[BlockingHandle[R]],
    *,
    timeout: timedelta | float | None = None,
    return_when: Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"] = "ALL_COMPLETED",
) -> tuple[set[BlockingHandle[R]], set[BlockingHandle[R]]]:
    """Those that have ended and those that have not, after `timeout` or when `return_when` says so."""
    ours = {each.handle: each for each in handles}
    if not ours:
        return set(), set()
    app = next(iter(ours.values())).app
    done, pending = app.bridge.run(tasks.wait(ours, timeout=timeout, return_when=return_when))
    return {ours[each] for each in done}, {ours[each] for each in pending}


def as_completed(
    handles: Iterable[BlockingHandle[R]], *, timeout: timedelta | float | None = None
) -> Iterator[BlockingHandle[R]]:
    """The handles, each as soon as its job has ended. Raises TimeoutError."""
    ours = {each.handle: each for each in handles}
    if not ours:
        return
    run = next(iter(ours.values())).app.bridge.run
    found = tasks.as_completed(ours, timeout=timeout)
    try:
        while True:
            try:
                handle = run(anext(found))
            except StopAsyncIteration:
                return
            yield ours[handle]
    finally:
        run(cast("Any", found).aclose())


def read_dead(app: App, filter: Callable[[JobView], bool] | None = None) -> list[JobView]:
    """The dead letters that `filter` wants, newest first."""
    return app.bridge.run(tasks.read_dead(app, filter))


def replay_dead(app: App, filter: Callable[[JobView], bool] | None = None) -> list[BlockingHandle[object]]:
    """Queue the dead letters again that `filter` wants, as they were sent; returns those that are queued."""
    return [BlockingHandle(app, each) for each in app.bridge.run(tasks.replay_dead(app, filter))]


def purge_dead(app: App, filter: Callable[[JobView], bool] | None = None) -> int:
    """Remove the dead letters for ever that `filter` wants; returns how many."""
    return app.bridge.run(tasks.purge_dead(app, filter))


def pause_queues(app: App, *queues: str) -> None:
    """Let no worker take jobs of these queues until they are resumed. What runs goes on."""
    app.bridge.run(tasks.pause_queues(app, *queues))


def resume_queues(app: App, *queues: str) -> None:
    """Let workers take jobs of these queues again."""
    app.bridge.run(tasks.resume_queues(app, *queues))


def paused_queues(app: App) -> dict[str, float]:
    """The queues that are paused, and since when (Unix seconds)."""
    return app.bridge.run(tasks.paused_queues(app))


def _app_of(task: Task[..., Any]) -> App:
    app: object = task.own_sender
    assert isinstance(app, App)
    return app
