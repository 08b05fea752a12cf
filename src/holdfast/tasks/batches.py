"""Batch tasks: functions of many items, enqueued item by item. Gathers nothing itself."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar

from holdfast.clock import as_seconds
from holdfast.errors import ConfigurationError
from holdfast.inject import plan_for
from holdfast.retry import Duration
from holdfast.task import BatchLimits, Gathered
from holdfast.tasks.definition import Task

T = TypeVar("T")
R = TypeVar("R")

LARGEST = 1000
"""Items of one batch, at most: a worker holds no more jobs at once."""


class BatchDecorator(Protocol):
    """What `@app.batch_task(…)` gives: makes a function of a list a task of one item."""

    def __call__(
        self, function: Callable[[list[T]], Awaitable[Sequence[R] | None] | Sequence[R] | None], /
    ) -> Task[[T], R]: ...


def batch_limits(size: int, within: Duration) -> BatchLimits:
    """How items are gathered. Raises ConfigurationError."""
    if type(size) is not int or not 1 <= size <= LARGEST:
        raise ConfigurationError(f"size= is a whole number from 1 to {LARGEST}, not {size!r}")
    seconds = as_seconds(within, "within=")
    if seconds < 0:
        raise ConfigurationError(f"within= cannot be negative, and is {within!r}")
    return BatchLimits(size, seconds)


def of_items(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function for one item, or for those of a batch. Raises ConfigurationError."""
    taken = [
        parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in {need[0] for need in plan_for(function).needs}
    ]
    if len(taken) != 1 or taken[0].kind not in (taken[0].POSITIONAL_ONLY, taken[0].POSITIONAL_OR_KEYWORD):
        raise ConfigurationError(
            f"the batch task {function.__qualname__} takes one parameter, the list of items, beside what is injected"
        )

    return _async_of_items(function) if inspect.iscoroutinefunction(function) else _sync_of_items(function)


def _async_of_items(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def call(item: Any, **injected: Any) -> Any:
        if isinstance(item, Gathered):
            return await function(list(item), **injected)
        return _only(await function([item], **injected))

    return call


def _sync_of_items(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(item: Any, **injected: Any) -> Any:
        if isinstance(item, Gathered):
            return function(list(item), **injected)
        return _only(function([item], **injected))

    return call


def _only(results: Sequence[Any] | None) -> Any:
    """The result of the one item. Raises what stands in its place."""
    if results is None:
        return None
    [result] = results
    if isinstance(result, BaseException):
        raise result
    return result
