"""A module whose import takes longer than its action may."""

from __future__ import annotations

import multiprocessing
import time

from holdfast import NoRetry, action

if multiprocessing.parent_process() is not None:
    time.sleep(1.0)


@action(pool="process", timeout=0.5, retry=NoRetry())
def prompt() -> str:
    return "in time"
