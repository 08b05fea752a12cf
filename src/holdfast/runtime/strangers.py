"""Strangers: jobs of tasks that are not defined on the worker that took them. Workers of another release may know them."""

from __future__ import annotations

from holdfast.logs import get_logger
from holdfast.model.job import ClaimedJob

log = get_logger("holdfast.worker")

NAMES_LIMIT = 1000
"""Names that are remembered, at most; those beyond get no patience."""
LONGEST_PAUSE = 30.0
"""Seconds after which a job comes again, at most."""


def why_unknown(name: str) -> str:
    """Why a worker does not know the task of this name, and what to do about it."""
    if name.startswith("__main__:"):
        return (
            f"the task {name!r} was defined in a script that was run itself, and no worker can import that: move the task into a "
            "module that the script and the worker import, and send it anew"
        )
    return f"no task {name!r} is defined on the worker that took it; import its module there, then replay it"


class Strangers:
    """For how long a worker leaves jobs of tasks that it does not know to others: so many seconds from the first one on."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._met: dict[str, float] = {}
        """By name of the task, when the first of its jobs came."""

    def pause(self, job: ClaimedJob, *, now: float) -> float | None:
        """Seconds after which the job should come again, to whichever worker takes it then; None: nobody seems to know it."""
        if job.name not in self._met:
            if len(self._met) >= NAMES_LIMIT or self._patience <= 0:
                return None
            self._met[job.name] = now
            log.warning(
                "task not known here",
                task=job.name,
                job=job.id,
                left_to_others_for=self._patience,
                hint=why_unknown(job.name),
            )
        waited = now - self._met[job.name]
        return min(max(1.0, waited / 4), LONGEST_PAUSE) if waited < self._patience else None
