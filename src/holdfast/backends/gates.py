"""What becomes of jobs before their gates: which run, which wait behind others, which come at a later moment. Reads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from holdfast.ids import JobId
from holdfast.model.job import ClaimedJob, Gate, Settlement

BEHIND = 1e15
"""Due then (Unix seconds, in the year 31 million): it waits behind its gate until that lets it be claimed again."""


class Standing(NamedTuple):
    """What is known of a job before its gate."""

    before: int
    """Jobs that run, or come before it; counted as far as the gate's limit."""
    paid: bool
    """Its moment was reckoned already."""
    next_at: float | None
    """When the next job may begin by the gate's rate, as far as was known before this look."""


class Passage(NamedTuple):
    """What becomes of a job before its gate."""

    id: JobId
    due_at: float | None
    """When it comes again; None: it may run."""
    paid: bool


def pass_gates(
    jobs: Sequence[ClaimedJob], standings: dict[JobId, Standing], now: float
) -> tuple[list[Passage], dict[str, float]]:
    """What becomes of these jobs, which come in the order of their gates; and when the next ones may begin, by gate.

    Those without a standing are held no more, and left out.
    """
    passages: list[Passage] = []
    rates: dict[str, float] = {}
    for job in jobs:
        gate, standing = job.gate, standings.get(job.id)
        if gate is None or standing is None:
            continue
        if gate.limit is not None and standing.before >= gate.limit:
            passages.append(Passage(job.id, BEHIND, standing.paid))
        elif gate.interval is None or standing.paid:
            passages.append(Passage(job.id, None, standing.paid))
        else:
            earliest = now - (gate.burst - 1) * gate.interval
            known = rates.get(gate.name, standing.next_at)
            moment = earliest if known is None else max(known, earliest)
            rates[gate.name] = moment + gate.interval
            passages.append(Passage(job.id, None if moment <= now else moment, True))
    return passages, rates


def rule_of(gate: Gate | None) -> str | None:
    """A gate's rule as it is stored."""
    return None if gate is None else orjson.dumps([gate.limit, gate.interval, gate.burst]).decode()


def gate_of(name: str | None, rule: str | None) -> Gate | None:
    """A gate as it was stored."""
    if name is None or rule is None:
        return None
    limit, interval, burst = orjson.loads(rule)
    return Gate(name, limit, interval, burst)


def openings(settlements: Iterable[Settlement]) -> dict[str, int]:
    """How many jobs of each gate have come to an end, or to another attempt."""
    return dict(Counter(each.gate for each in settlements if each.gate is not None))


def shown_due(due_at: float, created_at: float) -> float:
    """When a job was due, for those who look at it."""
    return created_at if due_at >= BEHIND else due_at


def next_moment(due_at: float | None) -> float | None:
    """When the next job becomes due, if that is known."""
    return None if due_at is None or due_at >= BEHIND else due_at
