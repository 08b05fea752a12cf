"""The port of results of jobs that lie elsewhere: with a broker that cannot say what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Cancelled, Done, Failed, Job

ELSEWHERE = WorkerId("elsewhere")
"""Who holds, in a store, the jobs that lie elsewhere: a worker that there is none of, so that nobody claims them here."""


class Ended(NamedTuple):
    """The end of a job that lies elsewhere."""

    job: Job
    attempt: int
    outcome: Done | Failed | Cancelled


class Results(Protocol):
    """What became of jobs that lie elsewhere, kept beside a store's own. They are looked at, cancelled and swept as those are."""

    async def expect(self, jobs: Sequence[Job], *, keep_until: float, again: bool = False) -> None:
        """Keep that these lie elsewhere, until then at least; with `again`, those that have ended, too."""
        ...

    async def conclude(self, ended: Sequence[Ended]) -> Sequence[tuple[str, JobId]]:
        """Keep how these ended, unless that is known; returns (channel, job) of those to notify."""
        ...

    async def recalled(self, ids: Sequence[JobId]) -> Sequence[JobId]:
        """Which of these somebody has asked to end."""
        ...
