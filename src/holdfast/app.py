"""The App: the composition root. The only place that opens a backend, and where settings meet it."""

from __future__ import annotations

import asyncio
import importlib
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast, overload

from holdfast.backends import open_store
from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigurationError, StoreError, StoreUnavailable, told_with_place
from holdfast.ids import InstanceId
from holdfast.logs import get_logger
from holdfast.model.job import Job
from holdfast.ports import Store
from holdfast.registry import Registry
from holdfast.retry import BackoffPolicy, Duration, RetryPolicy
from holdfast.runtime.client import Client, Handle
from holdfast.runtime.sweeper import Sweeper
from holdfast.runtime.worker import Worker
from holdfast.schedules import CatchUp, Overlap, ScheduleHandle, Ticker, make_schedule
from holdfast.settings import Settings, unknown_variables
from holdfast.task import Pool
from holdfast.tasks import JobHandle, JobOptions, Task, TaskClient
from holdfast.tasks.definition import TaskDecorator, job_options
from holdfast.workflow import LAUNCHERS, Launcher, Run, Workflow, enter_launcher, launcher, leave_launcher

P = ParamSpec("P")
R = TypeVar("R")

log = get_logger("holdfast")


FIRST_BATCH = 50
"""Of many instances, so many are started in the first statement, so that a worker soon has work; then twice as many."""
START_BATCH = 500
"""Instances started in one statement, at most."""


