"""Looking at jobs by peeking: from the first message of a queue to its last, in portions. Takes and changes nothing.

Service Bus has no other way to find a message; on a queue of a million this takes minutes. Nor does it tell of a message
whether somebody has locked it: what waits and what runs are one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from heapq import nlargest
from uuid import uuid4

from azure.servicebus import ServiceBusReceivedMessage

from holdfast.backends.servicebus.deaths import death_of
from holdfast.backends.servicebus.letters import Letter, read, wakes_at
from holdfast.backends.servicebus.links import MISSING, Links
from holdfast.backends.servicebus.trouble import MissingQueue, explained, let_go
from holdfast.errors import ConfigurationError, UnsupportedError
from holdfast.ids import JobId
from holdfast.model.job import JobFilter, JobStatus, JobView, QueueDepth

PORTION = 250
"""Messages looked at in one request."""
COUNTED = 1000
"""Messages of a queue that are counted, at most."""


async def look(links: Links, ids: Sequence[JobId]) -> list[JobView]:
    """Those of these jobs that are in a queue, or among the dead letters of one."""
    wanted = set(ids)
    found: dict[JobId, JobView] = {}
    for queue in links.address.queues:
        for dead in (False, True):
            async for view in each(links, queue, dead=dead):
                if view.id in wanted:
                    found[view.id] = view
    return [found[id] for id in dict.fromkeys(ids) if id in found]


async def find(links: Links, filter: JobFilter) -> list[JobView]:
    """Those that the filter wants, newest first."""
    found = [view async for view in _chosen(links, filter)]
    return nlargest(filter.limit, found, key=_age)


async def count(links: Links, filter: JobFilter) -> int:
    """How many the filter wants."""
    return len([None async for _ in _chosen(links, filter)])


async def lack_of_sessions(links: Links, queue: str) -> str | None:
    """Why no jobs with a key can be in this queue, in words; None: they can."""
    entity = links.address.keyed(queue)
    receiver = links.session_receiver(entity, id=f"holdfast:looked-at-{uuid4().hex}", wait=links.address.timeout)
    try:
        with explained(links.address, entity):
            await receiver.__aenter__()
    except ConfigurationError as error:
        return str(error)
    finally:
        await let_go(receiver)
    return None


async def depths(links: Links, *, now: float, most: int) -> list[QueueDepth]:
    """How much is in each queue, as far as peeking at so many messages of it tells; what runs is among what waits."""
    found: list[QueueDepth] = []
    for queue in links.address.queues:
        numbers = {False: [0, 0], True: [0, 0]}
        for dead, counted in numbers.items():
            async for view in each(links, queue, dead=dead):
                counted[view.due_at > now and not dead] += 1
                if sum(counted) >= most:
                    break
        (waiting, delayed), (buried, _) = numbers[False], numbers[True]
        more = waiting + delayed >= most or buried >= most
        found.append(QueueDepth(queue, waiting, delayed, None, buried, more))
    return [depth for depth in found if depth.waiting or depth.delayed or depth.dead]


async def each(links: Links, queue: str, *, dead: bool) -> AsyncIterator[JobView]:
    """All jobs of a queue, or all its dead letters, oldest first: those without a key, then those with one."""
    for entity, keyed in links.address.both(queue):
        async for message in peeked(links, entity, keyed=keyed, dead=dead):
            yield _buried(message, queue) if dead else _sent(read(message, queue))


async def peeked(links: Links, entity: str, *, keyed: bool, dead: bool) -> AsyncIterator[ServiceBusReceivedMessage]:
    """All messages of an entity that are jobs, or all its dead letters that are. None where nobody sends jobs with a key."""
    if keyed and not await _is_there(links, entity):
        return
    desk = links.desk(entity, dead=dead, sessions=keyed)
    first = 1
    while page := await desk.peek(first, PORTION):
        for message in page:
            if wakes_at(message) is None:
                yield message
        first = (page[-1].sequence_number or 0) + 1


async def _is_there(links: Links, entity: str) -> bool:
    """Whether there is such an entity, as far as is known; where nobody uses keys, there need be none."""
    now = time.monotonic()
    if links.absent_until.get(entity, now) > now:
        return False
    if links.absent_until.get(entity) != 0.0:
        try:
            # Whoever has no receiver, as for all sessions, is not told that there is no queue.
            await links.desk(entity, dead=True).peek(1, 1)
        except MissingQueue:
            links.absent_until[entity] = now + MISSING
            return False
        links.absent_until[entity] = 0.0
    return True


async def _chosen(links: Links, filter: JobFilter) -> AsyncIterator[JobView]:
    wanted = _wanted(filter)
    for queue in links.address.queues if filter.queue is None else [filter.queue]:
        for dead in _parts(filter.status):
            async for view in each(links, queue, dead=dead):
                if wanted(view):
                    yield view


def _parts(status: JobStatus | None) -> Sequence[bool]:
    """Whether to look in the queue itself, among its dead letters, or in both."""
    match status:
        case None:
            return (False, True)
        case JobStatus.QUEUED:
            return (False,)
        case JobStatus.DEAD:
            return (True,)
        case _:
            raise UnsupportedError(
                f"Service Bus does not tell which jobs are {status.value}: it knows what is in a queue (queued), and the dead"
            )


def _wanted(filter: JobFilter) -> Callable[[JobView], bool]:
    ids = set(filter.ids)

    def wanted(view: JobView) -> bool:
        return (
            filter.wants_name(view.name)
            and (filter.reason is None or view.reason == filter.reason)
            and (filter.before is None or _age(view) < filter.before)
            and (not ids or view.id in ids)
        )

    return wanted


def _age(view: JobView) -> tuple[float, str]:
    return view.created_at, view.id


def _sent(letter: Letter) -> JobView:
    return JobView(
        id=letter.id,
        name=letter.name,
        status=JobStatus.QUEUED,
        queue=letter.queue,
        priority=0,
        attempt=letter.attempt,
        created_at=letter.created_at,
        due_at=letter.due_at,
        ended_at=None,
        owner=None,
        reason=None,
        payload=letter.payload,
        outcome=letter.error,
    )


def _buried(message: ServiceBusReceivedMessage, queue: str) -> JobView:
    letter, death = read(message, queue), death_of(message)
    return JobView(
        id=letter.id,
        name=letter.name,
        status=JobStatus.DEAD,
        queue=queue,
        priority=0,
        attempt=death.attempt or letter.attempt,
        created_at=letter.created_at,
        due_at=letter.due_at,
        ended_at=death.ended_at,
        owner=None,
        reason=death.reason,
        payload=letter.payload,
        outcome=death.error,
    )
