"""What the engine is told and what it asks for. Data between it and the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from holdfast.model.call import DEFAULT_OPTIONS, CallOptions, Send


@dataclass(slots=True, eq=False)
class PendingCall:
    """A call that has not ended: an action's, or a child workflow's where `child` is set."""

    id: int
    name: str
    payload: Any
    """Encoded arguments: `[args, kwargs]`; of a child: `[attributes, arguments]`, with which it starts."""
    options: CallOptions = DEFAULT_OPTIONS
    attempt: int = 1
    due_at: float | None = None
    """When a repeated attempt may start; None: at once."""
    branch: int = -1
    """The branch that waits for it; -1: none does."""
    child: dict[str, Any] | None = None
    """Of a child: `id`, and its start options."""
    given_up: bool = False
    """Of a child: whether it was asked to end. Whoever waits for it goes on when it has ended."""
    spilled: bool = False
    """Whether it was handed to other workers."""
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    """The live arguments, where using them is as good as decoding the payload."""

    @property
    def child_id(self) -> str:
        """The id of the child instance, of a call that is one."""
        return "" if self.child is None else str(self.child["id"])


class StartCall(NamedTuple):
    """Run an attempt of this call, once the state that asked for it is saved."""

    call: PendingCall


class DropCall(NamedTuple):
    """Nobody waits for this call any more: stop it if that can be done."""

    call: PendingCall


class GiveUpChild(NamedTuple):
    """Ask the child of this call to end."""

    call: PendingCall


Command = StartCall | DropCall | GiveUpChild | Send


@dataclass(frozen=True, slots=True)
class Ended:
    """How the instance ended. `kind` is done, failed or cancelled; `tree` the encoded value or exception."""

    kind: str
    tree: Any
    asked: bool = False
    """Whether it had been asked to end."""


Note = tuple[str, dict[str, Any]]
"""One line of the history, for people: what happened, and its fields as plain JSON values."""
