"""Options of tasks and of single calls: what a person may write, and what it means for the jobs. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal, TypedDict

from holdfast.clock import as_seconds
from holdfast.errors import ConfigurationError
from holdfast.limits import check_priority, check_queue, check_text, moment_of
from holdfast.retry import BackoffPolicy, Duration, ExceptionClasses, RetryPolicy, policy_changes
from holdfast.task import Pool
from holdfast.tasks.gates import Key, check_number, interval_of


class SharedOptions(TypedDict, total=False):
    """What both a definition and a single call may say. None is as if it were not given."""

    retries: int | None
    """How many attempts follow the first one; 0: none."""
    retry: RetryPolicy | None
    """A whole policy."""
    backoff: BackoffPolicy | None
    """Only the pauses between attempts."""
    retry_on: ExceptionClasses | None
    """Only these exceptions and their subclasses are tried again; () means all."""
    give_up_on: ExceptionClasses | None
    """These exceptions and their subclasses are final."""
    timeout: Duration | None
    """For one attempt, in seconds or as a timedelta; five minutes by default."""
    queue: str | None
    """Whichever workers serve it; "default" by default."""
    priority: int | None
    """Higher goes first; 0 by default."""
    expires: Duration | None
    """Seconds after its moment by which a job must have begun, or it becomes a dead letter."""
    result_ttl: Duration | None
    """For how many seconds the result is kept; 0: not at all. An hour by default."""
    concurrency: int | None
    """How many jobs with the same key, or of the task where there is no key, run at once, over all workers."""
    rate: str | None
    """How many of those begin in a time: "10/s", "30/m", "500/h"."""
    burst: int | None
    """How many may begin at once after a pause; 1 by default."""
    dead_letter: bool | None
    """Whether a job that has failed for good is kept until somebody acts; True by default."""


class TaskOptions(SharedOptions, total=False):
    """What `@app.task(…)` takes."""

    name: str | None
    """What its jobs are sent under; `module:function` by default."""
    pool: Pool
    """Where a sync function runs: in a "thread", or in a "process" which a timeout ends."""
    unique: bool | None
    """True: one job with the same arguments at a time."""
    key: Key | None
    """Jobs with one key run one by one, in the order of sending, unless `concurrency` says otherwise."""
    acks: Literal["late", "early"]
    """When a job is settled: "late", after it has run, at least once; or "early", before that, at most once."""


class CallOptions(SharedOptions, total=False):
    """What `task.options(…)` takes."""

    delay: Duration | None
    """Seconds from now until it is due."""
    eta: datetime | float | None
    """The moment at which it is due: a datetime with a timezone, or Unix seconds."""
    unique: str | bool | None
    """While a job with this text has not ended, no other is accepted; True: the task's name and the arguments are it."""
    key: str | None
    """Jobs with one key run one by one, in the order of sending, unless `concurrency` says otherwise."""
    id: str | None
    """Sent twice under one id, it is one job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How a task's jobs are sent. What is None is as the task or the App says."""

    retry: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What is otherwise than in the policy of the task, as `policy_changes` gives it."""
    timeout: float | None = None
    queue: str | None = None
    priority: int = 0
    delay: float | None = None
    eta: float | None = None
    expires: float | None = None
    """Seconds after its moment by which it must have begun."""
    unique: str | bool | None = None
    """Its unique text; True: its name and arguments are."""
    result_ttl: float | None = None
    dead_letter: bool = True
    acks: Literal["late", "early"] = "late"
    key: Key | None = None
    """As a definition has it; `exact_key` is that of one call, and goes before."""
    exact_key: str | None = None
    concurrency: int | None = None
    interval: float | None = None
    """Seconds between two beginnings, on average."""
    burst: int | None = None
    id: str | None = None


def job_options(base: JobOptions, given: Mapping[str, Any]) -> JobOptions:
    """`base` with what a person wrote; what is None stays. Raises ConfigurationError."""
    changes: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        match name:
            case "retries" | "retry" | "backoff" | "retry_on" | "give_up_on":
                policy[name] = value
            case "timeout" | "delay" | "expires" | "result_ttl":
                seconds = as_seconds(value, f"{name}=")
                if seconds < 0:
                    raise ConfigurationError(f"{name}= cannot be negative, and is {value!r}")
                if seconds == 0 and name in ("timeout", "expires"):
                    raise ConfigurationError(f"{name}= must be more than nothing, and is {value!r}")
                changes[name] = seconds
            case "id" | "key" if isinstance(value, str) and not value:
                raise ConfigurationError(f"{name}= is empty; leave it out where there is none")
            case "id":
                check_text("id", value)
                changes["id"] = value
            case "unique":
                if not isinstance(value, str | bool) or value == "":
                    raise ConfigurationError(f"unique= is True or a text, and not {value!r}")
                changes["unique"] = value
            case "queue":
                check_queue(value)
                changes["queue"] = value
            case "priority":
                check_priority(value)
                changes["priority"] = value
            case "dead_letter" if not isinstance(value, bool):
                raise ConfigurationError(f"dead_letter= is True or False, not {value!r}")
            case "acks" if value not in ("late", "early"):
                raise ConfigurationError(f"acks= is 'late' or 'early', not {value!r}")
            case "concurrency" | "burst":
                check_number(name, value)
                changes[name] = value
            case "rate":
                changes["interval"] = interval_of(value)
            case "eta":
                changes["eta"] = moment_of("eta", value)
            case _:
                changes[name] = value
    if changes.get("delay") is not None and changes.get("eta") is not None:
        raise ConfigurationError("give either delay= or eta=, not both")
    made = replace(base, retry={**base.retry, **policy_changes(**policy)}, **changes)
    if made.burst is not None and made.interval is None:
        raise ConfigurationError('burst= goes with a rate=, such as rate="10/s"')
    if made.acks == "early" and (made.concurrency or made.key or made.exact_key):
        raise ConfigurationError(
            'with acks="early" a job is settled before it runs: nobody knows how long it does, so that '
            "it can have no key= and no concurrency="
        )
    if made.acks == "early" and made.retry.get("attempts", 1) != 1:
        raise ConfigurationError('with acks="early" there is one attempt; leave out what says how it is retried')
    return made


def check_names(given: Mapping[str, Any], options: type[TaskOptions | CallOptions], where: str) -> None:
    """Raise ConfigurationError for an option that there is not, with the one that was probably meant."""
    known = options.__annotations__
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = (
                f"did you mean {near[0]}=?" if near else "it takes " + ", ".join(f"{each}=" for each in sorted(known))
            )
            raise ConfigurationError(f"{where} takes no {name}=; {hint}")
