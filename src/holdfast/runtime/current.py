"""The job that runs: what a task may know and say of it, in whichever thread or process it does. Holds no service."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple

from holdfast.errors import NotInJob
from holdfast.ids import JobId

NOTE_LIMIT = 1000
"""Characters of what is noted of a progress, at most."""


class CurrentJob(NamedTuple):
    """A job as the task sees it that it calls."""

    id: JobId
    name: str
    """The task's name."""
    attempt: int
    """From 1."""
    queue: str


class Progress(NamedTuple):
    """How far a job is, as its task has said last."""

    done: float
    of: float | None = None
    """What `done` will be in the end, if that is known."""
    note: str = ""

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None where the end is not known."""
        return None if self.of is None else self.done / self.of


class Running(NamedTuple):
    """A job that runs here, and who is to hear how far it is."""

    job: CurrentJob
    told: Callable[[Progress], None]
    """May be called in any thread."""


RUNNING: ContextVar[Running] = ContextVar("holdfast_job")


def current_job() -> CurrentJob:
    """The job whose task is running here: its id, its name, which attempt this is. Raises NotInJob elsewhere.

    @app.task
    async def charge(order: int) -> None:
        await bank.charge(order, idempotency_key=current_job().id)
    """
    try:
        return RUNNING.get().job
    except LookupError:
        raise NotInJob("there is no job here: current_job() is for tasks that a worker runs") from None


def report_progress(done: float, of: float | None = None, note: str = "") -> None:
    """Say how far this task is; `handle.progress()` tells it, moments later. Raises ValueError.

    Say it as often as you like: what is said in quick succession is written once. Where no job runs, nobody hears it.

    @app.task
    def convert(pages: list[str]) -> None:
        for number, page in enumerate(pages, 1):
            render(page)
            report_progress(number, of=len(pages))
    """
    if not 0 <= done < float("inf"):
        raise ValueError(f"progress begins with 0 and is finite, not {done!r}")
    if (of is not None and not max(done, 0) <= of < float("inf")) or of == 0:
        raise ValueError(f"progress cannot be {done!r} of {of!r}")
    if len(note) > NOTE_LIMIT:
        raise ValueError(f"the note has {len(note)} characters, and {NOTE_LIMIT} are kept")
    running = RUNNING.get(None)
    if running is not None:
        running.told(Progress(float(done), None if of is None else float(of), note))
