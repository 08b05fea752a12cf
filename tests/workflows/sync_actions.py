"""Sync actions that tests run in threads and processes. Imported in those processes, so it holds little else."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from holdfast import NoRetry, action

release = threading.Event()
"""Lets those that are stuck go on."""


class Peculiar(Exception):
    """An exception that pickle cannot make again."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.hint = hint


@action(timeout=0.1, retry=NoRetry())
def stuck() -> None:
    release.wait()


@action(timeout=2, retry=NoRetry())
def quick(n: int) -> int:
    return n + 1


@action(pool="process", retry=NoRetry())
def pid_when(path: str) -> int:
    """The process that ran it, once somebody has made the file."""
    while not Path(path).exists():
        time.sleep(0.005)
    return os.getpid()


@action(pool="process", timeout=0.3, retry=NoRetry())
def endless(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


@action(pool="process", timeout=60, retry=NoRetry())
def stubborn(path: str) -> None:
    """Does not end for a SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


@action(pool="process", retry=NoRetry())
def die() -> None:
    os._exit(3)


@action(pool="process", retry=NoRetry())
def fail(how: str) -> None:
    if how == "peculiar":
        raise Peculiar(7, hint="look elsewhere")
    raise LookupError(how)


@action(pool="process", retry=NoRetry())
def unpicklable() -> object:
    return threading.Lock()
