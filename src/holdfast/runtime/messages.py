"""Messages: what a job's payload says. Written by whoever asks for a call, read by the worker that runs it."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from holdfast.codec import Tree, dumps, loads, register_type
from holdfast.errors import ConfigurationError, DecodeError
from holdfast.model.job import Gate
from holdfast.retry import ONE_ATTEMPT, changed_policy


class Placeholder:
    """Stands in the arguments of a call for what is not known before another call has ended."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name.upper()


RESULT = Placeholder("result")
"""What the call before has returned."""
ERROR = Placeholder("error")
"""The exception with which the call before failed for good."""
EARLY = Placeholder("early")
"""Stands where a result would be: nobody knows how the call ends."""


class Message(NamedTuple):
    """One call, and what its caller wants of it. What is None is as the definition of the task says, on the worker."""

    arguments: Tree
    """The encoded list of positional and named arguments."""
    retry: dict[str, Any] | None = None
    """What is otherwise than in the retry policy of the task, as `policy_changes` gives it."""
    timeout: float | None = None
    """Seconds for one attempt."""
    keep: float | None = None
    """For how many seconds the result is kept; None: it is not."""
    dead: bool = True
    """Whether it becomes a dead letter when it fails for good."""
    then: tuple[Chain, ...] = ()
    """What is sent when it has returned."""
    otherwise: tuple[Chain, ...] = ()
    """What is sent when it has failed for good."""
    early: bool = False
    """Whether it is settled before it runs, so that it never runs twice."""


class Link(NamedTuple):
    """A call that is sent once another has ended."""

    name: str
    message: Message
    queue: str
    priority: int = 0
    delay: float | None = None
    """Seconds until it is due."""
    expires: float | None = None
    """Seconds after its moment by which it must have begun."""
    filled: bool = False
    """Whether placeholders stand in its arguments."""
    gate: Gate | None = None


Chain = tuple[Link, ...]
"""Calls of which each is sent when the one before it has returned."""


def write(message: Message) -> bytes:
    """The payload of a job."""
    return dumps(_tree(message))


def read(payload: bytes) -> Message:
    """The inverse of `write`. Raises DecodeError for what it has not written."""
    return _message(loads(payload))


def _tree(message: Message) -> dict[str, Tree]:
    tree: dict[str, Tree] = {"args": message.arguments}
    if message.retry is not None:
        tree["retry"] = message.retry
    if message.timeout is not None:
        tree["timeout"] = message.timeout
    if message.keep is not None:
        tree["keep"] = message.keep
    if not message.dead:
        tree["dead"] = False
    if message.early:
        tree["early"] = True
    if message.then:
        tree["then"] = [[_link_tree(link) for link in chain] for chain in message.then]
    if message.otherwise:
        tree["else"] = [[_link_tree(link) for link in chain] for chain in message.otherwise]
    return tree


def _link_tree(link: Link) -> list[Tree]:
    tree = [link.name, _tree(link.message), link.queue, link.priority, link.delay, link.expires, link.filled]
    return tree if link.gate is None else [*tree, list(link.gate)]


def _message(tree: Tree) -> Message:
    if not isinstance(tree, dict):
        raise DecodeError("the message is not an object")
    fields = cast("dict[str, Any]", tree)
    arguments: Any = fields.get("args")
    if not (isinstance(arguments, list) and len(cast("list[Any]", arguments)) == 2):
        raise DecodeError("the message has no arguments")
    if len(fields) == 1:
        return Message(cast("Tree", arguments))
    retry, timeout, keep, dead = (fields.get(name) for name in ("retry", "timeout", "keep", "dead"))
    for name, value, kind in (("retry", retry, dict), ("timeout", timeout, (int, float)), ("keep", keep, (int, float))):
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise DecodeError(f"the message's {name} cannot be {type(value).__name__}")
    if retry is not None:
        try:
            changed_policy(ONE_ATTEMPT, cast("dict[str, Any]", retry))
        except (ConfigurationError, KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"the message's retry is no policy: {type(error).__name__}: {error}") from error
    return Message(
        cast("Tree", arguments),
        retry,
        timeout,
        keep,
        dead is not False,
        _chains(fields.get("then")) if "then" in fields else (),
        _chains(fields.get("else")) if "else" in fields else (),
        fields.get("early") is True,
    )


def _chains(tree: Tree) -> tuple[Chain, ...]:
    try:
        return tuple(tuple(_link(link) for link in chain) for chain in tree)
    except (TypeError, ValueError) as error:
        if isinstance(error, DecodeError):
            raise
        raise DecodeError(f"what follows the message cannot be read: {error}") from error


def _link(tree: Tree) -> Link:
    name, message, queue, priority, delay, expires, filled, *gate = tree
    for value, kinds in ((name, str), (queue, str), (priority, int), (delay, (int, float)), (expires, (int, float))):
        if not isinstance(value, kinds) and not (value is None and kinds == (int, float)):
            raise DecodeError(f"a call that follows the message has {type(value).__name__} where there can be none")
    return Link(
        name, _message(message), queue, priority, delay, expires, filled is True, _gate(*gate) if gate else None
    )


def _gate(tree: Tree) -> Gate:
    match tree:
        case [str(name), int() | None as limit, int() | float() | None as interval, int(burst)]:
            return Gate(name, limit, interval, burst)
        case _:
            raise DecodeError("a call that follows the message has a gate that is none")


_PLACEHOLDERS = {each.name: each for each in (RESULT, ERROR, EARLY)}

register_type(Placeholder, encode=lambda each: each.name, decode=lambda name: _PLACEHOLDERS[name], name="placeholder")
