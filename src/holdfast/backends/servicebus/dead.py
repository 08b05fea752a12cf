"""Dead letters, taken out by their jobs' ids: to be sent again, or for ever.

A dead letter can only be taken in its turn: those before it are locked meanwhile, and let go at the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from holdfast.backends.servicebus.held import Held, held_of
from holdfast.backends.servicebus.letters import read
from holdfast.backends.servicebus.links import Links
from holdfast.backends.servicebus.listing import peeked
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
    wanted, found = set(ids), set[JobId]()
    for queue in links.address.queues:
        for entity, keyed in links.address.both(queue):
            messages = peeked(links, entity, keyed=keyed, dead=True)
            there = {id async for message in messages if (id := read(message, queue).id) in wanted}
            if there:
                found |= await _take(links, queue, entity, there, act, keyed=keyed)
    return [id for id in dict.fromkeys(ids) if id in found]


async def _take(links: Links, queue: str, entity: str, wanted: set[JobId], act: Act, *, keyed: bool) -> set[JobId]:
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
                held = held_of(message, queue=queue, entity=entity, keyed=keyed)
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
