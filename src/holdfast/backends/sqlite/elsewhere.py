"""The `Results` port on SQLite: jobs that lie elsewhere, beside the store's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from holdfast.backends.elsewhere import end_of
from holdfast.backends.shared import split_waiters
from holdfast.backends.sqlite.database import Session, as_json
from holdfast.ids import JobId
from holdfast.model.job import Job
from holdfast.ports import ELSEWHERE, Ended


class SqliteResults:
    """Opens and closes nothing: `do` runs a function in the store's database."""

    def __init__(self, do: Callable[..., Awaitable[Any]]) -> None:
        self._do = do

    async def expect(self, jobs: Sequence[Job], *, keep_until: float, again: bool = False) -> None:
        if jobs:
            await self._do(_expect, jobs, keep_until, again)

    async def conclude(self, ended: Sequence[Ended]) -> Sequence[tuple[str, JobId]]:
        return await self._do(_conclude, ended) if ended else []

    async def recalled(self, ids: Sequence[JobId]) -> Sequence[JobId]:
        return await self._do(_recalled, ids)


def _expect(session: Session, jobs: Sequence[Job], keep_until: float, again: bool) -> None:
    beside = {"owner": ELSEWHERE, "keep_until": keep_until, "again": again}
    with session.writing():
        session.many("expect_jobs", [job._asdict() | beside for job in jobs])


def _conclude(session: Session, ended: Sequence[Ended]) -> list[tuple[str, JobId]]:
    told: list[tuple[str, JobId]] = []
    with session.writing():
        for job, attempt, outcome in ended:
            values = job._asdict() | end_of(outcome)._asdict() | {"due_at": job.due_at}
            for row in session.all("conclude_job", owner=ELSEWHERE, attempt=attempt, **values):
                told += [(channel, job.id) for channel in split_waiters(row["waiter"])]
    return told


def _recalled(session: Session, ids: Sequence[JobId]) -> list[JobId]:
    return [JobId(row["id"]) for row in session.all("recalled_jobs", owner=ELSEWHERE, ids=as_json(ids))]
