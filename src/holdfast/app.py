"""The App: the composition root. The only place that opens a backend, and where settings meet it."""

from __future__ import annotations

import asyncio
import importlib
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast, overload

from holdfast.arguments import called_as
from holdfast.backends import keeps_workflows, no_workflows, open_broker, open_store
from holdfast.clock import Clock, SystemClock
from holdfast.errors import ConfigurationError, StoreError, StoreUnavailable, told_with_place
from holdfast.ids import InstanceId
from holdfast.logs import get_logger
from holdfast.model.instance import WorkerView
from holdfast.model.job import Job
from holdfast.ports import Backend, Broker, Store
from holdfast.registry import Registry
from holdfast.runtime.client import Client, Handle
from holdfast.runtime.lifespan import Lifespan, check_lifespan, state_of
from holdfast.runtime.sweeper import JobSweeper, Sweeper
from holdfast.runtime.worker import Worker
from holdfast.schedules import CatchUp, Overlap, ScheduleHandle, Ticker, Timers, make_schedule
from holdfast.settings import Settings, unknown_variables
from holdfast.tasks import JobHandle, TaskClient
from holdfast.tasks.registering import Registering
from holdfast.workflow import (
    LAUNCHERS,
    Launcher,
    Run,
    Workflow,
    ask_start,
    check_options,
    enter_launcher,
    launcher,
    leave_launcher,
)

if TYPE_CHECKING:
    from holdfast.sync import App as BlockingApp

log = get_logger("holdfast")


FIRST_BATCH = 50
"""Of many instances, so many are started in the first statement, so that a worker soon has work; then twice as many."""
START_BATCH = 500
"""Instances started in one statement, at most."""


INTERFACES: dict[str, type[App]] = {}
"""The classes of Apps, by how their clients are spoken to."""


