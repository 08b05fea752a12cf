"""The `Results` port on PostgreSQL: jobs that lie elsewhere, beside the store's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from holdfast.backends.elsewhere import end_of
from holdfast.backends.postgres.line import Line
from holdfast.backends.shared import split_waiters
from holdfast.ids import JobId
from holdfast.model.job import Job
from holdfast.ports import ELSEWHERE, Ended


class PostgresResults:
    """Opens and closes nothing: its connection is the store's."""

    def __init__(self, writer: Callable[[], Line]) -> None:
        self._writer = writer

    async def expect(self, jobs: Sequence[Job], *, keep_until: float, again: bool = False) -> None:
        if jobs:
            values = expected(jobs) | {"keep_until": keep_until, "again": again}
            await self._writer().fetch("expect_jobs", owner=ELSEWHERE, **values)

    async def conclude(self, ended: Sequence[Ended]) -> Sequence[tuple[str, JobId]]:
        if not ended:
            return []
        rows = await self._writer().fetch("conclude_jobs", owner=ELSEWHERE, **concluded(ended))
        return [(channel, JobId(row["id"])) for row in rows for channel in split_waiters(row["waiter"])]

    async def recalled(self, ids: Sequence[JobId]) -> Sequence[JobId]:
        rows = await self._writer().fetch("recalled_jobs", owner=ELSEWHERE, ids=list(ids))
        return [JobId(row["id"]) for row in rows]


def expected(jobs: Sequence[Job]) -> dict[str, Any]:
    """The columns of jobs, in the order of their ids, as all writers lock them."""
    in_order = sorted({job.id: job for job in jobs}.values())
    return _columns(in_order) | {"expires_ats": [job.expires_at for job in in_order]}


def concluded(ended: Sequence[Ended]) -> dict[str, Any]:
    """The columns of jobs and of their ends."""
    in_order = sorted({each.job.id: each for each in ended}.values(), key=lambda each: each.job.id)
    ends = [end_of(each.outcome) for each in in_order]
    return _columns([each.job for each in in_order]) | {
        "attempts": [each.attempt for each in in_order],
        "statuses": [end.status for end in ends],
        "ended_ats": [end.ended_at for end in ends],
        "keep_untils": [end.keep_until for end in ends],
        "reasons": [end.reason for end in ends],
        "outcomes": [end.outcome for end in ends],
    }


def _columns(jobs: Sequence[Job]) -> dict[str, Any]:
    return {
        "ids": [job.id for job in jobs],
        "names": [job.name for job in jobs],
        "payloads": [job.payload for job in jobs],
        "queues": [job.queue for job in jobs],
        "priorities": [job.priority for job in jobs],
        "created_ats": [job.created_at for job in jobs],
        "due_ats": [job.due_at for job in jobs],
        "waiters": [job.waiter for job in jobs],
    }
