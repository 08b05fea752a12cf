"""Turns commits into the columns of one statement, and names the parts it needs. Pure: sends nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.backends.postgres.clients import start_columns
from holdfast.backends.postgres.statements import TEXTS, Statement, compiled
from holdfast.clock import SystemClock
from holdfast.ids import InstanceId
from holdfast.model.instance import Commit, Delivery, Ending, Park, Release, SpilledCall, Start, Step


@dataclass(slots=True)
class Change:
    """What happens to one instance's row in a batch; PostgreSQL updates a row once a statement."""

    id: InstanceId
    mine: bool = False
    stepped: bool = False
    close: str = "stay"
    status: str | None = None
    outcome: bytes | None = None
    reason: str | None = None
    moment: float | None = None
    base_seq: int | None = None
    base_at: float | None = None
    told_at: float | None = None
    claim: int | None = None


@dataclass(slots=True)
class Batch:
    """A statement with its values, and what its answer must be held against."""

    statement: Statement
    values: dict[str, Any]
    changes: dict[InstanceId, Change]


def assemble(commits: Sequence[Commit]) -> Batch:
    """One statement for all of `commits`, with only the parts they need."""
    changes = _changes(commits)
    ended = {change.id for change in changes.values() if change.close == "end"}
    recalled = {(each.instance, id) for each in commits for id in each.recalled}
    starts = [(each, start) for each in commits for start in each.starts]
    deliveries = [(each, delivery) for each in commits for delivery in each.deliveries]
    # All parts see one snapshot: what this batch itself takes back would not be there to be deleted.
    spilled = [
        (each, call)
        for each in commits
        for call in each.spilled
        if call.instance not in ended and (call.instance, call.id) not in recalled
    ]
    consumed = [(each.instance, id) for each in commits for id in each.consumed]
    trimmed = {each.instance: each.trim_below for each in commits if each.trim_below is not None}

    parts = ["commit_lease"]
    values: dict[str, Any] = _step_columns(commits)
    if changes:
        parts += ["commit_locked", "commit_append_owned", "commit_changed"]
        values |= _change_columns(changes.values())
        values["step_locked"] = [
            each.instance in changes and changes[each.instance].mine for each in commits for _ in each.steps
        ]
    else:
        parts += ["commit_append"]
    if starts:
        parts += ["commit_started"]
        values |= _start_columns(starts, {delivery.instance for _, delivery in deliveries})
    if deliveries:
        parts += ["commit_delivered"]
        values |= _inbox_columns(deliveries)
    values |= _pairs("consumed", consumed)
    if consumed:
        parts += ["commit_consumed"]
    if spilled:
        parts += ["commit_spilled"]
        values |= _call_columns(spilled)
    if recalled:
        parts += ["commit_recalled"]
        values |= _pairs("recalled", sorted(recalled))
    if ended:
        parts += ["commit_ended"]
    if trimmed:
        parts += ["commit_trimmed"]
        values |= {"trim_ids": list(trimmed), "trim_belows": list(trimmed.values())}
    parts += ["commit_answer_changed" if changes else "commit_answer"]
    return Batch(_joined(tuple(parts)), values, changes)


@cache
def _joined(parts: tuple[str, ...]) -> Statement:
    text = "\n".join(TEXTS[part] for part in parts)
    or_made = "OR d.instance IN (SELECT id FROM made)" if "commit_started" in parts else ""
    asked = any("FROM appended" in TEXTS[part] for part in parts)
    return compiled(text.replace("{or_made}", or_made).replace("{returning}", "RETURNING instance" if asked else ""))


