"""Dismissing: end and delete instances from outside, where no worker does. Claims nothing, and runs nothing.

A parked instance cannot go on, so that a request to end cannot be raised in it: it ends at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from holdfast.clock import Clock
from holdfast.codec import dumps, encode_exception
from holdfast.engine import Ended, Note
from holdfast.errors import CodecError
from holdfast.ids import InstanceId, WorkerId, uuid7
from holdfast.model.instance import (
    Claimed,
    Commit,
    Delivery,
    DeliveryKind,
    Dismissal,
    Ending,
    InstanceView,
    Status,
    Step,
)
from holdfast.ports import WORK_CHANNEL, Store, inbox_channel
from holdfast.runtime import joining
from holdfast.runtime.announcing import news_of_endings
from holdfast.runtime.mail import concerns
from holdfast.runtime.resident import entries_of
from holdfast.runtime.turns import giving_up, news_of_end

BATCH = 500
"""Instances dismissed or deleted in one transaction."""
PATIENCE = 10.0
"""Seconds that workers have to end what is to be deleted."""
GLANCE = 0.05

_NOBODY = WorkerId("nobody")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What became of an instance that was to be deleted."""

    id: InstanceId
    gone: int
    """How many instances were removed: it and all that descended from it. 0: none of them, because some live."""
    living: Sequence[InstanceView] = ()


async def cancel(store: Store, ids: Sequence[InstanceId], *, now: float) -> dict[InstanceId, bool]:
    """Ask instances to end. Those that heard of it, and whether they have ended by that: parked ones do."""
    rows = [
        Delivery(id=uuid7(), instance=id, kind=DeliveryKind.CANCEL, key="", payload=b"null", at=now)
        for id in dict.fromkeys(ids)
    ]
    taken = await store.deliver(rows)
    ended = await heed(store, [row for row in rows if row.instance in set(taken)], now=now)
    return {id: id in ended for id in taken}


async def heed(store: Store, cancels: Sequence[Delivery], *, now: float) -> set[InstanceId]:
    """End the parked ones among those to whom a cancellation was delivered; returns them."""
    if not cancels:
        return set()
    views = {view.id: view for view in await store.view([row.instance for row in cancels])}
    parked = {
        row.instance: view
        for row in cancels
        if (view := views.get(row.instance)) is not None and view.status is Status.PARKED and concerns(row, view)
    }
    return await _dismiss(store, list(parked.values()), why="cancelled", now=now)


def end_of(
    one: Claimed | InstanceView, steps: Sequence[Step], *, why: str, reason: str | None, now: float
) -> Dismissal:
    """How an instance ends in which nothing runs: its parent hears of it, and the children it waits for are given up."""
    told = f"{why} while parked: {reason}" if reason else f"{why} before it went on"
    ended = Ended("cancelled", encode_exception(asyncio.CancelledError(told)))
    at = max(now, steps[-1].at)
    notes: list[Note] = [("cancel", {}), ("ended", {"status": Status.CANCELLED.value, "reason": told})]
    return Dismissal(
        instance=one.id,
        step=Step(seq=steps[-1].seq + 1, at=at, payload=dumps({"notes": notes})),
        ending=Ending(status=Status.CANCELLED, payload=dumps(ended.tree)),
        reason=told,
        deliveries=[
            *news_of_end(one.id, one.parent, one.parent_call, ended, at),
            *(giving_up(one.id, call, child, at) for call, child in _awaited(steps)),
        ],
    )


def _awaited(steps: Sequence[Step]) -> list[tuple[int, str]]:
    """The calls of children that an instance waits for, as far as its state can be read, and the children's ids."""
    try:
        entries = entries_of(steps)
    except CodecError:
        return []
    found: list[tuple[int, str]] = []
    for key, record in entries.items():
        if key[:1] == "c" and key[1:].isdigit() and isinstance(record, dict):
            call = cast("dict[str, Any]", record)
            if call.get("child") is not None and call.get("branch", -1) >= 0:
                found.append((int(key[1:]), str(call["child"]["id"])))
    return found


