"""Schedules as people and scripts read them: when they tick, and what became of the last tick. Changes nothing."""

from __future__ import annotations

from typing import Any

from holdfast.ids import InstanceId
from holdfast.ports import Store
from holdfast.schedules.spec import Spec, instance_id


async def list_schedules(store: Store) -> list[dict[str, Any]]:
    """All schedules, a dict each; `next` and `last` are Unix seconds, `state` is that of the last tick's instance."""
    found = await store.schedules()
    ids = {row.id: InstanceId(instance_id(row.id, row.last_at)) for row in found if row.last_at is not None}
    views = {view.id: view for view in await store.view(list(ids.values()))}
    rows: list[dict[str, Any]] = []
    for row in found:
        spec = Spec.load(row.spec)
        view = views.get(ids[row.id]) if row.id in ids else None
        rows.append(
            {
                "id": row.id,
                "workflow": spec.workflow,
                "when": spec.rhythm,
                "next": None if row.paused else row.next_at,
                "last": row.last_at,
                "state": None if view is None else view.status.value,
                "skipped": row.skipped,
                "paused": row.paused,
                "overlap": spec.overlap.value,
                "catch_up": spec.catch_up.value,
            }
        )
    return rows
