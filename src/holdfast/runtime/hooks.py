"""Hooks: what users have run beside their tasks, and when a worker begins and ends. Decides nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import words_of
from holdfast.logs import get_logger
from holdfast.model.job import Again, Done, Failed, Outcome
from holdfast.runtime.background import Background
from holdfast.runtime.current import CurrentJob

log = get_logger("holdfast.hooks")

Hook = Callable[..., Any]
"""A function, sync or async. Sync ones run in the event loop, and must be short."""


def _none() -> list[Hook]:
    return []


@dataclass(slots=True)
class Hooks:
    """What is called when, in the order in which it was given."""

    before: list[Hook] = field(default_factory=_none)
    after: list[Hook] = field(default_factory=_none)
    retry: list[Hook] = field(default_factory=_none)
    dead: list[Hook] = field(default_factory=_none)
    start: list[Hook] = field(default_factory=_none)
    stop: list[Hook] = field(default_factory=_none)

    @property
    def tells(self) -> bool:
        """Whether anybody is told of outcomes."""
        return bool(self.after or self.retry or self.dead)

    async def begin(self, job: CurrentJob) -> None:
        """Before an attempt. What these raise, the attempt has raised."""
        await _call_all(self.before, job)

    def ended(self, job: CurrentJob, outcome: Outcome, background: Background) -> None:
        """After an attempt: begins what is to be told of its outcome."""
        hooks = list(self.after) if isinstance(outcome, Done | Again | Failed) else []
        if isinstance(outcome, Again):
            hooks += self.retry
        elif isinstance(outcome, Failed) and outcome.dead:
            hooks += self.dead
        if hooks:
            background.begin(_tell(hooks, job, outcome))

    async def started(self) -> None:
        """Before a worker takes work. What these raise keeps it from that."""
        await _call_all(self.start)

    async def stopped(self) -> None:
        """After a worker's last work. What these raise is logged."""
        # As with context managers: the last to be set up is the first to go.
        await _tell(self.stop[::-1])


async def _call_all(hooks: Sequence[Hook], *given: object) -> None:
    for hook in hooks:
        result = hook(*given)
        if inspect.isawaitable(result):
            await result


async def _tell(hooks: Sequence[Hook], *given: object) -> None:
    for hook in hooks:
        try:
            await _call_all([hook], *given)
        except Exception as error:
            name = getattr(hook, "__qualname__", repr(hook))
            log.error("hook failed", hook=name, error=f"{type(error).__name__}: {words_of(error)}", exc_info=error)
