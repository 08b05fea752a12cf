"""Tasks: functions that are enqueued, run by whichever worker has room, and answered for by a handle."""

from holdfast.runtime.messages import ERROR, RESULT
from holdfast.tasks.chords import Chord, ChordHandle, chord
from holdfast.tasks.client import JobHandle, TaskClient, as_completed, gather, wait
from holdfast.tasks.dead import purge_dead, read_dead, replay_dead
from holdfast.tasks.definition import Task
from holdfast.tasks.options import CallOptions, JobOptions, TaskOptions
from holdfast.tasks.queues import pause_queues, paused_queues, resume_queues
from holdfast.tasks.signature import ChainHandle, Group, Signature, chain, group

__all__ = [
    "ERROR",
    "RESULT",
    "CallOptions",
    "ChainHandle",
    "Chord",
    "ChordHandle",
    "Group",
    "JobHandle",
    "JobOptions",
    "Signature",
    "Task",
    "TaskClient",
    "TaskOptions",
    "as_completed",
    "chain",
    "chord",
    "gather",
    "group",
    "pause_queues",
    "paused_queues",
    "purge_dead",
    "read_dead",
    "replay_dead",
    "resume_queues",
    "wait",
]
