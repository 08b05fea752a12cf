"""Why an instance failed, or is about to try again: its error, and the failure of the action that led to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.codec import Tree, chain_of, describe_error, describe_type, loads, stored_traceback
from holdfast.errors import DecodeError
from holdfast.model.instance import InstanceView, Status, Step
from holdfast.observe.waits import Wait
from holdfast.runtime.resident import row_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error for people. `action` is what failed, `None` the instance itself."""

    tree: Tree
    action: str | None = None
    attempt: int = 1
    step: int | None = None

    @property
    def text(self) -> str:
        """It in a line, with what caused it."""
        causes = [describe_error(one) for one in chain_of(self.tree)[1:]]
        return ", because of ".join([describe_error(self.tree), *causes])

    @property
    def traceback(self) -> str:
        """Its traceback as text; "" where none is stored."""
        return stored_traceback(self.tree)

    def as_json(self) -> dict[str, Any]:
        """It as plain JSON values."""
        found: dict[str, Any] = {"type": describe_type(self.tree), "text": describe_error(self.tree)}
        if self.action is not None:
            found |= {"action": self.action, "attempt": self.attempt, "step": self.step}
        return {**found, "traceback": self.traceback or None}


def error_of(view: InstanceView) -> Failure | None:
    """The error with which an instance failed; None if it did not."""
    if view.status is not Status.FAILED or view.outcome is None:
        return None
    return Failure(tree=loads(view.outcome))


def failure_behind(error: Failure | None, steps: Sequence[Step], waits: Sequence[Wait]) -> Failure | None:
    """The last failure of an action among these steps, if the instance failed with it, or waits to try that again."""
    failure = _last_failure(steps)
    if failure is None:
        return None
    if error is None:
        retried = any(wait.kind == "action" and wait.attempt > 1 and wait.name == failure.action for wait in waits)
        return failure if retried else None
    told = {describe_error(one): one for one in chain_of(error.tree)}
    same = told.get(describe_error(failure.tree))
    if same is not None and not failure.traceback:
        # A traceback that the outcome holds anyway is not stored twice.
        failure = replace(failure, tree=same)
    return failure if failure.step == steps[-1].seq or same is not None else None


def _last_failure(steps: Sequence[Step]) -> Failure | None:
    for step in reversed(steps):
        try:
            row = row_of(step)
        except DecodeError:
            continue
        for what, fields in reversed(row.get("notes", [])):
            if what in ("failed", "retry"):
                return Failure(
                    tree=fields["error"], action=fields["name"], attempt=fields.get("attempt", 1), step=step.seq
                )
    return None