class App:
    """Settings, a store, and what works on it.

        app = App("shop", url="postgresql://localhost/shop")
        async with app:
            print(await Greeting().run("Ada"))

    Entered by `async with`, an App is the one that workflows started inside the block use, and in tasks made there; tasks
    that are in no such block use the App that was entered last. Where none is entered, the one that was opened by
    `open()` is used; of several, none can be meant. Without an App of your own, the first `await Greeting().run(…)` makes
    one from the settings.
    """

    def __init__(
        self,
        name: str = "holdfast",
        *,
        url: str | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        if not name:
            raise ConfigurationError("an App needs a name")
        self.name = name
        self.settings = settings or Settings.load(database_url=url, **options)
        _warn_of_unknown_variables()
        self.clock: Clock = clock or SystemClock()
        self.registry = Registry(signing_key=self.settings.signing_key)
        self.store: Store = open_store(self.settings.database_url)
        self.client = Client(
            store=self.store,
            registry=self.registry,
            clock=self.clock,
            poll_interval=self.settings.poll_interval_ms / 1000,
        )
        self.tasks = TaskClient(
            store=self.store,
            broker=self.store.broker(),
            clock=self.clock,
            poll_interval=self.settings.poll_interval_ms / 1000,
        )
        self.worker: Worker | None = None
        self.stubs: dict[str, Callable[..., Any]] = {}
        """For tests: functions that run in place of actions, by the actions' names."""
        self.ticker: Ticker | None = None
        """What fires schedules in this process, once a worker was made."""
        self.forgetful = False
        """For tests: take every instance from the store again after each step."""
        self._launcher = _AppLauncher(self)
        self._working: asyncio.Task[None] | None = None
        self._opened = False
        self._opening = asyncio.Lock()
        self._home: asyncio.AbstractEventLoop | None = None
        """The event loop in which it was opened."""
        self._watching: asyncio.Task[None] | None = None
        self.impatient_after = 5.0
        """Seconds for which a run is waited for before somebody looks whether any worker is alive."""
        self._warned_of_no_worker = False
        self._looking: asyncio.Task[None] | None = None

    def reconfigure(self, **changes: Any) -> None:
        """Change settings of an App that is not open yet; None leaves one as it is. Raises ConfigurationError."""
        given = {name: value for name, value in changes.items() if value is not None}
        if not given:
            return
        if self._opened:
            raise ConfigurationError("an open App cannot be reconfigured; close it first")
        before = self.settings
        self.settings = Settings.load(**(before.model_dump() | given))
        if self.settings.database_url != before.database_url:
            self.store = self.client.store = self.client.watch.store = self.tasks.watch.store = open_store(
                self.settings.database_url
            )
            self.tasks.broker = self.store.broker()

    async def open(self, *, create: bool = True) -> Self:
        """Connect, and create or migrate the schema. Safe to call again.

        Raises ConfigurationError where there can be no database, or with `create=False` where there is none.
        """
        async with self._opening:
            if not self._opened:
                await self.store.open(create=create)
                self._opened = True
                self._home = asyncio.get_running_loop()
                _DEFAULT.opened.add(self)
        return self

    def is_open_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it was opened in this event loop, and not closed."""
        return self._opened and self._home is loop

    @property
    def place(self) -> str:
        """Its database, for people: the URL without a password, which its query may hold, too."""
        url = self.settings.database_url.partition("?")[0]
        head, at, tail = url.rpartition("@")
        scheme, slashes, user = head.partition("://")
        return f"{scheme}{slashes}{user.partition(':')[0]}{at}{tail}" if at else url

    async def close(self) -> None:
        """Let go of everything. Work in hand goes back to the store."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        if self._working is not None:
            assert self.worker is not None
            self.worker.stop(at_once=True)
            await asyncio.gather(self._working, return_exceptions=True)
            self._working = self.worker = None
        await self.client.close()
        await self.tasks.close()
        if self._opened:
            _DEFAULT.opened.discard(self)
            await self.store.close()
            self._opened = False

    async def __aenter__(self) -> Self:
        await self.open()
        enter_launcher(self._launcher)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave_launcher(self._launcher)
        await self.close()

    # --- workflows

    async def launch(self, run: Run[Any]) -> Any:
        """Start a run; wait for its result, or give its handle, as was asked for."""
        await self.open()
        (handle,) = await self.client.start([run], waiting=run.wait)
        await self.embed()
        if not run.wait:
            return handle
        with self._impatient():
            return await handle.result()

    @contextmanager
    def _impatient(self) -> Generator[None]:
        """Inside, who waits for long is told that no worker is alive, if so; once in the life of this App."""
        if self._warned_of_no_worker or self._working is not None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(self.impatient_after, self._look_for_workers)
        try:
            yield
        finally:
            timer.cancel()

    def _look_for_workers(self) -> None:
        if not self._warned_of_no_worker and self._looking is None:
            self._looking = asyncio.create_task(self._warn_of_no_worker(), name="holdfast-look-for-workers")

    async def _warn_of_no_worker(self) -> None:
        try:
            if not await self.store.workers(now=self.clock.now()):
                self._warned_of_no_worker = True
                log.warning("no worker is alive", hint="start one: holdfast worker MODULE:APP", app=self.name)
        except StoreError as error:
            log.warning("store unavailable", error=str(error))
        finally:
            self._looking = None

    async def start_many(self, runs: Iterable[Run[Any]]) -> list[Handle[Any]]:
        """Start many at once: `await app.start_many(W().start(n) for n in range(1000))`."""
        await self.open()
        handles: list[Handle[Any]] = []
        batch: list[Run[Any]] = []
        size = FIRST_BATCH
        for run in runs:
            if not isinstance(cast(object, run), Run):
                raise ConfigurationError(f"start_many() takes runs, such as Report().start(3), not {run!r}")
            run.unused = False
            batch.append(run)
            if len(batch) == size:
                # The first of them are under way while the last are still being asked for.
                handles += await self.client.start(batch)
                batch, size = [], min(2 * size, START_BATCH)
        handles += await self.client.start(batch)
        await self.embed()
        return handles

    def handle(self, id: str, cls: type[Workflow] | None = None) -> Handle[Any]:
        """The handle of an instance that exists."""
        return Handle(self.client, InstanceId(id), cls)

    async def fork(
        self,
        id: str,
        *,
        at: int | None = None,
        changes: Mapping[str, Any] | None = None,
        new_id: str | None = None,
    ) -> InstanceId:
        """Go on from step `at` of an instance's history as a new instance, as if nobody had asked it to end.

        By default from the last step before its end, or before the cancel that led to that.
        `changes` gives variables of the running function other values. Raises HoldfastError where the step or a
        variable does not exist.
        """
        await self.open()
        return await self.client.fork(InstanceId(id), at=at, changes=changes or {}, new_id=new_id)

    # --- tasks

    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        retries: int | None = None,
        retry: RetryPolicy | None = None,
        backoff: BackoffPolicy | None = None,
        timeout: Duration | None = None,
        queue: str | None = None,
        pool: Pool = "thread",
        priority: int | None = None,
        expires: Duration | None = None,
        unique: bool | None = None,
        result_ttl: Duration | None = None,
        dead_letter: bool | None = None,
    ) -> TaskDecorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        retries: int | None = None,
        retry: RetryPolicy | None = None,
        backoff: BackoffPolicy | None = None,
        timeout: Duration | None = None,
        queue: str | None = None,
        pool: Pool = "thread",
        priority: int | None = None,
        expires: Duration | None = None,
        unique: bool | None = None,
        result_ttl: Duration | None = None,
        dead_letter: bool | None = None,
    ) -> Any:
        """Make a function, sync or async, a task: `await task.delay(…)` has a worker call it.

        It is retried ten times by default, after growing pauses (see `task_retry`), and then among the dead letters.
        `retries` counts the attempts after the first; `retry` is a whole policy, `backoff` only its pauses. Results
        are kept for `result_ttl` seconds (an hour by default; 0: not at all). A job that nobody has begun `expires`
        seconds after its moment becomes a dead letter. `unique=True` admits one job with the same arguments at a time.
        Raises ConfigurationError for a definition that cannot work.

            @app.task(retries=3)
            async def send_receipt(order: int) -> None: ...
        """
        jobs = job_options(
            JobOptions(),
            retries=retries,
            retry=retry,
            backoff=backoff,
            priority=priority,
            expires=expires,
            unique=unique,
            result_ttl=result_ttl,
            dead_letter=dead_letter,
        )
        # The policy stays with the definition, so that jobs under way follow it when it changes.
        definition = {"name": name, "retry": jobs.retry, "timeout": timeout, "queue": queue, "pool": pool}
        decorator = TaskDecorator(self, replace(jobs, retry=None), definition)
        return decorator if function is None else decorator(function)

    def now(self) -> float:
        """The present moment in Unix seconds."""
        return self.clock.now()

    @property
    def results_ttl(self) -> float:
        """For how many seconds results of tasks are kept, where a task does not say."""
        return self.settings.results_ttl

    async def send(self, jobs: list[Job]) -> list[JobHandle[Any]]:
        """Send jobs."""
        await self.open()
        handles = await self.tasks.send(jobs)
        await self.embed()
        return handles

    def job(self, id: str) -> JobHandle[Any]:
        """The handle of a job that exists."""
        return JobHandle(self.tasks, id)

    # --- schedules

    async def schedule(
        self,
        workflow: Run[Any] | type[Workflow],
        *,
        id: str,
        cron: str | None = None,
        every: timedelta | float | None = None,
        timezone: str = "UTC",
        jitter: timedelta | float = 0.0,
        inputs: Mapping[str, Any] | None = None,
        overlap: Overlap | str = Overlap.SKIP,
        catch_up: CatchUp | str = CatchUp.LATEST,
    ) -> ScheduleHandle:
        """Start a workflow by the clock: at the times of a cron expression in a timezone, or every so often.

        `workflow` is the class, with the arguments of `run` in `inputs`; or a run that was asked for, such as
        `Report("eu").start(3)`. Scheduling again under the same `id` changes the schedule. Each tick has one instance,
        `<id>@<tick>`, however many workers there are. Raises ConfigurationError.
        """
        if not _is_startable(workflow):
            told = "a workflow class, or a run such as Report().start(3)"
            raise ConfigurationError(f"schedule() takes {told}, not {workflow!r}")
        await self.open()
        run: Run[Any] = workflow().start(**(inputs or {})) if isinstance(workflow, type) else workflow
        return await make_schedule(
            run,
            id=id,
            cron=cron,
            every=every,
            timezone=timezone,
            jitter=jitter,
            overlap=overlap,
            catch_up=catch_up,
            store=self.store,
            registry=self.registry,
            clock=self.clock,
        )

    def schedule_handle(self, id: str) -> ScheduleHandle:
        """The handle of a schedule that exists."""
        return ScheduleHandle(id, store=self.store, registry=self.registry, clock=self.clock)

    # --- working

    async def embed(self) -> None:
        """With an embedded store and nobody working on it, work here; also once whoever did is gone."""
        if not (self.store.traits.embedded and self.settings.embedded_worker):
            return
        working = self._working is not None and not self._working.done()
        watching = self._watching is not None and not self._watching.done()
        if not working and not watching and not await self._step_in():
            self._watching = asyncio.create_task(self._watch_over(), name="holdfast-watch")

    async def _step_in(self) -> bool:
        """Work here unless somebody else's lease stands."""
        if not self.store.traits.ephemeral and await self.store.workers(now=self.clock.now()):
            return False
        self.start_worker()
        return True

    async def _watch_over(self) -> None:
        """A lease may be that of a process which was killed: look again until it has ended, or been renewed."""
        while True:
            await asyncio.sleep(min(1.0, self.settings.lease_seconds / 3))
            try:
                if await self._step_in():
                    return
            except StoreUnavailable as error:
                log.warning("store unavailable", error=str(error))

    def start_worker(self) -> Worker:
        """Work in this process's event loop, until the App is closed."""
        worker = self.make_worker()
        self.worker = worker
        self._working = asyncio.create_task(worker.run(), name="holdfast-worker")
        self._working.add_done_callback(_report)
        return worker

    def make_worker(self) -> Worker:
        """A worker on this App's store, not yet running."""
        self.ticker = Ticker(store=self.store, registry=self.registry, clock=self.clock)
        sweeper = Sweeper(store=self.store, clock=self.clock, settings=self.settings)
        return Worker(
            store=self.store,
            registry=self.registry,
            clock=self.clock,
            settings=self.settings,
            ended=self.client.ended,
            parked=self.client.parked,
            stub=self.stubs.get if self.stubs else None,
            forgetful=self.forgetful,
            services=[
                self.ticker.run,
                sweeper.run,
                sweeper.run_jobs,
            ],
        )

    def import_user_modules(self) -> None:
        """Import what HOLDFAST_USER_MODULE names. Raises ConfigurationError where that fails."""
        for name in (self.settings.user_module or "").split(","):
            if name.strip():
                try:
                    importlib.import_module(name.strip())
                except ImportError as error:
                    raise ConfigurationError(f"the user module {name.strip()!r} cannot be imported: {error}") from error
                except Exception as error:
                    told = told_with_place(error)
                    raise ConfigurationError(f"the user module {name.strip()!r} cannot be imported: {told}") from error


