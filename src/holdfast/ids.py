"""Identifiers: time-ordered UUIDs made by the caller, so that an insert can be repeated without doubling."""

from __future__ import annotations

import os
import threading
import time
import uuid
from typing import NewType

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
    return str(uuid.UUID(int=value))
