"""What every SQL store does alike with jobs that lie elsewhere: their ends as columns. Knows no driver."""

from __future__ import annotations

from holdfast.backends.jobs import Kept
from holdfast.model.job import Cancelled, Done, Failed

DEAD_KEPT = 7 * 86400.0
"""Seconds for which it is known here of a dead letter elsewhere that it has failed."""


def end_of(outcome: Done | Failed | Cancelled) -> Kept:
    """What becomes of the row. One that need not be kept is removed by the next sweep."""
    ended_at = outcome.ended_at
    match outcome:
        case Done(result, _, keep_until):
            return Kept("done", ended_at=ended_at, keep_until=keep_until or ended_at, outcome=result)
        case Failed(reason, error, _, dead, keep_until):
            until = ended_at + DEAD_KEPT if dead else keep_until or ended_at
            return Kept("failed", ended_at=ended_at, keep_until=until, reason=reason.value, outcome=error)
        case Cancelled(_, keep_until):
            return Kept("cancelled", ended_at=ended_at, keep_until=keep_until or ended_at)
