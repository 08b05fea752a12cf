"""Messages: what a job's payload says. Written by whoever asks for a call, read by the worker that runs it."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from holdfast.codec import Tree, dumps, loads
from holdfast.errors import ConfigurationError, DecodeError
from holdfast.retry import policy_from_tree


class Message(NamedTuple):
    """One call, and what its caller wants of it. What is None is as the definition of the task says, on the worker."""

    arguments: Tree
    """The encoded list of positional and named arguments."""
    retry: dict[str, Any] | None = None
    """The retry policy as plain JSON values."""
    timeout: float | None = None
    """Seconds for one attempt."""
    keep: float | None = None
    """For how many seconds the result is kept; None: it is not."""
    dead: bool = True
    """Whether it becomes a dead letter when it fails for good."""


def write(message: Message) -> bytes:
    """The payload of a job."""
    tree: dict[str, Tree] = {"args": message.arguments}
    if message.retry is not None:
        tree["retry"] = message.retry
    if message.timeout is not None:
        tree["timeout"] = message.timeout
    if message.keep is not None:
        tree["keep"] = message.keep
    if not message.dead:
        tree["dead"] = False
    return dumps(tree)


def read(payload: bytes) -> Message:
    """The inverse of `write`. Raises DecodeError for what it has not written."""
    tree = loads(payload)
    if not isinstance(tree, dict):
        raise DecodeError("the message is not an object")
    fields = cast("dict[str, Any]", tree)
    arguments: Any = fields.get("args")
    if not (isinstance(arguments, list) and len(cast("list[Any]", arguments)) == 2):
        raise DecodeError("the message has no arguments")
    retry, timeout, keep, dead = (fields.get(name) for name in ("retry", "timeout", "keep", "dead"))
    for name, value, kind in (("retry", retry, dict), ("timeout", timeout, (int, float)), ("keep", keep, (int, float))):
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise DecodeError(f"the message's {name} cannot be {type(value).__name__}")
    if retry is not None:
        try:
            policy_from_tree(cast("dict[str, Any]", retry))
        except (ConfigurationError, KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"the message's retry is no policy: {type(error).__name__}: {error}") from error
    return Message(cast("Tree", arguments), retry, timeout, keep, dead is not False)
