"""Dead letters of an App: read, replayed and purged, all of them or those that a filter wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from holdfast.model.job import JobView
from holdfast.tasks.client import JobHandle, TaskClient


class HasTasks(Protocol):
    """An App."""

    @property
    def tasks(self) -> TaskClient: ...

    async def open(self) -> object: ...


Filter = Callable[[JobView], bool]


async def read_dead(app: HasTasks, filter: Filter | None = None) -> list[JobView]:
    """The dead letters that `filter` wants, newest first."""
    await app.open()
    return await app.tasks.all_dead(filter)


async def replay_dead(app: HasTasks, filter: Filter | None = None) -> list[JobHandle[object]]:
    """Queue the dead letters again that `filter` wants, as they were sent; returns those that are queued.

    One whose unique text another job has by now stays where it is.

        await replay_dead(app, filter=lambda job: job.task == "shop.tasks:send_receipt")
    """
    wanted = [view.id for view in await read_dead(app, filter)]
    return [JobHandle(app.tasks, id) for id in await app.tasks.replay(wanted)]


async def purge_dead(app: HasTasks, filter: Filter | None = None) -> int:
    """Remove the dead letters for ever that `filter` wants; returns how many."""
    wanted = [view.id for view in await read_dead(app, filter)]
    return len(await app.tasks.purge(wanted))
