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


_lock = threading.Lock()
_last = 0


def uuid7() -> str:
    """A UUID of version 7 (RFC 9562) as text: 48 bits of Unix milliseconds, then 74 random bits.

    Those made by one process come in the order in which they were made.
    """
    global _last
    millis = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    value = (
        (millis & 0xFFFFFFFFFFFF) << 80
        | 0x7 << 76
        | (noise >> 68 & 0xFFF) << 64
        | 0b10 << 62
        | (noise & 0x3FFFFFFFFFFFFFFF)
    )
    with _lock:
        value = _last = max(value, _last + 1)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def derived(source: str, what: str) -> str:
    """The id of something that follows from `source`: the same whenever, and by whomever, it is made."""
    return str(uuid.uuid5(_DERIVED, f"{source}/{what}"))