class _AppLauncher(Launcher):
    def __init__(self, app: App) -> None:
        self.app = app

    async def launch(self, run: Run[Any]) -> Any:
        return await self.app.launch(run)


class _DefaultLauncher(Launcher):
    """Where no App is entered: the one that is open here, else one made from the settings, one for each event loop."""

    def __init__(self) -> None:
        self.opened: weakref.WeakSet[App] = weakref.WeakSet()
        self._made: dict[asyncio.AbstractEventLoop, App] = {}

    def app(self) -> App:
        """Raises ConfigurationError where several are open."""
        loop = asyncio.get_running_loop()
        made = self._made.get(loop)
        # One that was left open by a loop that has ended is of no use here.
        opened = [app for app in self.opened if app.is_open_in(loop) and app is not made]
        match opened:
            case [app]:
                return app
            case []:
                if made is None:
                    self._let_go()
                    made = self._made[loop] = App()
                return made
            case _:
                names = " and ".join(sorted(f"{app.name!r} ({app.place})" for app in opened))
                raise ConfigurationError(
                    f"several Apps are open, {names}, and none is entered: start workflows by app.launch(…), or inside of "
                    "`async with app`"
                )

    def _let_go(self) -> None:
        """Of the Apps of loops that have ended. Each holds its loop, so that neither would ever go by itself."""
        for loop in [loop for loop in self._made if loop.is_closed()]:
            app = self._made.pop(loop)
            self.opened.discard(app)
            app.store.abandon()

    async def launch(self, run: Run[Any]) -> Any:
        return await self.app().launch(run)


