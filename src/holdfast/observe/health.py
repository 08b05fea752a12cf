"""Health: whether worker processes live and take work, judged by what they tell of themselves. Asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.runtime.reading import Reading

SILENCE = 5.0
"""Seconds beyond its lease for which a process may tell nothing of itself: it tells something every second."""
DEATHS = 5
"""A place for a process in which so many have died in a row, none of them stable, is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A reading, and how many seconds ago it was told."""

    reading: Reading
    age: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Why not all is well; nothing where it is."""

    dead: Sequence[str] = ()
    """Why this is past mending but by a new start."""
    unready: Sequence[str] = ()
    """Why not all of the work is taken that should be."""


def health_of(all_told: Sequence[Told], *, wanted: int, stopping: bool = False, deaths: Sequence[int] = ()) -> Health:
    """How processes are of which `wanted` should take work.

    `deaths` says for each place of a process how many have died there in a row.
    """
    dead = [reason for told in all_told for reason in _why_dead(told)]
    dead += [f"{number} worker processes in a row have died" for number in deaths if number >= DEATHS]
    unready = ["it was asked to stop"] if stopping else []
    reasons = {told.reading.pid: _why_unready(told) for told in all_told}
    ready = sum(not why for why in reasons.values())
    if ready < wanted:
        unready.append(f"{ready} of {wanted} worker processes take work")
        unready += [f"process {pid} {reason}" for pid, why in reasons.items() for reason in why]
    return Health(dead=dead, unready=[*dead, *unready])


def _why_dead(told: Told) -> list[str]:
    reading = told.reading
    if told.age > reading.lease + SILENCE:
        return [f"process {reading.pid} has told nothing for {told.age:.0f} seconds"]
    if reading.turned > reading.lease:
        return [f"the event loop of process {reading.pid} has not turned for {reading.turned:.0f} seconds"]
    return []


def _why_unready(told: Told) -> list[str]:
    reading = told.reading
    if told.age > reading.lease + SILENCE:
        return ["tells nothing"]
    if reading.draining:
        return ["drains"]
    if not reading.ready or reading.renewed is None:
        return ["has no lease"]
    if reading.renewed > reading.lease:
        return [f"has not renewed its lease for {reading.renewed:.0f} seconds"]
    return []
