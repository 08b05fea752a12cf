"""Tasks that do not end by themselves. Imported in the processes that run them, so this holds little else."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from holdfast import App

app = App("limited", embedded_worker=False)
release = threading.Event()
"""Lets a thread that is stuck go on."""


@app.task(pool="process", timeout=0.5, retries=0)
def endless(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


@app.task(pool="process", timeout=0.5, retries=1, backoff=None)
def endless_once(path: str) -> int:
    """Ends at the second attempt."""
    if Path(path).exists():
        return os.getpid()
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


@app.task(pool="process", timeout=600, retries=0)
def long(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)


@app.task(timeout=0.2, retries=0)
def stuck() -> None:
    release.wait()
