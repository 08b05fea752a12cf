"""boilermaker's application: functions that take its state first, are registered, and are tried again only when they ask for it.

worker = Boilermaker(State(), url="redis://localhost")
worker.register_async(send_mail, policy=retries.RetryPolicy.default())
await worker.apply_async(send_mail, "ada@example.org")
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

from holdfast import tasks
from holdfast.app import App
from holdfast.compat import retries
from holdfast.errors import ConfigurationError
from holdfast.inject import app_state
from holdfast.retry import Duration, Retry, RetryPolicy, changed_policy
from holdfast.tasks import JobHandle, Signature
from holdfast.tasks.definition import Asked

__all__ = ["Boilermaker", "Task", "TaskFailureResult", "retries"]

REGISTERED: dict[Callable[..., Any], tasks.Task[..., Any]] = {}
"""The tasks that functions were registered as. The last registration of a function counts."""


class TaskFailureResult(Exception):
    """Returned by a task that has failed, and asks for no other attempt. It may be raised as well."""


class Boilermaker(App):
    """An App whose state is the first argument of each function that is registered with it."""

    def __init__(  # pyright: ignore[reportInconsistentConstructor] - as that of App
        self, state: Any, *, name: str = "boilermaker", **options: Any
    ) -> None:
        super().__init__(name, state=state, **options)

    def register_async(self, function: Callable[..., Any], *, policy: RetryPolicy) -> tasks.Task[..., Any]:
        """Make a function a task. It is tried again, as `policy` says, when it raises a RetryException, and else is not."""
        task = self.task(retry=_when_asked(policy))(_with_state(function))
        REGISTERED[function] = task
        return task

    async def apply_async(
        self,
        function: Callable[..., Any],
        *args: Any,
        delay: Duration | None = None,
        policy: RetryPolicy | None = None,
        **kwargs: Any,
    ) -> JobHandle[Any]:
        """Send a call of a registered function; `policy` is that of this call."""
        return await _asked(function, delay=delay, policy=policy).delay(*args, **kwargs)

    def create_task(
        self, function: Callable[..., Any], *args: Any, policy: RetryPolicy | None = None, **kwargs: Any
    ) -> Signature[Any]:
        """A call of a registered function, to be given callbacks and then to `publish_task`."""
        return _asked(function, policy=policy).s(*args, **kwargs)

    def chain(self, *calls: Signature[Any], on_failure: Signature[Any] | None = None) -> Signature[Any]:
        """As `holdfast.tasks.chain`."""
        return tasks.chain(*calls, on_failure=on_failure)

    async def publish_task(self, call: Signature[Any]) -> JobHandle[Any]:
        """Send a call, with all that follows it."""
        return await call.delay()

    async def run(self) -> None:
        """Work, until this is cancelled or the worker is told to stop."""
        await self.open()
        self.worker = self.make_worker()
        await self.worker.run()


class Task:
    """Makes calls of registered functions."""

    @staticmethod
    def si(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Signature[Any]:
        """A call that takes nothing from the one before it."""
        return _asked(function).si(*args, **kwargs)


def _asked(
    function: Callable[..., Any], *, delay: Duration | None = None, policy: RetryPolicy | None = None
) -> Asked[..., Any]:
    task = REGISTERED.get(function)
    if task is None:
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(f"{name} is not registered; call register_async({name}, policy=…) first")
    if policy is None:
        return task.options(delay=delay)
    return task.options(delay=delay, retry=_when_asked(policy))


def _when_asked(policy: RetryPolicy) -> RetryPolicy:
    """The policy, for exceptions alone that ask for another attempt."""
    return changed_policy(policy, {"retry_on": [f"{Retry.__module__}:{Retry.__qualname__}"]})


def _with_state(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without its first parameter, which is given the state; a failure that it returns is raised."""
    first, *rest = inspect.signature(function).parameters.values()
    del first
    made: Callable[..., Any]
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return _raised(await function(app_state(), *args, **kwargs))

        made = call
    else:

        @functools.wraps(function)
        def call_sync(*args: Any, **kwargs: Any) -> Any:
            return _raised(function(app_state(), *args, **kwargs))

        made = call_sync
    cast("Any", made).__signature__ = inspect.Signature(rest)
    return made


def _raised(result: Any) -> Any:
    if result is TaskFailureResult:
        raise TaskFailureResult
    if isinstance(result, TaskFailureResult):
        raise result
    return result
