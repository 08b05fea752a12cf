"""Identifiers: time-ordered UUIDs made by the caller, so that an insert can be repeated without doubling."""

from __future__ import annotations

import os
import threading
import time
import uuid
from typing import NewType

_DERIVED = uuid.UUID("5f6c9a4e-2f0b-4c57-9d1a-8a2f3d6c7b10")
"""The namespace of ids that follow from others (RFC 9562, version 5)."""

InstanceId = NewType("InstanceId", str)
WorkerId = NewType("WorkerId", str)
JobId = NewType("JobId", str)
ProgramHash = NewType("ProgramHash", str)


_FIXED = 0x7 << 76 | 0b10 << 62
"""The bits that say which version of UUID it is."""
_RANDOM = (1 << 80) - 1 & ~(0xF << 76 | 0b11 << 62)
"""The bits below the milliseconds that are free."""

_lock = threading.Lock()
_last = 0


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562) as text: 48 bits of Unix milliseconds, then 74 random bits.

    Those made by one process come in the order in which they were made.
    """
    global _last
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10), "big") & _RANDOM | _FIXED
    with _lock:
        if value <= _last:
            value = _last + 1
        _last = value
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def derived(source: str, what: str) -> str:
    """The id of something that follows from `source`: the same whenever, and by whomever, it is made."""
    return str(uuid.uuid5(_DERIVED, f"{source}/{what}"))
