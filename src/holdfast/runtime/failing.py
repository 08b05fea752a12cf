"""Failing: what the log says of jobs whose attempts failed, a line for each. Decides nothing, and is silent of what went well."""

from __future__ import annotations

from holdfast.codec import describe_error, loads, stored_traceback
from holdfast.logs import get_logger
from holdfast.model.job import Again, ClaimedJob, Failed, Outcome

log = get_logger("holdfast.worker")


def log_failure(job: ClaimedJob, outcome: Outcome, *, now: float) -> None:
    """A warning of an attempt after which there is another one, an error with its traceback of a job that failed for good."""
    if not isinstance(outcome, Again | Failed):
        return
    # Of what is stored: to ask the exception itself may raise.
    tree = loads(outcome.error)
    error = " ".join(describe_error(tree).split())
    fields = {"task": job.name, "job": job.id, "attempt": job.attempt, "error": error}
    if isinstance(outcome, Again):
        log.warning("attempt failed", **fields, again_in=round(max(0.0, outcome.due_at - now), 3))
    else:
        ended = {"reason": outcome.reason.value, "dead_letter": outcome.dead}
        log.error("job failed", **fields, **ended, exception=stored_traceback(tree))
