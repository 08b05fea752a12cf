"""What a receiver decides about a message it has locked, and why a queue may refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from holdfast.servicebus_emulator.amqp.types import AmqpError


@dataclass(frozen=True, slots=True)
class Complete:
    """It is done; the message goes."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """It failed; the message returns to its place, and this delivery counts."""


@dataclass(frozen=True, slots=True)
class Release:
    """It was never looked at; the message returns to its place, and this delivery does not count."""


@dataclass(frozen=True, slots=True)
class Defer:
    """It is not its turn; the message stays aside until it is asked for by its number."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """It can never be done; the message goes to the dead letters."""

    reason: str | None = None
    description: str | None = None


Settlement: TypeAlias = Complete | Abandon | Release | Defer | DeadLetter


class LockLost(AmqpError):
    """The message is no longer this receiver's."""

    def __init__(self) -> None:
        super().__init__(
            "com.microsoft:message-lock-lost",
            "The lock supplied is invalid. Either the lock expired, or the message has already been removed.",
        )


class SessionLockLost(AmqpError):
    """The session is no longer this receiver's."""

    def __init__(self, session: str) -> None:
        super().__init__(
            "com.microsoft:session-lock-lost",
            f"The session lock has expired on the session '{session}'. Accept the session again.",
        )


class SessionCannotBeLocked(AmqpError):
    """The session is another receiver's."""

    def __init__(self, session: str) -> None:
        super().__init__(
            "com.microsoft:session-cannot-be-locked",
            f"The requested session '{session}' cannot be accepted. It may be locked by another receiver.",
        )


class MessageNotFound(AmqpError):
    """There is no message of this number in this state."""

    def __init__(self, sequence: int) -> None:
        super().__init__(
            "com.microsoft:message-not-found", f"There is no such message with sequence number {sequence}."
        )


class NotAllowed(AmqpError):
    """The queue is not made for this."""

    def __init__(self, description: str) -> None:
        super().__init__("amqp:not-allowed", description)


class NotFound(AmqpError):
    """There is no such queue."""

    def __init__(self, name: str) -> None:
        super().__init__("amqp:not-found", f"The messaging entity '{name}' could not be found.")
