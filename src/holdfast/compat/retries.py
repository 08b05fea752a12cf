"""boilermaker's `retries`: policies, and exceptions that ask for another attempt."""

from __future__ import annotations

from typing import Any

from holdfast.retry import NoRetry, Retry, RetryMode, RetryPolicy

__all__ = [
    "NoRetry",
    "RetryException",
    "RetryExceptionDefault",
    "RetryExceptionDefaultExponential",
    "RetryExceptionDefaultLinear",
    "RetryMode",
    "RetryPolicy",
]


class RetryException(Retry):
    """Asks for another attempt, by the policy that is given, else by that of the call or the task."""

    def __init__(self, msg: str = "", policy: RetryPolicy | None = None) -> None:
        super().__init__(msg, policy=policy)


class RetryExceptionDefault(RetryException):
    """Asks for another attempt by `RetryPolicy.default()`."""

    def __init__(self, msg: str = "") -> None:
        super().__init__(msg, RetryPolicy.default())


class RetryExceptionDefaultLinear(RetryException):
    """Asks for another attempt, five in all, after 30 seconds, 60, and so on; other parts of the policy may be given."""

    def __init__(self, msg: str = "", **policy: Any) -> None:
        super().__init__(msg, _policy(RetryMode.Linear, policy))


class RetryExceptionDefaultExponential(RetryException):
    """Asks for another attempt, five in all, after 30 seconds, 60, 120, and so on; other parts of the policy may be given."""

    def __init__(self, msg: str = "", **policy: Any) -> None:
        super().__init__(msg, _policy(RetryMode.Exponential, policy))


def _policy(mode: RetryMode, given: dict[str, Any]) -> RetryPolicy:
    usual: dict[str, Any] = {"max_tries": 5, "delay": 30, "delay_max": 600, "retry_mode": mode}
    return RetryPolicy(**(usual | given))
