"""Dead letters, taken out by their jobs' ids: to be sent again, or for ever.

A dead letter can only be taken in its turn: those before it are locked meanwhile, and let go at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from holdfast.backends.servicebus.held import Held, held_of
from holdfast.backends.servicebus.links import Links
from holdfast.backends.servicebus.listing import each
from holdfast.backends.servicebus.trouble import explained, let_go
from holdfast.ids import JobId

Act = Callable[[Sequence[Held]], Awaitable[None]]
"""What is done with dead letters before they are removed."""

AT_ONCE = 200
"""Dead letters taken in one call."""
PATIENCE = 2.0
"""Seconds for which a dead letter is waited for that was seen; somebody else may have locked it."""


async def take(links: Links, ids: Sequence[JobId], act: Act) -> list[JobId]:
    """Remove the dead letters of these jobs, once `act` is done with them; returns those removed."""
    wanted = set(ids)
    places: defaultdict[str, set[JobId]] = defaultdict(set)
    for queue in links.address.queues:
        async for view in each(links, queue, dead=True):
            if view.id in wanted:
                places[queue].add(view.id)
    found = {id for queue, there in places.items() for id in await _take(links, queue, there, act)}
    return [id for id in dict.fromkeys(ids) if id in found]


async def _take(links: Links, queue: str, wanted: set[JobId], act: Act) -> set[JobId]:
    entity = links.address.entity(queue)
    desk = links.desk(entity, dead=True)
    receiver = links.receiver(entity, dead=True)
    passed: dict[int, UUID] = {}
    taken: set[JobId] = set()
    try:
        while taken != wanted:
            with explained(links.address, entity):
                messages = await receiver.receive_messages(AT_ONCE, max_wait_time=PATIENCE)
            fresh = [message for message in messages if message.sequence_number not in passed]
            if not fresh:
                # There are no more, or those come again that were passed: their locks have ended meanwhile.
                break
            chosen: list[Held] = []
            for message in messages:
                held = held_of(message, queue=queue, entity=entity)
                if held.job.id in wanted:
                    chosen.append(held)
                else:
                    passed[message.sequence_number or 0] = held.token
            await act(chosen)
            lost = await desk.complete([held.token for held in chosen])
            taken |= {held.job.id for held in chosen if held.token not in lost}
        return taken
    finally:
        await desk.abandon(list(passed.values()))
        await let_go(receiver)
