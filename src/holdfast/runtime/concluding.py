"""Concluding: what an attempt's end means for its job. Decides, and does nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.codec import dumps, encode_exception, lineage
from holdfast.errors import ActionTimeout, HoldfastError
from holdfast.model.job import Again, Cancelled, ClaimedJob, Done, Failed, Outcome, Reason
from holdfast.retry import Retry, RetryPolicy, changed_policy, class_lineage
from holdfast.runtime.executor import Gave, Raised
from holdfast.runtime.messages import Message

LOSSES = 3
"""After so many lost workers in a row, none of which came to an end with it, a job is taken for what killed them."""


def conclude(
    job: ClaimedJob, message: Message, ended: Gave | Raised, *, policy: RetryPolicy, now: float, chance: float
) -> Outcome:
    """What becomes of a job whose attempt has ended. `policy` is that of its task; `chance` in [0, 1) feeds the jitter.

    The most specific counts: the policy of a raised `Retry`, else what the call says, else what the task says.
    """
    if isinstance(ended, Gave):
        return Done(dumps(ended.tree), now, _until(message, now))
    error = ended.error
    if message.retry is not None:
        policy = changed_policy(policy, message.retry)
    delay = _delay(job, error, ended.tree, policy, chance)
    if delay is not None:
        return Again(now + delay, dumps(ended.tree))
    return failed(message, Reason.FAILED, dumps(ended.tree), now)


def _delay(job: ClaimedJob, error: BaseException, tree: Any, policy: RetryPolicy, chance: float) -> float | None:
    """Seconds until the next attempt; None where this was the last one."""
    if isinstance(error, asyncio.CancelledError):
        # Nobody asked for its end: the task has ended itself.
        return None
    timed_out = isinstance(error, ActionTimeout)
    if isinstance(error, Retry):
        policy = error.policy or policy
        if policy.attempts is not None and job.attempt >= policy.attempts:
            return None
        return policy.delay_after(job.attempt, chance=chance) if error.delay is None else error.delay
    classes = class_lineage(type(error)) or lineage(tree)
    return policy.next_delay(job.attempt, lineage=classes, timed_out=timed_out, chance=chance)


def failed(message: Message | None, reason: Reason, error: bytes, now: float) -> Failed:
    """The end of a job that failed for good. One that cannot be read is always kept."""
    if message is None or message.dead:
        return Failed(reason, error, now)
    return Failed(reason, error, now, dead=False, keep_until=_until(message, now))


def refused(message: Message | None, reason: Reason, text: str, now: float) -> Failed:
    """The end of a job that cannot run, with a sentence that says why."""
    return failed(message, reason, dumps(encode_exception(HoldfastError(text))), now)


def cancelled(message: Message | None, now: float) -> Cancelled:
    """The end of a job whose cancellation was asked for."""
    return Cancelled(now, None if message is None else _until(message, now))


def _until(message: Message, now: float) -> float | None:
    return None if message.keep is None else now + message.keep