def _changes(commits: Sequence[Commit]) -> dict[InstanceId, Change]:
    """The rows that change; a commit that only appends steps touches none."""
    changes: dict[InstanceId, Change] = {}
    for each in commits:
        base: Step | None = None
        for step in each.steps:
            if step.full:
                base = step
        if base is None and each.close is None:
            continue
        change = changes.setdefault(each.instance, Change(id=each.instance))
        change.mine = True
        change.claim = each.claim
        if base is not None:
            change.base_seq, change.base_at = base.seq, base.at
        match each.close:
            case Ending():
                change.close, change.status = "end", each.close.status.value
                change.outcome, change.moment = each.close.payload, _ended_at(each.steps)
            case Release():
                change.close, change.moment = "release", each.close.due_at
            case Park():
                change.close, change.reason = "park", each.close.reason
            case None:
                pass
    for each in commits:
        if each.instance in changes and each.steps:
            changes[each.instance].stepped = True
        for delivery in each.deliveries:
            change = changes.setdefault(delivery.instance, Change(id=delivery.instance))
            change.told_at = delivery.at
    return changes


def _ended_at(steps: Sequence[Step]) -> float:
    return steps[-1].at if steps else SystemClock().now()


# --- columns


def _step_columns(commits: Sequence[Commit]) -> dict[str, Any]:
    return {
        "step_ids": [each.instance for each in commits for _ in each.steps],
        "step_seqs": [step.seq for each in commits for step in each.steps],
        "step_ats": [step.at for each in commits for step in each.steps],
        "step_fulls": [step.full for each in commits for step in each.steps],
        "step_payloads": [step.payload for each in commits for step in each.steps],
    }


def _change_columns(changes: Iterable[Change]) -> dict[str, Any]:
    # In the order of their ids, the same for all writers.
    rows = sorted(changes, key=lambda change: change.id)
    return {
        "ids": [each.id for each in rows],
        "mine": [each.mine for each in rows],
        "stepped": [each.stepped for each in rows],
        "closes": [each.close for each in rows],
        "statuses": [each.status for each in rows],
        "outcomes": [each.outcome for each in rows],
        "reasons": [each.reason for each in rows],
        "moments": [each.moment for each in rows],
        "base_seqs": [each.base_seq for each in rows],
        "base_ats": [each.base_at for each in rows],
        "told_ats": [each.told_at for each in rows],
        "claims": [each.claim for each in rows],
    }


def _source(commit: Commit) -> str | None:
    """Whose steps must be new for this commit's effects to happen; None where there is no such proof."""
    return commit.instance if commit.steps else None


def _start_columns(starts: Sequence[tuple[Commit, Start]], told: set[InstanceId]) -> dict[str, Any]:
    sources = {start.id: _source(each) for each, start in reversed(starts)}
    columns = start_columns([start for _, start in starts], prefix="start_")
    columns["start_told"] = [id in told for id in columns["start_ids"]]
    columns["start_sources"] = [sources[id] for id in columns["start_ids"]]
    return columns


def _inbox_columns(deliveries: Sequence[tuple[Commit, Delivery]]) -> dict[str, Any]:
    return {
        "inbox_sources": [_source(each) for each, _ in deliveries],
        "inbox_instances": [delivery.instance for _, delivery in deliveries],
        "inbox_ids": [delivery.id for _, delivery in deliveries],
        "inbox_kinds": [delivery.kind.value for _, delivery in deliveries],
        "inbox_keys": [delivery.key for _, delivery in deliveries],
        "inbox_payloads": [delivery.payload for _, delivery in deliveries],
        "inbox_ats": [delivery.at for _, delivery in deliveries],
    }


def _call_columns(spilled: Sequence[tuple[Commit, SpilledCall]]) -> dict[str, Any]:
    return {
        "call_sources": [_source(each) for each, _ in spilled],
        "call_instances": [call.instance for _, call in spilled],
        "call_ids": [call.id for _, call in spilled],
        "call_calls": [call.call for _, call in spilled],
        "call_names": [call.name for _, call in spilled],
        "call_queues": [call.queue for _, call in spilled],
        "call_payloads": [call.payload for _, call in spilled],
        "call_due_ats": [call.due_at for _, call in spilled],
        "call_priorities": [call.priority for _, call in spilled],
        "call_attempts": [call.attempt for _, call in spilled],
    }


def _pairs(name: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {f"{name}_instances": [pair[0] for pair in pairs], f"{name}_ids": [pair[1] for pair in pairs]}
