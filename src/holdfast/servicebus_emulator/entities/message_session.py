"""One session of a queue: its messages in order, its lock, its state. Decides nothing about single messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from holdfast.servicebus_emulator.entities.content import Content, render


class State(IntEnum):
    """Where a message is, in Service Bus's own numbers."""

    ACTIVE = 0
    DEFERRED = 1
    SCHEDULED = 2


class Holder(Protocol):
    """Somebody who holds a session, and is told when it is over."""

    def session_lost(self) -> None:
        """The lock has ended."""
        ...


@dataclass(slots=True, eq=False)
class Entry:
    """A message in a queue. `token` is that of its lock while it has one."""

    sequence: int
    content: Content
    enqueued_at: float
    expires_at: float | None = None
    session: MessageSession | None = None
    delivery_count: int = 0
    state: State = State.ACTIVE
    token: bytes | None = None
    locked_until: float = 0.0
    source: str | None = None
    due: float = 0.0

    def rendered(self) -> bytes:
        """The message as its receiver gets it, with its lock if it has one."""
        return render(
            self.content,
            sequence=self.sequence,
            enqueued_at=self.enqueued_at,
            delivery_count=self.delivery_count,
            token=self.token,
            locked_until=None if self.token is None else self.locked_until,
            state=self.state,
            source=self.source,
        )


@dataclass(slots=True, eq=False)
class MessageSession:
    """A session. `waiting` is a heap of sequence numbers; `held` has the locked messages by token."""

    id: str
    waiting: list[int] = field(default_factory=list[int])
    held: dict[bytes, Entry] = field(default_factory=dict[bytes, Entry])
    holder: Holder | None = None
    locked_until: float = 0.0
    state: bytes | None = None
    state_set_at: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is known of it that anybody could miss."""
        return self.holder is None and not self.waiting and not self.held and self.state is None
