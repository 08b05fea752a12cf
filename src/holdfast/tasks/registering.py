"""Registering: how users tell an App of their tasks, of timers, and of what runs beside them. Sends nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

from holdfast.clock import as_seconds
from holdfast.errors import ConfigurationError
from holdfast.retry import Duration, changed_policy, task_retry
from holdfast.runtime.hooks import Hook, Hooks
from holdfast.schedules import KEPT, Overlap, Spec, Timer
from holdfast.tasks.batches import BatchDecorator, batch_limits, of_items
from holdfast.tasks.definition import Sender, Task, TaskDecorator
from holdfast.tasks.options import JobOptions, TaskOptions, check_names, job_options

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Hook)

_DEFINITION = ("name", "timeout", "queue", "pool")
"""The options that stay with the definition, as those of any action."""


class Registering:
    """The part of an App that keeps what was registered with it."""

    task_class: type[Task[..., Any]] = Task
    """What functions become."""
    blocking = False
    """Whether its tasks are sent without `await`."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.timers: list[Timer] = []

    def _sender(self) -> Sender:
        return cast("Sender", self)

    # --- tasks

    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> TaskDecorator: ...
    def task(self, function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
        """Make a function, sync or async, a task: `await task.delay(…)` has a worker call it.

        It is retried ten times by default, after growing pauses (see `task_retry`), and then among the dead letters.
        `retries` counts the attempts after the first; `retry` is a whole policy, `backoff` only its pauses, `retry_on` and
        `give_up_on` say for which exceptions. Results
        are kept for `result_ttl` seconds (an hour by default; 0: not at all). A job that nobody has begun `expires`
        seconds after its moment becomes a dead letter. `unique=True` admits one job with the same arguments at a time.
        Raises ConfigurationError for a definition that cannot work.

            @app.task(retries=3)
            async def send_receipt(order: int) -> None: ...
        """
        check_names(options, TaskOptions, "@app.task")
        given: dict[str, Any] = {**options}
        definition = {name: given.pop(name) for name in _DEFINITION if name in given}
        jobs = job_options(JobOptions(), given)
        # The policy stays with the definition, so that jobs under way follow it when it changes.
        if jobs.retry:
            definition["retry"] = changed_policy(task_retry(self._sender().default_retries), jobs.retry)
        decorator = TaskDecorator(self._sender(), replace(jobs, retry={}), definition, made=self.task_class)
        return decorator if function is None else decorator(function)

    def batch_task(self, *, size: int, within: Duration = 0.1, **options: Unpack[TaskOptions]) -> BatchDecorator:
        """Make a function of a list of items a task of one item, whose jobs are gathered: up to `size` of them, or those that
        a worker has taken `within` seconds of the first one, run in one call.

        It returns a result for each item in their order, or None; an exception in a result's place is the failure of that item
        alone, one that is raised that of all. Each job is tried again, cancelled and settled by itself. Takes the options of
        `task`. Raises ConfigurationError.

            @app.batch_task(size=100, within=0.5)
            async def index(documents: list[str]) -> None: ...

            await index.delay("one document")
        """
        limits = batch_limits(size, within)
        if options.get("acks") == "early":
            raise ConfigurationError(
                'acks="early" settles jobs one by one before they run, and a batch task runs many at once'
            )
        decorator = self.task(**options)

        def decorate(function: Callable[..., Any]) -> Any:
            made = decorator(of_items(function))
            made.batch = limits
            return made

        return cast("BatchDecorator", decorate)

    # --- timers

    def crontab(
        self, cron: str, *, timezone: str = "UTC", overlap: Overlap | str = Overlap.ALLOW
    ) -> Callable[[Callable[..., Any]], Task[[], Any]]:
        """Have a function called at the times of a cron expression, once a tick however many workers there are.

        It becomes a task, if it is none yet. With `overlap="skip"`, a tick is left out while the job of an earlier one has not
        ended. A tick that comes while no worker is alive is left out. Raises ConfigurationError.

            @app.crontab("0 3 * * *", timezone="Europe/Berlin")
            async def tidy_up() -> None: ...
        """
        if not isinstance(cast("object", cron), str):
            raise ConfigurationError(f'crontab() takes the expression, as in @app.crontab("0 3 * * *"), not {cron!r}')
        return lambda function: self._timed(function, overlap, cron=cron, timezone=timezone)

    def timer(
        self, every: Duration, *, overlap: Overlap | str = Overlap.ALLOW
    ) -> Callable[[Callable[..., Any]], Task[[], Any]]:
        """Have a function called every so often (a timedelta or seconds), as by `crontab`.

        @app.timer(30)
        async def look_around() -> None: ...
        """
        seconds = as_seconds(every, "timer()")
        return lambda function: self._timed(function, overlap, every=seconds)

    def _timed(self, function: Callable[..., Any], overlap: Overlap | str, **rhythm: Any) -> Task[[], Any]:
        task = cast("Task[[], Any]", function if isinstance(function, Task) else self.task(function))
        if overlap not in (Overlap.ALLOW, Overlap.SKIP):
            raise ConfigurationError(f"overlap= of a timer is 'allow' or 'skip', not {overlap!r}")
        spec = Spec(workflow=task.name, **rhythm)
        spec.check()
        try:
            task.check()
        except TypeError as error:
            raise ConfigurationError(f"a timer calls {task.name} without arguments: {error}") from error
        kept = max(KEPT, task.result_ttl)
        unique = f"timer:{task.name}" if overlap == Overlap.SKIP else None

        def options(id: str) -> JobOptions:
            return replace(task.jobs, id=id, result_ttl=kept, unique=unique or task.jobs.unique)

        self.timers.append(Timer(spec=spec, send=lambda id: self._sender().send([task.job((), {}, options(id))])))
        return task

    # --- hooks

    def before_job(self, hook: F) -> F:
        """Call this with the `CurrentJob` before each attempt, in its context. What it raises, the attempt has raised."""
        return _added(self.hooks.before, hook)

    def after_job(self, hook: F) -> F:
        """Call this with the `CurrentJob` and its outcome (`Done`, `Again` or `Failed`) after each attempt."""
        return _added(self.hooks.after, hook)

    def on_retry(self, hook: F) -> F:
        """Call this with the `CurrentJob` and the outcome `Again` when an attempt has failed and another one will follow."""
        return _added(self.hooks.retry, hook)

    def on_dead(self, hook: F) -> F:
        """Call this with the `CurrentJob` and the outcome `Failed` when a job becomes a dead letter."""
        return _added(self.hooks.dead, hook)

    def on_start(self, hook: F) -> F:
        """Call this before a worker process takes work. What it raises keeps the worker from that."""
        return _added(self.hooks.start, hook)

    def on_stop(self, hook: F) -> F:
        """Call this after a worker process has done its last work."""
        return _added(self.hooks.stop, hook)


def _added(hooks: list[Hook], hook: F) -> F:
    if not callable(hook):
        raise ConfigurationError(f"a hook is a function, not {hook!r}")
    hooks.append(hook)
    return hook
