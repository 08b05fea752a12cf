"""Retry policies: whether a failed attempt is tried again, and when. Pure data and arithmetic."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from holdfast.clock import as_seconds
from holdfast.errors import ConfigurationError

Duration = timedelta | float | int
ExceptionClasses = type[BaseException] | str | Sequence[type[BaseException] | str]
"""One exception class or several; a text names one as `module:qualname`."""

DEFAULT_TIMEOUT = 300.0
TIMEOUT_RETRY_CAP = 60.0


class RetryMode(enum.Enum):
    """How the delay grows from one attempt to the next."""

    Fixed = "fixed"
    Linear = "linear"
    Exponential = "exponential"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffPolicy:
    """How long to wait before the next attempt: `base_delay * multiplier**(n-1)` seconds after attempt n failed.

    `max_delay` caps it; `jitter` (0 to 1) takes off up to that share at random.

    >>> BackoffPolicy(base_delay=5).delay_after(3)
    20.0
    """

    base_delay: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 3600.0
    jitter: float = 0.0
    mode: RetryMode = RetryMode.Exponential

    def __init__(
        self,
        base_delay: Duration = 1.0,
        *,
        multiplier: float = 2.0,
        max_delay: Duration = 3600.0,
        jitter: float = 0.0,
        mode: RetryMode | str = RetryMode.Exponential,
    ) -> None:
        store = object.__setattr__
        store(self, "base_delay", as_seconds(base_delay, "base_delay="))
        store(self, "multiplier", _number(multiplier, "multiplier="))
        store(self, "max_delay", as_seconds(max_delay, "max_delay="))
        store(self, "jitter", _number(jitter, "jitter="))
        store(self, "mode", _mode(mode, "mode="))
        if self.base_delay < 0 or self.max_delay < 0 or self.multiplier < 0:
            raise ConfigurationError("BackoffPolicy: delays and multiplier must not be negative")
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"BackoffPolicy: jitter is a share from 0 to 1, not {jitter!r}")

    def delay_after(self, attempt: int, *, chance: float = 0.0) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed; `chance` in [0, 1) feeds the jitter."""
        match self.mode:
            case RetryMode.Fixed:
                delay = self.base_delay
            case RetryMode.Linear:
                delay = self.base_delay * attempt
            case RetryMode.Exponential:
                # The exponent is bounded so that a loop of many thousand attempts cannot overflow a float.
                delay = self.base_delay * self.multiplier ** min(attempt - 1, 200)
        return min(delay, self.max_delay) * (1.0 - self.jitter * chance)


def _mode(given: RetryMode | str, name: str) -> RetryMode:
    try:
        return RetryMode(given)
    except ValueError as error:
        modes = ", ".join(repr(mode.value) for mode in RetryMode)
        raise ConfigurationError(f"{name} is a RetryMode, or one of {modes}, not {given!r}") from error


def _number(given: float, name: str) -> float:
    try:
        return float(given)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} is a number, not {given!r}") from error


