"""Bundles: what one claim took of plain jobs, which PostgreSQL keeps as one row.

Most of them end without a trace; that costs a bit each in this row. All else that may become of one asks for a row of its
own: it is unpacked first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from holdfast.backends.postgres.statements import TEXTS, Statement, compiled
from holdfast.backends.shared import Row
from holdfast.model.job import ClaimedJob, Job, Settlement

PLAIN_BYTES = 2000
"""The longest payload that goes into a bundle: a long one costs more to copy than its row costs to change."""


class Place(NamedTuple):
    """Where a job is: the receipt of its claim."""

    ticket: int
    number: int
    """From 0."""
    size: int
    """Of the whole bundle."""


def is_plain(job: Job) -> bool:
    return (
        job.plain
        and len(job.payload) <= PLAIN_BYTES
        and job.unique is None
        and job.expires_at is None
        and job.waiter is None
        and job.gate is None
    )


def place_of(row: Row, ticket: int) -> Place | None:
    """The place of a job that was claimed under this ticket, if it is in a bundle."""
    return None if row["place"] is None else Place(ticket, row["place"], row["size"])


def bundled_jobs(row: Row, ticket: int) -> list[tuple[tuple[int, float], ClaimedJob]]:
    """The jobs of a bundle that was claimed under this ticket, each after what it is sorted by."""
    size = len(row["ids"])
    columns = (row[name] for name in ("ids", "names", "payloads", "queues", "priorities", "due_ats"))
    return [
        ((-priority, due_at), ClaimedJob(id, name, payload, queue, 1, 1, receipt=Place(ticket, number, size)))
        for number, (id, name, payload, queue, priority, due_at) in enumerate(zip(*columns, strict=True))
    ]


def tickets_of(settlements: Iterable[Settlement]) -> set[int]:
    """The bundles in which they lie."""
    return {Place._make(each.receipt).ticket for each in settlements if each.receipt is not None}


@cache
def unpacking(own: bool, placed: bool) -> Statement:
    """How jobs become rows again: wherever they are, of one worker, or of certain bundles of its."""
    where = "unpack_placed" if placed else "unpack_own" if own else "unpack_any"
    return compiled(f"{TEXTS[where]}\n{TEXTS['unpack_rest']}")


class Bundled:
    """Settlements of jobs that lie in bundles, and are to leave nothing."""

    def __init__(self, settlements: Sequence[Settlement]) -> None:
        self._placed = [(each, Place._make(each.receipt)) for each in settlements if each.receipt is not None]

    def statement(self, follow: dict[str, Any]) -> tuple[Statement, dict[str, Any]]:
        """How all are settled at once. `follow`: the columns of jobs that follow from them, if there are any."""
        sizes = {place.ticket: place.size for _, place in self._placed}
        places: dict[int, set[int]] = defaultdict(set)
        for _, place in self._placed:
            places[place.ticket].add(place.number)
        tickets = sorted(places)
        values: dict[str, Any] = {
            "tickets": tickets,
            "masks": [_mask(places[ticket], sizes[ticket]) for ticket in tickets],
        }
        if follow:
            sources = [(each.id, place) for each, place in self._placed if each.follow]
            values |= {
                "sources": [id for id, _ in sources],
                "source_tickets": [place.ticket for _, place in sources],
                "source_places": [place.number for _, place in sources],
                **follow,
            }
        return _statement(bool(follow)), values

    def missed(self, row: Row) -> list[Settlement]:
        """Those of them that were not in their bundles any more, by the answer to the statement."""
        fresh: dict[int, str] = dict(zip(row["tickets"] or (), row["fresh"] or (), strict=True))
        return [
            each
            for each, place in self._placed
            if place.ticket not in fresh or fresh[place.ticket][place.number] == "0"
        ]


def _mask(numbers: set[int], size: int) -> str:
    if len(numbers) == size:
        return "1" * size
    return "".join(["1" if number in numbers else "0" for number in range(size)])


@cache
def _statement(follow: bool) -> Statement:
    parts = [TEXTS["settle_lease"], TEXTS["settle_bundled"]]
    if follow:
        parts += [TEXTS["settle_bundled_sources"], TEXTS["settle_followed"]]
    return compiled("\n".join([*parts, TEXTS["settle_bundled_answer"]]))
