"""The job that runs: what a task may know of it, in whichever thread or process it does. Holds no service."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from holdfast.errors import NotInJob
from holdfast.ids import JobId


class CurrentJob(NamedTuple):
    """A job as the task sees it that it calls."""

    id: JobId
    name: str
    """The task's name."""
    attempt: int
    """From 1."""
    queue: str


CURRENT_JOB: ContextVar[CurrentJob] = ContextVar("holdfast_job")


def current_job() -> CurrentJob:
    """The job whose task is running here: its id, its name, which attempt this is. Raises NotInJob elsewhere.

    @app.task
    async def charge(order: int) -> None:
        await bank.charge(order, idempotency_key=current_job().id)
    """
    try:
        return CURRENT_JOB.get()
    except LookupError:
        raise NotInJob("there is no job here: current_job() is for tasks that a worker runs") from None
