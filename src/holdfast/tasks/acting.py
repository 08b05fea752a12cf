"""What people do to jobs that are there, and what came of it in words. Commands and pages share it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from holdfast.ids import JobId
from holdfast.model.job import JobFilter, JobStatus
from holdfast.tasks.client import JobHandle, TaskClient


async def cancel_jobs(client: TaskClient, ids: Sequence[JobId]) -> dict[str, str]:
    """Ask jobs to end; of each what came of it: `cancelled` and `asked to end` are what was wanted."""
    said: dict[str, str] = {}
    for id in ids:
        before = await client.broker.look([id])
        if await JobHandle(client, id).cancel():
            said[id] = "asked to end" if before and before[0].status is JobStatus.RUNNING else "cancelled"
        else:
            said[id] = "has ended already" if before else "not found: there was none, or it has ended and is not kept"
    return said


async def act_on_dead(
    client: TaskClient,
    act: Callable[[Sequence[JobId]], Awaitable[Sequence[JobId]]],
    ids: Sequence[JobId],
    **wanted: Any,
) -> tuple[int, int]:
    """Replay or purge dead letters: those of these ids, or where there are none, all that the filter's fields want.

    Returns to how many it was done, and how many such dead letters there were.
    """
    if ids:
        dead = {view.id for view in await client.broker.find(_among(ids))}
    else:
        dead = {view.id for view in await client.all_dead(**wanted)}
    return len(await act(sorted(dead))), len(dead)


def _among(ids: Sequence[JobId]) -> JobFilter:
    return JobFilter(status=JobStatus.DEAD, ids=ids, limit=len(ids))