async def _dismiss(store: Store, views: Sequence[InstanceView], *, why: str, now: float) -> set[InstanceId]:
    """End these, as far as nobody owns them and they stand where they are seen now; returns those that ended."""
    ended: set[InstanceId] = set()
    for at in range(0, len(views), BATCH):
        batch = views[at : at + BATCH]
        steps = await store.latest_steps([view.id for view in batch])
        dismissals = [
            end_of(view, steps[view.id], why=why, reason=view.reason, now=now) for view in batch if view.id in steps
        ]
        ended |= await _write(store, dismissals, now=now)
    return ended


async def _write(store: Store, dismissals: Sequence[Dismissal], *, now: float) -> set[InstanceId]:
    committed = await store.dismiss(dismissals)
    endings = [Commit(instance=each.instance, close=each.ending) for each in dismissals]
    owed = joining.outcomes(endings, committed.waiters, now)
    if owed:
        await store.deliver(owed)
    news = news_of_endings(committed.waiters) | {inbox_channel(owner): "" for owner in committed.owners}
    await store.notify(news | ({WORK_CHANNEL: ""} if committed.started else {}))
    return {each.instance for each in dismissals} - committed.lost


# --- deleting


async def delete(
    store: Store, ids: Sequence[InstanceId], *, clock: Clock, force: bool, patience: float = PATIENCE
) -> list[Deletion]:
    """Remove instances with their histories, and all that descend from them; of those that exist, what became of each.

    A family goes as a whole: none of it while one of them lives. With `force`, the living are cancelled first. Workers
    have `patience` seconds to end them; what nobody owns then, or while nobody works at all, ends without going on.
    """
    families = await _families(store, ids)
    if force:
        living = {view.id for family in families.values() for view in _living(family)}
        if living:
            await _end(store, sorted(living), clock=clock, patience=patience)
            families = await _families(store, ids)
    done = {id: family for id, family in families.items() if not _living(family)}
    parked = {view.id: view for family in done.values() for view in family if view.status is Status.PARKED}
    ended = await _dismiss(store, list(parked.values()), why="deleted", now=clock.now())
    if len(ended) < len(parked):
        # Somebody was faster, and those that were parked go on.
        families = await _families(store, ids)
        done = {id: family for id, family in families.items() if not _unended(family)}
    doomed = list(dict.fromkeys(view.id for family in done.values() for view in family))
    gone: set[InstanceId] = set()
    for at in range(0, len(doomed), BATCH):
        gone.update(await store.delete(doomed[at : at + BATCH]))
    return [
        Deletion(
            id=id,
            gone=sum(view.id in gone for view in family),
            living=() if id in done else _living(family) or _unended(family),
        )
        for id, family in families.items()
    ]


async def _families(store: Store, ids: Sequence[InstanceId]) -> dict[InstanceId, list[InstanceView]]:
    """Each of these instances with all that descend from it; those that exist."""
    found = {view.id: view for view in await store.family(list(dict.fromkeys(ids)))}
    children: dict[InstanceId, list[InstanceView]] = defaultdict(list)
    for view in found.values():
        if view.parent is not None:
            children[view.parent].append(view)
    families: dict[InstanceId, list[InstanceView]] = {}
    for id in ids:
        if id in found:
            family = {id: found[id]}
            rest = [id]
            while rest:
                new = [child for child in children[rest.pop()] if child.id not in family]
                family |= {child.id: child for child in new}
                rest += [child.id for child in new]
            families[id] = list(family.values())
    return families


def _living(family: Sequence[InstanceView]) -> list[InstanceView]:
    return [view for view in family if view.status is Status.PENDING]


def _unended(family: Sequence[InstanceView]) -> list[InstanceView]:
    return [view for view in family if not view.status.ended]


async def _end(store: Store, ids: Sequence[InstanceId], *, clock: Clock, patience: float) -> None:
    """Have living instances end: whoever works on them hears of it; the rest is dismissed."""
    await cancel(store, ids, now=clock.now())
    late = asyncio.get_running_loop().time() + patience
    while _living(await store.view(ids)):
        over = asyncio.get_running_loop().time() > late
        if over or not await store.workers(now=clock.now()):
            # A heartbeat frees what dead workers held, whoever sends it.
            await store.heartbeat(_NOBODY, lease=0.0, now=clock.now())
            free = [view for view in _living(await store.view(ids)) if view.owner is None]
            await _dismiss(store, free, why="deleted", now=clock.now())
        if over:
            return
        await asyncio.sleep(GLANCE)
