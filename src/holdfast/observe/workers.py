"""Workers as people and scripts read them. Asks nobody."""

from __future__ import annotations

from typing import Any

from holdfast.model.instance import WorkerView
from holdfast.observe.moments import iso


def worker_facts(view: WorkerView) -> dict[str, Any]:
    """A worker as plain JSON values. Moments are texts in ISO form."""
    return {
        "id": view.id,
        "host": view.host,
        "pid": view.pid,
        "version": view.version or None,
        "queues": view.queues,
        "started": iso(view.started_at),
        "last_heartbeat": iso(view.beat_at),
        "lease_until": iso(view.expires_at),
        "holds": view.owned,
        "idle": is_idle(view),
    }


def is_idle(view: WorkerView) -> bool:
    """Whether it holds nothing, and has found nothing to claim."""
    # The flag tells that it found nothing to claim, which it may have while it holds instances.
    return view.idle and view.owned == 0
