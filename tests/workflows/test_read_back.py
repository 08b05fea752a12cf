"""What is thrown out of memory after a step goes on from the store, whatever else happens to it meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import Workflow, action, workflow
from holdfast.testing import workflow_app


@action
async def twice(n: int) -> int:
    return 2 * n


@workflow
class Doubled(Workflow):
    async def run(self) -> int:
        return await twice(await self.receive("n"))


async def test_a_call_begins_though_a_turn_without_anything_to_write_comes_between(monkeypatch: pytest.MonkeyPatch):
    async with workflow_app(crash=True) as app:
        history = app.store.history

        async def stirring(id: Any, **options: Any) -> Any:
            owner = None if app.worker is None else app.worker.owner
            if owner is not None and id in owner.residents:
                owner.writer.stir(owner.residents[id])
            return await history(id, **options)

        monkeypatch.setattr(app.store, "history", stirring)
        doubled = await Doubled().start()
        await doubled.send("n", 4)
        async with asyncio.timeout(20):
            assert await doubled.result() == 8
