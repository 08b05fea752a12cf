"""A task for a process of its own, which imports this module."""

from __future__ import annotations

import time
from pathlib import Path

from holdfast import App, report_progress

app = App("counting", url="sqlite://:memory:")


@app.task(pool="process")
def until_there(path: str) -> str:
    """Say that half is done, then wait until a file is there."""
    report_progress(1, of=2, note="half")
    while not Path(path).exists():
        time.sleep(0.01)
    return "there"
