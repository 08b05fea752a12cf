"""What is to go wrong, so that clients can be tested against it. Says when; does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Swallow(StrEnum):
    """What the broker can keep to itself."""

    SETTLEMENTS = "settlements"
    """Settlements are neither done nor answered."""
    OUTCOMES = "outcomes"
    """Settlements are done, and not answered."""
    RECEIPTS = "receipts"
    """Messages that are sent are taken, and not acknowledged."""


@dataclass(slots=True)
class Faults:
    """The faults in force. `None` as a number means until told otherwise."""

    delay: float = 0.0
    refusing_until: float = 0.0
    swallowing: dict[Swallow, int | None] = field(default_factory=dict[Swallow, int | None])

    def swallow(self, what: Swallow, count: int | None) -> None:
        """Swallow the next `count` of these; none any more if it is 0."""
        if count == 0:
            self.swallowing.pop(what, None)
        else:
            self.swallowing[what] = count

    def swallows(self, what: Swallow) -> bool:
        """Whether this one is swallowed; it is counted."""
        if what not in self.swallowing:
            return False
        left = self.swallowing[what]
        if left is not None:
            self.swallow(what, left - 1)
        return True
