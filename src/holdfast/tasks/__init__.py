"""Tasks: functions that are enqueued, run by whichever worker has room, and answered for by a handle."""

from holdfast.tasks.client import JobHandle, TaskClient, as_completed, gather, wait
from holdfast.tasks.dead import purge_dead, read_dead, replay_dead
from holdfast.tasks.definition import JobOptions, Task

__all__ = [
    "JobHandle",
    "JobOptions",
    "Task",
    "TaskClient",
    "as_completed",
    "gather",
    "purge_dead",
    "read_dead",
    "replay_dead",
    "wait",
]
