"""What users say of keys, limits and rates, as the gates that brokers keep. Sends nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from holdfast.errors import ConfigurationError
from holdfast.limits import compared
from holdfast.model.job import Gate

Key = str | Callable[..., object]
"""A text with parameters of the task in braces, or a function of the task's arguments."""

_UNITS = {"s": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0}
_UNITS["day"] = _UNITS["d"]
_RATE = re.compile(r"(\d+(?:\.\d+)?) */ *(second|minute|min|hour|day|s|m|h|d)")


def interval_of(rate: object) -> float:
    """Seconds between two beginnings at a rate such as "10/s" or "500/hour". Raises ConfigurationError."""
    found = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    number = float(found[1]) if found else 0.0
    if found is None or number <= 0:
        raise ConfigurationError(
            f'rate= is a number of beginnings in a time, such as "10/s", "30/m" or "500/h", not {rate!r}'
        )
    return _UNITS[found[2]] / number


def check_number(name: str, value: object) -> None:
    """Raise ConfigurationError for what is no number of jobs."""
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"{name}= is a whole number from 1 on, not {value!r}")


def check_key(key: Key, parameters: Sequence[str], name: str) -> None:
    """Raise ConfigurationError for a definition's key that cannot be put together from a call's arguments."""
    if not isinstance(key, str):
        if not callable(key):
            raise ConfigurationError(
                f'key= is a text such as "customer:{{id}}", or a function of the task\'s arguments, not {key!r}'
            )
        return
    for field in _fields(key):
        if field not in parameters:
            known = ", ".join(parameters) or "none"
            raise ConfigurationError(f"key={key!r} names {field!r}, and the parameters of {name} are: {known}")


def _fields(key: str) -> list[str]:
    try:
        return [field for _, field, _, _ in Formatter().parse(key) if field is not None]
    except ValueError as error:
        raise ConfigurationError(f"key={key!r} cannot be read: {error}; a brace itself is written twice") from error


def key_of(key: Key, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The key of one call. Raises ConfigurationError."""
    if not isinstance(key, str):
        made = key(*args, **kwargs)
        if not isinstance(made, str):
            raise ConfigurationError(f"the function in key= gives a text, and gave {made!r}")
        return made
    # What is missing will be injected.
    bound = signature.bind_partial(*args, **kwargs)
    bound.apply_defaults()
    return key.format_map(bound.arguments)


def gate_of(
    task: str, key: str | None, *, concurrency: int | None, interval: float | None, burst: int | None
) -> Gate | None:
    """What a call passes before it runs; None: nothing. A key alone has its calls run one by one."""
    if key is None and concurrency is None and interval is None:
        return None
    limit = 1 if concurrency is None and interval is None else concurrency
    return Gate(compared(f"task:{task}" if key is None else f"key:{key}"), limit, interval, burst or 1)
