"""Instances as people and scripts read them: what they wait for, why they failed, their programs. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from holdfast.errors import ProgramError
from holdfast.ids import ProgramHash
from holdfast.ir.first import first_action
from holdfast.ir.program import Program
from holdfast.model.instance import InstanceView, Status, Step
from holdfast.observe.failures import Failure, error_of
from holdfast.observe.moments import iso
from holdfast.observe.waits import Wait, told_all, waits_of
from holdfast.ports import Store
from holdfast.registry import Registry

LOOKED_THROUGH = 200
"""Steps that are looked through for an action that failed."""
BATCH = 500
"""Instances whose states are read at once."""


class Look(NamedTuple):
    """An instance with what it waits for, or the error it failed with."""

    view: InstanceView
    waits: Sequence[Wait]
    error: Failure | None

    def why(self, now: float) -> str | None:
        """Why it stands where it stands, in a line."""
        return told_all(self.waits, now) or (self.view.reason if self.error is None else self.error.text)


async def look_at(store: Store, registry: Registry, views: Sequence[InstanceView], *, now: float) -> list[Look]:
    """Look closer at a listing, which has neither states nor outcomes. In portions; `now` is in Unix seconds."""
    looks: list[Look] = []
    for at in range(0, len(views), BATCH):
        looks += await _look_at(store, registry, views[at : at + BATCH], now)
    return looks


async def _look_at(store: Store, registry: Registry, views: Sequence[InstanceView], now: float) -> list[Look]:
    steps = await store.latest_steps([view.id for view in views if view.status is Status.PENDING])
    failed = await store.view([view.id for view in views if view.status is Status.FAILED])
    errors = {view.id: error_of(view) for view in failed}
    beginning = {view.program for view in views if view.owner is not None and _unwritten(steps.get(view.id, ()))}
    first = await _first_actions(store, registry, beginning)
    return [
        Look(view, waits_of(view, steps.get(view.id, ()), now, first=first.get(view.program)), errors.get(view.id))
        for view in views
    ]


def _unwritten(steps: Sequence[Step]) -> bool:
    """Whether an instance has written nothing since its start."""
    return len(steps) == 1 and steps[0].seq == 0


async def _first_actions(store: Store, registry: Registry, programs: Collection[ProgramHash]) -> dict[ProgramHash, str]:
    """The actions that programs begin with, as far as their stored text tells."""
    found: dict[ProgramHash, str] = {}
    for stored in await store.load_programs(list(programs)) if programs else ():
        try:
            name = first_action(registry.read(stored))
        except ProgramError:
            continue
        if name is not None:
            found[stored.hash] = name
    return found


async def read_program(store: Store, registry: Registry, hash: ProgramHash) -> Program | None:
    """A stored program; None where there is none. Raises ProgramError for one that is not to be trusted."""
    programs = await store.load_programs([hash])
    return registry.read(programs[0]) if programs else None


def instance_facts(look: Look) -> dict[str, Any]:
    """An instance as plain JSON values. Moments are texts in ISO form."""
    view = look.view
    return {
        "id": view.id,
        "workflow": view.name,
        "status": view.status.value,
        "waits_for": [wait.as_json() for wait in look.waits],
        "reason": view.reason,
        "error": None if look.error is None else look.error.as_json(),
        "created": iso(view.created_at),
        "ended": iso(view.ended_at),
        "due": iso(view.due_at),
        "queue": view.queue,
        "priority": view.priority,
        "owner": view.owner,
        "parent": view.parent,
        "program": view.program,
        "tags": view.tags or None,
    }
