"""How deep queues are, as a scrape is told: over connections of its own, and nothing where nobody answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast import App
from holdfast.cli.depths import NAME, Depths
from holdfast.observe import watch
from holdfast.task import ACTIONS


@pytest.fixture(autouse=True)
def _what_a_test_defines_is_forgotten() -> Iterator[None]:
    before = dict(ACTIONS)
    yield
    ACTIONS.clear()
    ACTIONS.update(before)


async def test_jobs_are_counted_by_queue_and_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.0)
    monkeypatch.setattr(watch, "SHARE", 0)
    async with App("test", url=f"sqlite:///{tmp_path}/depths.db", embedded_worker=False) as app:

        @app.task(name="shop:counted")
        async def counted() -> None: ...

        depths = Depths(app)
        try:
            assert await asyncio.to_thread(depths.numbers) == {NAME: {}}
            for queue in ("default", "mail", "mail"):
                await counted.options(queue=queue).delay()
            await counted.options(queue="mail", delay=3600).delay()
            found = (await asyncio.to_thread(depths.numbers))[NAME]
            assert {labels: values[0] for labels, values in found.items() if values[0]} == {
                ("default", "waiting"): 1,
                ("mail", "waiting"): 2,
                ("mail", "delayed"): 1,
            }
            assert found["default", "dead"] == [0]
        finally:
            await asyncio.to_thread(depths.close)


def test_a_database_that_does_not_answer_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    depths = Depths(App("test", url=f"sqlite:///{tmp_path}/none.db"))
    with caplog.at_level(logging.WARNING, "holdfast.metrics"):
        assert [depths.numbers() for _ in range(3)] == [{}] * 3
    depths.close()
    assert [record.getMessage().partition(" error=")[0] for record in caplog.records] == ["queues not counted"]
    assert not (tmp_path / "none.db").exists()


def test_jobs_in_memory_are_not_asked_after() -> None:
    depths = Depths(App("test", url="sqlite://:memory:"))
    assert depths.numbers() == {}
    depths.close()
