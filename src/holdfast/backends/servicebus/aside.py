"""Put aside: what the state of a session says of those of its jobs that wait for another attempt. Sends nothing.

Such a job's message stays where it is, deferred, and is fetched by its number when its time has come. So it gives way
meanwhile, and then comes before what was sent after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from holdfast.backends.servicebus.deaths import shortened

MARK = "hf1"
"""What a state begins with that this release writes."""
MOST = 1_000
"""Jobs of one session that are put aside at once, at most."""
ERROR_LIMIT = 1_000
"""Bytes of an error that are kept with a job that is put aside, at most."""
ERRORS = 100_000
"""Bytes of a state beyond which no errors are kept in it: Service Bus takes 256 KB."""


class Note(NamedTuple):
    """What is known of a job beyond its message, which does not change."""

    due_at: float
    attempt: int
    claims: int
    """How often it was claimed."""
    losses: int
    """How often in a row its worker was lost; until it is settled, the one that holds it counts as lost."""
    error: str | None
    """Of the attempt before."""


class Aside:
    """The notes of one session, by the sequence numbers of their messages."""

    def __init__(self, notes: dict[int, Note]) -> None:
        self._notes = notes

    @classmethod
    def read(cls, state: bytes | None) -> Aside:
        """The notes in a session's state; none in one that somebody else has written."""
        try:
            content: Any = orjson.loads(state or b"{}")
            notes: dict[str, list[Any]] = content["notes"] if content.get("mark") == MARK else {}
            # A later release may note more.
            known = len(Note._fields)
            return cls({int(number): Note(*fields[:known]) for number, fields in notes.items()})
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls({})

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._notes))

    def get(self, number: int) -> Note | None:
        """The note of this message."""
        return self._notes.get(number)

    def has_room(self, number: int) -> bool:
        """Whether this message may be put aside."""
        return number in self._notes or len(self._notes) < MOST

    def put(self, number: int, note: Note) -> None:
        """Note this of a message."""
        self._notes[number] = note

    def drop(self, number: int) -> bool:
        """Forget a message; whether anything was known of it."""
        return self._notes.pop(number, None) is not None

    def due(self, now: float) -> list[int]:
        """Those whose time has come, in the order in which they were sent."""
        return sorted(number for number, note in self._notes.items() if note.due_at <= now)

    def written(self) -> bytes | None:
        """The state that says this; None says nothing."""
        if not self._notes:
            return None
        state = self._dumped(self._notes)
        if len(state) > ERRORS:
            state = self._dumped({number: note._replace(error=None) for number, note in self._notes.items()})
        return state

    def _dumped(self, notes: dict[int, Note]) -> bytes:
        return orjson.dumps({"mark": MARK, "notes": {str(number): list(note) for number, note in notes.items()}})


def error_text(error: bytes) -> str:
    """An error as a note keeps it."""
    return shortened(error, ERROR_LIMIT).decode("utf-8", "replace")
