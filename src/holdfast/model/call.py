"""Awaitable values: what workflow code makes by calling an action, and what the engine waits for. Plain data."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from typing import Any, NoReturn

from holdfast.errors import NotInWorkflow


class Durable:
    """Something that a workflow can await. Outside of one, awaiting it says so, unless a subclass knows better."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        self._outside()

    def _outside(self) -> NoReturn:
        raise NotInWorkflow(f"{type(self).__name__} can only be awaited inside a workflow's code")


class Once(Durable):
    """Something that can be awaited once, as a coroutine can."""

    __slots__ = ("spent",)

    spent: bool | None
    """Whether it was awaited; None where that does not matter, for one that no single instance has made."""

    def spend(self) -> None:
        """It is awaited now. Raises RuntimeError, as a coroutine would, if it was so before."""
        if self.spent:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if self.spent is False:
            self.spent = True


class CallOptions:
    """How a call is attempted. Immutable by custom; None means the default of the field's meaning."""

    __slots__ = ("queue", "retry", "timeout")

    def __init__(self, retry: dict[str, Any] | None, timeout: float | None, queue: str | None) -> None:
        self.retry = retry
        """The policy as `policy_to_tree` gives it; None: one attempt, timeouts again and again."""
        self.timeout = timeout
        """Seconds; None: the default of five minutes."""
        self.queue = queue
        """The queue whose workers run it; None: wherever the instance is."""


DEFAULT_OPTIONS = CallOptions(None, None, None)


class Call(Once):
    """A requested call of the action registered as `name`."""

    __slots__ = ("args", "kwargs", "name", "options")

    def __init__(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions = DEFAULT_OPTIONS
    ) -> None:
        self.spent = False
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.options = options

    def __repr__(self) -> str:
        inner = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"<call {self.name}({', '.join(inner)})>"


class Child(Once):
    """A requested run of another workflow. With `wait`, the caller waits for its outcome; else it gets a handle."""

    __slots__ = ("bound", "id", "instance", "options", "wait", "workflow")

    def __init__(
        self,
        workflow: str,
        instance: Any,
        bound: dict[str, Any],
        *,
        wait: bool,
        id: str | None,
        options: dict[str, Any],
    ) -> None:
        self.spent = False
        self.workflow = workflow
        """The registered name."""
        self.instance = instance
        """The workflow object: its attributes are part of the new state."""
        self.bound = bound
        """Arguments by parameter name."""
        self.wait = wait
        self.id = id
        self.options = options


class Receive(Once):
    """Waiting for a message: `key` is its name, or its type as `module:qualname`."""

    __slots__ = ("key", "timeout")

    def __init__(self, key: str, timeout: float | None) -> None:
        self.spent = False
        self.key = key
        self.timeout = timeout


class Send(Durable):
    """Putting something into another instance's inbox: a message, or a cancellation (`key` is None)."""

    __slots__ = ("instance", "key", "payload")

    def __init__(self, instance: str, key: str | None, payload: Any) -> None:
        self.instance = instance
        self.key = key
        self.payload = payload
        """Encoded."""


class CannotGoOn(BaseException):
    """An instance of an earlier program meets what running code does not offer it any more. Nothing of that turn counts."""


def warn_unawaited(what: str, source: object) -> None:
    """Warn, as coroutines do, of something that is gone and was never awaited."""
    warnings.warn(f"{what} was never awaited", RuntimeWarning, stacklevel=3, source=source)


def message_key(message: Any) -> str:
    """Under what a message is filed: its name, or its type's `module:qualname`. Raises ValueError for an unfit name."""
    if isinstance(message, str):
        if not message.isprintable() or not 0 < len(message) <= 1000:
            raise ValueError(
                f"a message's name is a text of 1 to 1000 characters, none of them for control, not {message!r}"
            )
        return message
    cls = message if isinstance(message, type) else type(message)
    return f"{cls.__module__}:{cls.__qualname__}"