class App(Registering):
    """Settings, a store for workflows, a broker for tasks, and what works on them.

        app = App("shop", url="postgresql://localhost/shop")
        async with app:
            print(await Greeting().run("Ada"))

    Entered by `async with`, an App is the one that workflows started inside the block use, and in tasks made there; tasks
    that are in no such block use the App that was entered last. Where none is entered, the one that was opened by
    `open()` is used; of several, none can be meant. Without an App of your own, the first `await Greeting().run(…)` makes
    one from the settings.

    What tasks and actions share is `state`, or what `lifespan` gives: a function of the App, decorated with
    `@asynccontextmanager`, that each worker process enters before it takes work and leaves after its last.

    Tasks lie beside the workflows, unless `tasks_url` says otherwise. With `url="redis://…"` the App is for tasks alone.
    """

    if TYPE_CHECKING:

        @overload
        def __new__(cls, name: str = "holdfast", *, interface: Literal["sync"], **options: Any) -> BlockingApp: ...
        @overload
        def __new__(cls, name: str = "holdfast", *, interface: Literal["async"] = "async", **options: Any) -> App: ...

    def __new__(cls, name: str = "holdfast", *, interface: str = "async", **options: Any) -> App:
        if interface not in INTERFACES:
            raise ConfigurationError(f"interface= is {' or '.join(map(repr, sorted(INTERFACES)))}, not {interface!r}")
        made: type[Any] = INTERFACES[interface] if cls is App else cls
        return super().__new__(made)

    def __init__(  # pyright: ignore[reportInconsistentConstructor] - __new__ names what it looks at
        self,
        name: str = "holdfast",
        *,
        interface: Literal["async", "sync"] = "async",
        url: str | None = None,
        tasks_url: str | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
        state: Any = None,
        lifespan: Lifespan | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_lifespan(lifespan)
        if not name:
            raise ConfigurationError("an App needs a name")
        self.name = name
        self.settings = settings or Settings.load(database_url=url, tasks_url=tasks_url, **options)
        _warn_of_unknown_variables()
        self.clock: Clock = clock or SystemClock()
        self.state = state
        """What tasks and actions get that ask for `State`; on a worker, what the lifespan gives."""
        self._lifespan = lifespan
        self.registry = Registry(signing_key=self.settings.signing_key)
        self._choose()
        self.worker: Worker | None = None
        self.stubs: dict[str, Callable[..., Any]] = {}
        """For tests: functions that run in place of actions, by the actions' names."""
        self.ticker: Ticker | None = None
        """What fires schedules in this process, once a worker was made."""
        self.clockwork: Timers | None = None
        """What sends the jobs of timers in this process, once a worker was made and there are any."""
        self.sent: Callable[[], Awaitable[None]] | None = None
        """For tests: what comes before `delay` returns."""
        self.forgetful = False
        """For tests: take every instance from the store again after each step."""
        self._launcher = _AppLauncher(self)
        self._working: asyncio.Task[None] | None = None
        self._opened = False
        self._opening = asyncio.Lock()
        self._home: asyncio.AbstractEventLoop | None = None
        """The event loop in which it was opened."""
        self._process = os.getpid()
        """The process to which what is open belongs."""
        self._watching: asyncio.Task[None] | None = None
        self._stepping_in = False
        self._embedded: Worker | None = None
        """The worker that began because nobody else was there."""
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
        if (self.settings.database_url, self.settings.tasks_url) != (before.database_url, before.tasks_url):
            self._choose()

    def _choose(self) -> None:
        """Take the backends that the settings name, and clients for them. Opens nothing."""
        url, tasks_url = self.settings.database_url, self.settings.tasks_url
        poll = self.settings.poll_interval_ms / 1000
        self._store = open_store(url) if tasks_url is not None or keeps_workflows(url) else None
        if self._store is not None and tasks_url in (None, url):
            self.broker: Broker = self._store.broker()
        else:
            self.broker = open_broker(tasks_url or url, beside=self._store)
        self._client = (
            None
            if self._store is None
            else Client(
                store=self._store, registry=self.registry, clock=self.clock, poll_interval=poll, ready=self.open
            )
        )
        self.tasks = TaskClient(broker=self.broker, clock=self.clock, poll_interval=poll, ready=self.open)

    @property
    def store(self) -> Store:
        """Where workflows lie. Raises ConfigurationError in an App for tasks alone."""
        if self._store is None:
            raise no_workflows(self.settings.database_url)
        return self._store

    @store.setter
    def store(self, store: Store) -> None:
        self._store = store

    @property
    def client(self) -> Client:
        """What starts and watches workflows. Raises ConfigurationError in an App for tasks alone."""
        if self._client is None:
            raise no_workflows(self.settings.database_url)
        return self._client

    @property
    def has_workflows(self) -> bool:
        """Whether there is a store, so that workflows can be started."""
        return self._store is not None

    @property
    def backends(self) -> list[Backend]:
        """What is open while this App is: its store, and where its jobs lie, if that is elsewhere."""
        home = self.broker.home
        return [home] if self._store is None or self._store is home else [self._store, home]

    async def open(self, *, create: bool = True) -> Self:
        """Connect, and create or migrate the schema. Safe to call again.

        Raises ConfigurationError where there can be no database, or with `create=False` where there is none.
        """
        loop = asyncio.get_running_loop()
        if not (self._opened and self._home is loop and self._process == os.getpid()):
            self._come_home(loop)
            async with self._opening:
                if not self._opened:
                    await self._open_all(create=create)
                    self._opened = True
                    _DEFAULT.opened.add(self)
        return self

    def _come_home(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to this event loop. Raises ConfigurationError where it is open in one that goes on."""
        self.notice_fork()
        before, self._home = self._home, loop
        if before is None or before is loop:
            return
        if before.is_running() and (self._opened or self._opening.locked()):
            self._home = before
            raise ConfigurationError(
                f"the App {self.name!r} is open in the event loop of another thread; give each event loop an App of its own, or "
                'take App(…, interface="sync"), which any number of threads can use'
            )
        # Nothing of a loop that has ended serves in this one.
        self._opening = asyncio.Lock()
        self._working = self._watching = self._looking = self.worker = self._embedded = None
        self._stepping_in = False
        if self._opened:
            self._opened = False
            self.abandon()

    async def _open_all(self, *, create: bool) -> None:
        for number, backend in enumerate(self.backends):
            try:
                await backend.open(create=create)
            except BaseException:
                for opened in self.backends[:number]:
                    await opened.close()
                raise

    @property
    def home_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop in which it is open."""
        return self._home if self._opened else None

    def notice_fork(self) -> None:
        """Take new backends in a process that was forked: those that were opened belong to the one that it came from."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._opened = False
        self._home = None
        self._working = self._watching = self._looking = self.worker = self._embedded = None
        self._stepping_in = False
        self._opening = asyncio.Lock()
        self._choose()

    def is_open_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it was opened in this event loop, and not closed."""
        return self._opened and self._home is loop

    @property
    def place(self) -> str:
        """Its database, for people: the URL without a password, which its query may hold, too."""
        return _shown(self.settings.database_url)

    @property
    def tasks_place(self) -> str:
        """Where its jobs lie, for people."""
        return _shown(self.settings.tasks_url or self.settings.database_url)

    async def close(self) -> None:
        """Let go of everything. Work in hand goes back to the store."""
        if self._opened:
            self._come_home(asyncio.get_running_loop())
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
        if self._client is not None:
            await self._client.close()
        await self.tasks.close()
        if self._opened:
            _DEFAULT.opened.discard(self)
            for backend in self.backends:
                await backend.close()
            self._opened = False

    def abandon(self) -> None:
        """Let go of what was opened in an event loop that has ended without closing this App."""
        for backend in self.backends:
            backend.abandon()

    @contextmanager
    def used(self) -> Generator[None]:
        """Inside, this is the App in use; it is opened when it is needed."""
        enter_launcher(self._launcher)
        try:
            yield
        finally:
            leave_launcher(self._launcher)

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
        run.unused = False
        client = self.client
        await self.open()
        (handle,) = await client.start([run], waiting=run.wait)
        await self.embed(self.store)
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
        client = self.client
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
                handles += await client.start(batch)
                batch, size = [], min(2 * size, START_BATCH)
        handles += await client.start(batch)
        await self.embed(self.store)
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
        variable does not exist, or there is an instance of the new id.
        """
        check_options(new_id, {})
        client = self.client
        await self.open()
        return await client.fork(InstanceId(id), at=at, changes=changes or {}, new_id=new_id)

    # --- tasks

    def now(self) -> float:
        """The present moment in Unix seconds."""
        return self.clock.now()

    @property
    def results_ttl(self) -> float:
        """For how many seconds results of tasks are kept, where a task does not say."""
        return self.settings.results_ttl

    @property
    def default_retries(self) -> int:
        """How often tasks are retried, where a task does not say."""
        return self.settings.default_retries

    async def send(self, jobs: list[Job], *, through: Any = None) -> list[JobHandle[Any]]:
        """Send jobs; in the transaction of the connection `through`, if one is given."""
        if through is not None:
            # That needs nothing of this App's but its words; whoever commits may never open it.
            return await self.tasks.send_through(through, jobs)
        await self.open()
        handles = await self.tasks.send(jobs)
        await self.embed(self.broker.home)
        if self.sent is not None:
            await self.sent()
        return handles

    def give(self, sending: Coroutine[Any, Any, Any]) -> Any:
        """What `delay` of signatures gives: something to await."""
        return sending

    def job(self, id: str) -> JobHandle[Any]:
        """The handle of a job that exists."""
        self.notice_fork()
        return JobHandle(self.tasks, id)

    # --- schedules

    @called_as('app.schedule(Report, id="nightly", cron="30 2 * * *")')
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
        client = self.client
        run: Run[Any] = ask_start(workflow(), (), dict(inputs or {})) if isinstance(workflow, type) else workflow
        return await make_schedule(
            run,
            id=id,
            cron=cron,
            every=every,
            timezone=timezone,
            jitter=jitter,
            overlap=overlap,
            catch_up=catch_up,
            reach=client.reach,
            registry=self.registry,
            clock=self.clock,
        )

    def schedule_handle(self, id: str) -> ScheduleHandle:
        """The handle of a schedule that exists."""
        return ScheduleHandle(id, reach=self.client.reach, registry=self.registry, clock=self.clock)

    # --- working

    async def workers(self) -> list[WorkerView]:
        """Those that are alive, each once, with all that it holds; raises StoreUnavailable."""
        await self.open()
        found: dict[str, WorkerView] = {}
        for backend in self.backends:
            for view in await backend.workers(now=self.clock.now()):
                other = found.get(view.id)
                if other is not None:
                    owned, idle = view.owned + other.owned, view.idle and other.idle
                    view = replace(view, owned=owned, idle=idle, expires_at=min(view.expires_at, other.expires_at))
                found[view.id] = view
        return list(found.values())

    async def embed(self, backend: Backend) -> None:
        """With an embedded backend and nobody working on it, work here; also once whoever did is gone."""
        if not (backend.traits.embedded and self.settings.embedded_worker):
            return
        working = self._working is not None and not self._working.done()
        watching = self._watching is not None and not self._watching.done()
        if working or watching or self._stepping_in:
            return
        # Others may ask at the same time.
        self._stepping_in = True
        try:
            await self._step_in(backend)
            if not backend.traits.ephemeral:
                self._watching = asyncio.create_task(self._watch_over(backend), name="holdfast-watch")
        finally:
            self._stepping_in = False

    async def _step_in(self, backend: Backend) -> bool:
        """Work here unless somebody else's lease stands."""
        if not backend.traits.ephemeral and await backend.workers(now=self.clock.now()):
            return False
        self._embedded = self.start_worker()
        return True

    async def _watch_over(self, backend: Backend) -> None:
        """Step in once no lease of others stands, as that of a process which was killed; give way to one who comes later."""
        while True:
            try:
                if self._working is not None and not self._working.done():
                    await asyncio.sleep(min(5.0, self.settings.lease_seconds / 3))
                    await self._give_way(backend)
                else:
                    await asyncio.sleep(min(1.0, self.settings.lease_seconds / 3))
                    await self._step_in(backend)
            except StoreUnavailable as error:
                log.warning("store unavailable", error=str(error))

    async def _give_way(self, backend: Backend) -> None:
        """Work no longer where a worker for all queues has begun since. What runs here ends first."""
        views = await backend.workers(now=self.clock.now())
        mine = [view.started_at for view in views if view.id == self._worker_id]
        if self._working is None or self.worker is not self._embedded or not mine:
            return
        if not any(view.started_at > mine[0] and "*" in view.queues.split(",") for view in views):
            return
        log.info("embedded worker gives way", worker=self._worker_id)
        assert self.worker is not None
        self.worker.stop()
        await asyncio.wait([self._working])
        self._working = self.worker = None

    @property
    def _worker_id(self) -> str | None:
        heart = None if self.worker is None else self.worker.heart
        return None if heart is None else heart.worker

    def start_worker(self) -> Worker:
        """Work in this process's event loop, until the App is closed. Raises ConfigurationError where it is not open in it."""
        if not self.is_open_in(asyncio.get_running_loop()):
            raise ConfigurationError("start_worker() works where the App is open: `async with app: app.start_worker()`")
        worker = self.make_worker()
        self.worker = worker
        self._working = asyncio.create_task(worker.run(), name="holdfast-worker")
        self._working.add_done_callback(_report)
        return worker

    def make_worker(self) -> Worker:
        """A worker on this App's store and broker, not yet running."""
        services = [JobSweeper(broker=self.broker, clock=self.clock).run]
        if self.timers:
            self.clockwork = Timers(self.timers, clock=self.clock)
            services = [self.clockwork.run, *services]
        if self._store is not None:
            self.ticker = Ticker(store=self._store, registry=self.registry, clock=self.clock)
            sweeper = Sweeper(store=self._store, clock=self.clock, settings=self.settings)
            services = [self.ticker.run, sweeper.run, *services]
        client = self._client
        return Worker(
            store=self._store,
            broker=self.broker,
            registry=self.registry,
            clock=self.clock,
            settings=self.settings,
            ended=client.ended if client is not None else lambda _id, _ending: False,
            parked=client.parked if client is not None else lambda _id: None,
            stub=self.stubs.get if self.stubs else None,
            forgetful=self.forgetful,
            services=services,
            hooks=self.hooks,
            lifespan=lambda: state_of(self, self._lifespan),
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


INTERFACES["async"] = App


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
            app.abandon()

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


def _shown(url: str) -> str:
    """A URL without its password, which its query may hold, too."""
    url = url.partition("?")[0]
    head, at, tail = url.rpartition("@")
    scheme, slashes, user = head.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}{at}{tail}" if at else url


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("worker ended", error=str(error), exc_info=error)
