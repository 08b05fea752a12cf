"""For tests of workflows and tasks: an App in memory, time that moves by itself, crashes after every step, actions replaced.

async with workflow_app(stubs={charge: lambda card, cents: "ok"}) as app:
    assert await Checkout().run("card", 100) == "ok"      # sleeps of days take no time
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from difflib import get_close_matches
from functools import partial
from typing import Any, cast

from holdfast.app import App
from holdfast.clock import ManualClock
from holdfast.errors import ConfigurationError
from holdfast.model.job import JobFilter, JobStatus
from holdfast.task import ACTIONS, Action
from holdfast.tasks.definition import STAND_INS, Sender

__all__ = ["ManualClock", "at_work", "drain", "workflow_app"]


@asynccontextmanager
async def workflow_app(
    url: str = "sqlite://:memory:",
    *,
    stubs: Mapping[Action[..., Any] | str, Callable[..., Any]] | None = None,
    crash: bool = False,
    move_time: bool = True,
    eager: bool = False,
    start: datetime | None = None,
    **settings: Any,
) -> AsyncGenerator[App, None]:
    """An App with a worker of its own, and a clock that moves to the next alarm whenever nothing else can happen.

    `stubs` gives functions to run in place of actions. With `crash`, every instance is thrown out of memory after each
    of its steps and read back from the store. With `move_time=False`, time stands still until `app.clock.move(…)`.
    With `eager`, `delay` returns when the job and all that follows from it have ended, retries included.
    """
    for action in cast("Mapping[object, object]", stubs or {}):
        if not isinstance(action, Action | str):
            raise ConfigurationError(f"stubs= takes actions, or their names, with the functions to run, not {action!r}")
    named = {action if isinstance(action, str) else action.name: stub for action, stub in (stubs or {}).items()}
    for name in named.keys() - ACTIONS.keys():
        near = ", ".join(repr(each) for each in get_close_matches(name, ACTIONS, n=3))
        hint = f"; did you mean {near}?" if near else "; import the module that defines it first"
        raise ConfigurationError(f"there is no action {name!r} to put a stub in place of{hint}")
    clock = ManualClock(start)
    app = App("test", url=url, clock=clock, **settings)
    if eager and not move_time:
        raise ConfigurationError("eager= waits for retries and delays, which never come with move_time=False")
    app.forgetful = crash
    app.stubs = named
    if eager:
        app.sent = partial(drain, app)

    def stand_in(own: Sender) -> Sender:
        # Tasks of an App that is open, such as another one of the test, stay its own; blocking ones run elsewhere.
        apart = isinstance(own, App) and (own.blocking or own.home_loop is not None)
        return own if apart else cast("Sender", app)

    STAND_INS.append(stand_in)
    try:
        async with at_work(app, move_time=move_time):
            yield app
    finally:
        STAND_INS.remove(stand_in)


@asynccontextmanager
async def at_work(app: App, *, move_time: bool = True) -> AsyncGenerator[App, None]:
    """An App of your own, opened and with a worker. Its `clock=ManualClock()` moves by itself, unless `move_time` is False.

    Raises ConfigurationError for an App with another clock whose time is to be moved.
    """
    clock = app.clock
    if move_time and not isinstance(clock, ManualClock):
        raise ConfigurationError("make the App with clock=ManualClock(), or say move_time=False")
    async with app:
        worker = app.start_worker()
        await worker.ready.wait()
        mover = asyncio.create_task(_move(app, cast("ManualClock", clock))) if move_time else None
        try:
            yield app
        finally:
            if mover is not None:
                mover.cancel()
                await asyncio.gather(mover, return_exceptions=True)


async def drain(app: App) -> None:
    """Return when no job is left to be run, those that are to be tried again or come later included."""
    broker, worker = app.tasks.broker, app.worker
    assert worker is not None
    while True:
        finished = worker.finished_actions
        # A job goes from one status to the other between two questions, but not while the worker rests.
        if worker.quiet and not await broker.count(JobFilter(status=JobStatus.QUEUED)):
            running = await broker.count(JobFilter(status=JobStatus.RUNNING))
            if not running and worker.quiet and worker.finished_actions == finished:
                return
        await asyncio.sleep(0.001)


async def _move(app: App, clock: ManualClock) -> None:
    """Whenever the worker has nothing to do but wait, let the next moment come."""
    quiet = 0
    while True:
        await asyncio.sleep(0.0005)
        clocks = [each for each in (app.ticker, app.clockwork) if each is not None]
        at_rest = app.worker is not None and app.worker.quiet and all(each.asleep for each in clocks)
        quiet = quiet + 1 if at_rest else 0
        moment = clock.next_alarm
        # Twice in a row: what has just been announced gets its turn first.
        if quiet >= 3 and moment is not None:
            quiet = 0
            clock.move_to(max(moment, clock.now()))
