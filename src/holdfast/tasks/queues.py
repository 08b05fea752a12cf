"""Queues of an App: paused and resumed. What waits in a paused queue stays there, and what comes joins it."""

from __future__ import annotations

from holdfast.errors import ConfigurationError
from holdfast.tasks.dead import HasTasks


async def pause_queues(app: HasTasks, *queues: str) -> None:
    """Let no worker take jobs of these queues until they are resumed. What runs goes on. Raises ConfigurationError.

    It holds for all workers, also for those that start later. Instances of workflows go on.

        await pause_queues(app, "mail")
    """
    await app.open()
    await app.tasks.broker.pause(_named(queues), now=app.tasks.clock.now())


async def resume_queues(app: HasTasks, *queues: str) -> None:
    """Let workers take jobs of these queues again. Raises ConfigurationError."""
    await app.open()
    await app.tasks.broker.resume(_named(queues))


async def paused_queues(app: HasTasks) -> dict[str, float]:
    """The queues that are paused, and since when (Unix seconds)."""
    await app.open()
    return dict(await app.tasks.broker.paused())


def _named(queues: tuple[str, ...]) -> tuple[str, ...]:
    if not queues:
        raise ConfigurationError('name the queues: pause_queues(app, "mail")')
    for queue in queues:
        if queue == "*" or not queue:
            raise ConfigurationError(f"{queue!r} names no queue; name each of those that are meant")
    return queues