def _class_names(
    classes: ExceptionClasses,
) -> tuple[str, ...]:
    listed = list(classes) if isinstance(classes, Iterable) and not isinstance(classes, str) else [classes]
    for item in cast("list[object]", listed):
        named = isinstance(item, str) and ":" in item
        if not named and not (isinstance(item, type) and issubclass(item, BaseException)):
            raise ConfigurationError(
                f"retry_on= and give_up_on= take exception classes, or module:qualname, not {item!r}"
            )
    return tuple(item if isinstance(item, str) else f"{item.__module__}:{item.__qualname__}" for item in listed)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an action is attempted, and how long to wait in between.

    `attempts` counts all attempts, the first one included; None means without end. `max_tries` is another
    name for it. `delay`, `delay_max` and `retry_mode` describe the waiting; a `BackoffPolicy` may do so
    instead. `retry_on` and `give_up_on` name exception classes (or `module:qualname` of them).
    `timeouts=True` retries timeouts without limit; by default they count as any other failure of this policy.

    >>> RetryPolicy(attempts=3, delay=2, retry_mode=RetryMode.Linear).delay_after(2)
    4.0
    """

    attempts: int | None
    backoff: BackoffPolicy
    retry_on: tuple[str, ...]
    give_up_on: tuple[str, ...]
    timeouts: bool

    def __init__(
        self,
        attempts: int | None = 5,
        *,
        max_tries: int | None = None,
        delay: Duration | None = None,
        delay_max: Duration | None = None,
        retry_mode: RetryMode | str | None = None,
        jitter: float | None = None,
        backoff: BackoffPolicy | None = None,
        retry_on: ExceptionClasses = (),
        give_up_on: ExceptionClasses = (),
        timeouts: bool | None = None,
    ) -> None:
        if max_tries is not None:
            attempts = max_tries
        if attempts is not None and type(attempts) is not int:
            raise ConfigurationError(f"RetryPolicy: attempts= is a whole number, or None for no end, not {attempts!r}")
        if attempts is not None and attempts < 1:
            raise ConfigurationError(f"RetryPolicy: attempts must be at least 1, not {attempts}")
        if backoff is not None and not isinstance(cast(object, backoff), BackoffPolicy):
            raise ConfigurationError(f"RetryPolicy: backoff= is a BackoffPolicy, not {backoff!r}")
        if backoff is None:
            backoff = BackoffPolicy(
                0.0 if delay is None else as_seconds(delay, "delay="),
                max_delay=3600.0 if delay_max is None else as_seconds(delay_max, "delay_max="),
                jitter=0.0 if jitter is None else jitter,
                mode=RetryMode.Fixed if retry_mode is None else _mode(retry_mode, "retry_mode="),
            )
        elif delay is not None or delay_max is not None or retry_mode is not None:
            raise ConfigurationError("RetryPolicy: give either backoff= or delay=, delay_max=, retry_mode=")
        store = object.__setattr__
        store(self, "attempts", attempts)
        store(self, "backoff", backoff)
        store(self, "retry_on", _class_names(retry_on))
        store(self, "give_up_on", _class_names(give_up_on))
        store(self, "timeouts", bool(timeouts))

    @classmethod
    def default(cls) -> RetryPolicy:
        """Five attempts, exponential from one second, capped at ten minutes, with jitter."""
        return cls(5, backoff=BackoffPolicy(1.0, max_delay=600.0, jitter=0.5))

    def delay_after(self, attempt: int, *, chance: float = 0.0) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed."""
        return self.backoff.delay_after(attempt, chance=chance)

    def with_backoff(self, backoff: BackoffPolicy | None) -> RetryPolicy:
        """This policy with its waiting replaced by `backoff`, if one is given."""
        return self if backoff is None else replace_policy(self, backoff=backoff)

    def next_delay(self, attempt: int, *, lineage: Sequence[str], timed_out: bool, chance: float = 0.0) -> float | None:
        """Seconds until the next attempt after `attempt` failed, or None when this was the last one.

        `lineage` is the exception's class and its bases as `module:qualname`; `timed_out` tells a timeout.
        """
        if timed_out and self.timeouts:
            return max(self.delay_after(attempt, chance=chance), timeout_delay(attempt))
        if any(name in self.give_up_on for name in lineage):
            return None
        if self.retry_on and not any(name in self.retry_on for name in lineage):
            return None
        if self.attempts is not None and attempt >= self.attempts:
            return None
        return self.delay_after(attempt, chance=chance)


def NoRetry() -> RetryPolicy:
    """One attempt and no more, whatever happens."""
    return RetryPolicy(1, timeouts=False)


ONE_ATTEMPT = RetryPolicy(1, timeouts=True)
"""The default of actions: an exception is final, a timeout is tried again."""


def task_retry(retries: int) -> RetryPolicy:
    """The default of tasks: so many retries, after 6 seconds, 36, 216 and so on, a week at most, less up to half at random.

    With ten of them there is about a month to mend what is wrong.
    """
    return RetryPolicy(retries + 1, backoff=BackoffPolicy(6.0, multiplier=6.0, max_delay=7 * 86400.0, jitter=0.5))


class Retry(Exception):
    """Raised by a task that wants another attempt: after `delay`, or as `policy` says, else by the policy it has.

        raise Retry("the bank is closed", delay=timedelta(hours=1))

    Attempts are counted against the policy in force; with none left the task has failed.
    """

    def __init__(self, *args: object, delay: Duration | None = None, policy: RetryPolicy | None = None) -> None:
        super().__init__(*args)
        self.delay = None if delay is None else as_seconds(delay, "delay=")
        self.policy = policy
        if self.delay is not None and self.delay < 0:
            raise ConfigurationError("Retry: the delay must not be negative")


