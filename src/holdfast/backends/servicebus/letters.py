"""Letters: jobs as Service Bus keeps them, a message for each attempt. A line of JSON, the last error, the job's own message.

Nothing of a message can be changed once it is sent. So another attempt is another message, which says how many there were,
and which is known by the job's id and that number: sent twice, it is there once where the queue looks for duplicates.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage

from holdfast.backends.servicebus.deaths import shortened
from holdfast.errors import StoreError, UnsupportedError
from holdfast.ids import JobId
from holdfast.model.job import ClaimedJob, Job

MARK = "hf1"
"""What a line begins with that this release writes."""
ERROR_LIMIT = 8_000
"""Bytes of an error that go with the next attempt, at most."""
LONGEST_ID = 128
"""Characters of a message's id, and of a session's, at most."""
WAKE_UP = "holdfast:wake-up"
"""The subject of a message that is no job: it makes its session be looked at when a job there that was put aside is due."""
AROUND = 400
"""Bytes that a message has beside its body, id and subject, at most."""

_MOMENT = int | float
_KINDS = (str, str, _MOMENT, _MOMENT, _MOMENT | None, str | None, int, int, int, int | None)
"""What the line has after its mark."""


class Letter(NamedTuple):
    """A job as it travels."""

    id: JobId
    name: str
    queue: str
    payload: bytes
    created_at: float
    due_at: float
    expires_at: float | None = None
    waiter: str | None = None
    attempt: int = 1
    claims: int = 0
    """How often the job was claimed before this message was sent."""
    losses: int = 0
    """How often in a row its worker was lost before this message was sent."""
    error: bytes | None = None
    """Of the attempt before."""
    session: str | None = None
    """The session of its key, if it has one."""


def letter_of(job: Job) -> Letter:
    """A job that is sent for the first time. Raises UnsupportedError for what Service Bus cannot heed."""
    if job.priority:
        raise UnsupportedError(
            f"{job.name}: Service Bus has no priorities: give what is urgent a queue of its own (queue=), and workers for it"
        )
    if job.unique is not None:
        raise UnsupportedError(
            f"{job.name}: unique= cannot be told on Service Bus; give id=, on a queue that looks for duplicates"
        )
    if job.gate is not None and (job.gate.limit != 1 or job.gate.interval is not None):
        raise UnsupportedError(
            f"{job.name}: Service Bus counts nothing, so that concurrency= and rate= cannot be kept there; a key= alone can, and "
            "runs jobs one by one. Keep other such tasks in a database or in Redis (tasks_url=)"
        )
    return Letter(
        id=job.id,
        name=job.name,
        queue=job.queue,
        payload=job.payload,
        created_at=job.created_at,
        due_at=job.due_at,
        expires_at=job.expires_at,
        waiter=job.waiter,
        session=None if job.gate is None else session_of(job.gate.name),
    )


def session_of(gate: str) -> str:
    """The session of the jobs of this gate."""
    return gate if len(gate) <= LONGEST_ID and gate.isprintable() else _hashed(gate)


def as_message(letter: Letter) -> ServiceBusMessage:
    """The message to be sent, which appears when it is due. Raises StoreError for what is no text."""
    error = None if letter.error is None else shortened(letter.error, ERROR_LIMIT)
    head = [
        MARK,
        letter.id,
        letter.name,
        letter.created_at,
        letter.due_at,
        letter.expires_at,
        letter.waiter,
        letter.attempt,
        letter.claims,
        letter.losses,
        None if error is None else len(error),
    ]
    try:
        body = orjson.dumps(head) + b"\n" + (error or b"") + letter.payload
    except orjson.JSONEncodeError as problem:
        raise StoreError(f"job {letter.id!r} cannot be kept: its names are no text ({problem})") from problem
    later = letter.due_at > time.time()
    return ServiceBusMessage(
        body,
        message_id=_message_id(letter),
        subject=letter.name[:LONGEST_ID],
        session_id=letter.session,
        scheduled_enqueue_time_utc=datetime.fromtimestamp(letter.due_at, UTC) if later else None,
    )


def wake_up(session: str, job: ClaimedJob, due_at: float) -> ServiceBusMessage:
    """The message that has a session looked at when this job's next attempt is due."""
    return ServiceBusMessage(
        orjson.dumps([MARK, due_at]),
        message_id=_short_id(f"{job.id}~{job.claim}~{WAKE_UP}"),
        subject=WAKE_UP,
        session_id=session,
        scheduled_enqueue_time_utc=datetime.fromtimestamp(due_at, UTC),
    )


def wakes_at(message: ServiceBusReceivedMessage) -> float | None:
    """The moment for which a wake-up was sent; None for a message that is none."""
    if message.subject != WAKE_UP:
        return None
    try:
        mark, due_at = orjson.loads(b"".join(message.body))
    except (ValueError, TypeError):
        return None
    return due_at if mark == MARK and isinstance(due_at, _MOMENT) else None


def size_of(message: ServiceBusMessage) -> int:
    """How many bytes it takes in a batch, at most."""
    body: Any = message.body
    texts = (message.message_id or "") + (message.subject or "") + (message.session_id or "")
    return sum(map(len, body)) + len(texts.encode()) + AROUND


def read(message: ServiceBusReceivedMessage, queue: str, *, keyed: bool = False) -> Letter:
    """The letter that this is; `keyed`: its session is its key's. What is none of ours becomes one that cannot be read."""
    letter = _read(message, queue)
    return letter._replace(session=message.session_id) if keyed else letter


def _read(message: ServiceBusReceivedMessage, queue: str) -> Letter:
    body = b"".join(message.body)
    line, _, rest = body.partition(b"\n")
    head = _head(line)
    if head is None:
        return _foreign(message, queue, body)
    id, name, created_at, due_at, expires_at, waiter, attempt, claims, losses, length = head
    error = None if length is None else rest[:length]
    return Letter(
        id=JobId(id),
        name=name,
        queue=queue,
        payload=rest[length or 0 :],
        created_at=created_at,
        due_at=due_at,
        expires_at=expires_at,
        waiter=waiter,
        attempt=attempt,
        claims=claims,
        losses=losses,
        error=error,
    )


def _head(line: bytes) -> list[Any] | None:
    """What a line of ours says after its mark; None where it is none of ours."""
    try:
        mark, *head = orjson.loads(line)
    except (ValueError, TypeError):
        return None
    return head if mark == MARK and len(head) == len(_KINDS) and all(map(isinstance, head, _KINDS)) else None


def _foreign(message: ServiceBusReceivedMessage, queue: str, body: bytes) -> Letter:
    at = message.enqueued_time_utc
    since = time.time() if at is None else at.timestamp()
    id = str(message.message_id or f"message-{message.sequence_number}")
    return Letter(id=JobId(id), name=message.subject or "?", queue=queue, payload=body, created_at=since, due_at=since)


def _message_id(letter: Letter) -> str:
    return _short_id(letter.id if letter.claims == 0 else f"{letter.id}~{letter.claims}")


def _short_id(id: str) -> str:
    return id if len(id) <= LONGEST_ID else _hashed(id)


def _hashed(text: str) -> str:
    return f"~{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=30).hexdigest()}"
