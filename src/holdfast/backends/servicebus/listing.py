"""Looking at jobs by peeking: from the first message of a queue to its last, in portions. Takes and changes nothing.

Service Bus has no other way to find a message; on a queue of a million this takes minutes. Nor does it tell of a message
whether somebody has locked it: what waits and what runs are one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from heapq import nlargest

from azure.servicebus import ServiceBusReceivedMessage

from holdfast.backends.servicebus.deaths import death_of
from holdfast.backends.servicebus.letters import Letter, read
from holdfast.backends.servicebus.links import Links
from holdfast.errors import UnsupportedError
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
    """All jobs of a queue, or all its dead letters, oldest first."""
    desk = links.desk(links.address.entity(queue), dead=dead)
    first = 1
    while page := await desk.peek(first, PORTION):
        for message in page:
            yield _buried(message, queue) if dead else _sent(read(message, queue))
        first = (page[-1].sequence_number or 0) + 1


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
            (filter.name is None or view.name == filter.name)
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
        attempt=letter.attempt,
        created_at=letter.created_at,
        due_at=letter.due_at,
        ended_at=death.ended_at,
        owner=None,
        reason=death.reason,
        payload=letter.payload,
        outcome=death.error,
    )
