"""Jobs as people and scripts read them: arguments, errors, progress, what follows. Reads bytes; calls and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.codec import describe, describe_error, loads, stored_traceback, to_json
from holdfast.errors import CodecError, HoldfastError
from holdfast.model.job import JobStatus, JobView, Reason
from holdfast.observe.history import arguments_in_words
from holdfast.observe.moments import iso
from holdfast.runtime import messages, reporting

LONGEST = 2000
"""Characters of arguments that are shown."""


def job_facts(view: JobView) -> dict[str, Any]:
    """A job as plain JSON values. Moments are texts in ISO form."""
    ended_well = view.status is JobStatus.DONE
    return {
        "id": view.id,
        "task": view.name,
        "status": view.status.value,
        "reason": view.reason,
        "arguments": arguments_of(view.payload),
        "attempt": view.attempt,
        "queue": view.queue,
        "priority": view.priority,
        "created": iso(view.created_at),
        "due": iso(view.due_at),
        "ended": iso(view.ended_at),
        "owner": view.owner,
        "progress": progress_of(view),
        "result": to_json(loads(view.outcome)) if ended_well and view.outcome else None,
        "error": None if ended_well else why(view),
        "traceback": None if ended_well else traceback_of(view),
    }


def why(view: JobView) -> str | None:
    """What came in a job's way, in a line: the reason of its death, its last error; None where nothing did."""
    if view.status is JobStatus.DONE or not view.outcome:
        return view.reason
    try:
        said = describe_error(loads(view.outcome))
    except HoldfastError as error:
        said = str(error)
    return said if view.reason in (None, Reason.FAILED) else f"{view.reason}: {said}"


def traceback_of(view: JobView) -> str | None:
    """The traceback of its last error as text; None where none is stored."""
    return stored_traceback(loads(view.outcome)) or None if view.outcome else None


def progress_of(view: JobView) -> dict[str, Any] | None:
    """How far it is, as its task has said last: `done`, `of`, `note`."""
    said = reporting.read(view.progress)
    return None if said is None else said._asdict()


def arguments_of(payload: bytes) -> str:
    """The arguments of a call as text, cut where they are long; of a message that cannot be read, why not."""
    try:
        return describe(messages.read(payload).arguments, limit=LONGEST)
    except CodecError as error:
        return f"cannot be read: {error}; its bytes are {payload[:200]!r}"


def call_of(view: JobView) -> str:
    """The call as it would be written; of a message that cannot be read, why not."""
    try:
        tree = messages.read(view.payload).arguments
    except CodecError:
        return arguments_of(view.payload)
    return f"{view.name.rpartition(':')[2]}({arguments_in_words(tree, limit=LONGEST)})"


def follows(payload: bytes) -> Iterator[str]:
    """What is sent when the job has ended, one sentence for each chain of calls."""
    try:
        message = messages.read(payload)
    except CodecError:
        return
    for when, chains in (("when it returns", message.then), ("when it fails for good", message.otherwise)):
        for chain in chains:
            yield f"{when}: {', then '.join(link.name for link in chain)}"