def timeout_delay(attempt: int) -> float:
    """Seconds to wait after attempt `attempt` timed out: from half a second doubling to a minute."""
    return min(0.5 * 2.0 ** min(attempt - 1, 20), TIMEOUT_RETRY_CAP)


def replace_policy(policy: RetryPolicy, *, backoff: BackoffPolicy) -> RetryPolicy:
    """A copy of `policy` that waits as `backoff` says."""
    copy = RetryPolicy(policy.attempts, backoff=backoff)
    object.__setattr__(copy, "retry_on", policy.retry_on)
    object.__setattr__(copy, "give_up_on", policy.give_up_on)
    object.__setattr__(copy, "timeouts", policy.timeouts)
    return copy


def policy_to_tree(policy: RetryPolicy) -> dict[str, Any]:
    """The policy as plain JSON values, for the state of an instance."""
    return {
        "attempts": policy.attempts,
        **_backoff_tree(policy.backoff),
        "retry_on": list(policy.retry_on),
        "give_up_on": list(policy.give_up_on),
        "timeouts": policy.timeouts,
    }


def _backoff_tree(backoff: BackoffPolicy) -> dict[str, Any]:
    return {
        "base": backoff.base_delay,
        "multiplier": backoff.multiplier,
        "max": backoff.max_delay,
        "jitter": backoff.jitter,
        "mode": backoff.mode.value,
    }


def policy_changes(
    *,
    retries: int | None = None,
    retry: RetryPolicy | None = None,
    backoff: BackoffPolicy | None = None,
    retry_on: ExceptionClasses | None = None,
    give_up_on: ExceptionClasses | None = None,
) -> dict[str, Any]:
    """What a person wants otherwise than a policy says, as the parts of its tree. Raises ConfigurationError.

    `retry` is the whole of it; what else is given goes before that.
    """
    changes: dict[str, Any] = {}
    if retry is not None:
        if not isinstance(cast(object, retry), RetryPolicy):
            raise ConfigurationError(f"retry= is a RetryPolicy, such as RetryPolicy(attempts=3), not {retry!r}")
        changes |= policy_to_tree(retry)
    if retries is not None:
        if type(retries) is not int:
            raise ConfigurationError(f"retries= is a whole number, not {retries!r}")
        if retries < 0:
            raise ConfigurationError(f"retries= cannot be negative, and is {retries}")
        changes["attempts"] = retries + 1
    if backoff is not None:
        if not isinstance(cast(object, backoff), BackoffPolicy):
            raise ConfigurationError(f"backoff= is a BackoffPolicy, not {backoff!r}")
        changes |= _backoff_tree(backoff)
    if retry_on is not None:
        changes["retry_on"] = list(_class_names(retry_on))
    if give_up_on is not None:
        changes["give_up_on"] = list(_class_names(give_up_on))
    return changes


def changed_policy(policy: RetryPolicy, changes: Mapping[str, Any]) -> RetryPolicy:
    """The policy with other parts, as `policy_changes` gives them."""
    return policy_from_tree({**policy_to_tree(policy), **changes}) if changes else policy


def policy_from_tree(tree: dict[str, Any]) -> RetryPolicy:
    """The inverse of `policy_to_tree`."""
    return RetryPolicy(
        tree["attempts"],
        backoff=BackoffPolicy(
            tree["base"],
            multiplier=tree["multiplier"],
            max_delay=tree["max"],
            jitter=tree["jitter"],
            mode=RetryMode(tree["mode"]),
        ),
        retry_on=tree["retry_on"],
        give_up_on=tree["give_up_on"],
        timeouts=tree["timeouts"],
    )


def class_lineage(error: type[BaseException]) -> list[str]:
    """The class and its bases as `module:qualname`, nearest first."""
    return [f"{base.__module__}:{base.__qualname__}" for base in error.__mro__ if base is not object]


def jitter_chance() -> float:
    """A fresh random number in [0, 1) for `next_delay`."""
    return random.random()