_DEFAULT = _DefaultLauncher()
LAUNCHERS[0] = _DEFAULT


def current_app() -> App:
    """The App in use: the innermost one entered by this task or those it comes from, else by any, else the one that is
    open, else the default one. Raises ConfigurationError where several are open and none is entered.
    """
    used = launcher()
    return used.app if isinstance(used, _AppLauncher) else _DEFAULT.app()


async def start_many(runs: Iterable[Run[Any]]) -> list[Handle[Any]]:
    """Start many instances at once, in few statements: `await start_many(W().start(n) for n in range(1000))`."""
    return await current_app().start_many(runs)


async def schedule(workflow: Run[Any] | type[Workflow], **options: Any) -> ScheduleHandle:
    """Start a workflow by the clock, on the App in use; takes what `App.schedule` takes."""
    return await current_app().schedule(workflow, **options)


def _is_startable(given: object) -> bool:
    return isinstance(given, Run) or (isinstance(given, type) and issubclass(given, Workflow))


_WARNED: set[str] = set()


def _warn_of_unknown_variables() -> None:
    """Say once in this process of each variable that is named like a setting, and is none."""
    for name, meant in unknown_variables().items():
        if name not in _WARNED:
            _WARNED.add(name)
            hint = f"did you mean {meant}?" if meant else "docs/reference/settings.md lists all"
            log.warning("unknown setting", variable=name, hint=hint)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("worker ended", error=str(error), exc_info=error)
