"""What it takes to wait for the result of a job that was sent alone: what is asked, who is told, and that nothing is missed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from holdfast import App
from holdfast.model.job import Job
from holdfast.runtime import consuming, watching
from holdfast.tasks.client import LASTING_INTEREST, Interest


@contextmanager
def recorded(app: App) -> Iterator[list[str]]:
    """What is asked of the broker for clients: `send`, `send, awaited`, `look`, `look, telling who waits`."""
    broker: Any = app.tasks.broker
    send, look = broker.send, broker.look
    asked: list[str] = []

    async def recorded_send(jobs: Sequence[Job]) -> Any:
        asked.append("send, awaited" if jobs[0].waiter else "send")
        return await send(jobs)

    async def recorded_look(ids: Any, *, waiter: str | None = None) -> Any:
        asked.append("look, telling who waits" if waiter else "look")
        return await look(ids, waiter=waiter)

    broker.send, broker.look = recorded_send, recorded_look
    try:
        yield asked
    finally:
        del broker.send, broker.look


@pytest.fixture(params=["postgres", "redis"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A broker that carries words, so that nobody needs to look now and then; and here nobody does."""
    monkeypatch.setattr(watching, "FALLBACK_POLL", 1000.0)
    return request.getfixturevalue(f"{request.param}_url")


async def test_the_next_job_alone_says_at_once_who_waits(working: App):
    @working.task
    async def double(n: int) -> int:
        return 2 * n

    with recorded(working) as asked:
        assert await (await double.delay(1)).get(timeout=10) == 2
        assert asked[:2] == ["send", "look, telling who waits"]
        asked.clear()
        assert await (await double.delay(2)).get(timeout=10) == 4
        assert asked == ["send, awaited", "look"]


async def test_what_ended_before_it_was_waited_for_is_not_missed(working: App):
    @working.task
    async def double(n: int) -> int:
        return 2 * n

    await (await double.delay(1)).get(timeout=10)
    handles = [await double.delay(n) for n in (2, 3)]
    async with asyncio.timeout(10):
        while not all([(await handle.status()).ended for handle in handles]):
            await asyncio.sleep(0)
        heard = handles[0]._expected  # pyright: ignore[reportPrivateUsage]
        while heard is not None and not heard.told:
            await asyncio.sleep(0)
    assert await handles[0].get(timeout=10) == 4
    assert await handles[1].get(timeout=10) == 6
    assert await handles[1].get(timeout=10) == 6


async def test_a_job_that_was_there_already_is_asked_about(working: App):
    @working.task
    async def double(n: int) -> int:
        return 2 * n

    await (await double.delay(1)).get(timeout=10)
    await (await double.options(id="one").delay(2)).get(timeout=10)
    assert await (await double.options(id="one").delay(2)).get(timeout=10) == 4


async def test_who_only_sends_is_told_of_nothing(working: App):
    @working.task
    async def double(n: int) -> int:
        return 2 * n

    with recorded(working) as asked:
        for n in range(3):
            await double.delay(n)
        await double.delay_many(range(3))
    assert asked == ["send"] * 4


async def test_a_lost_word_is_made_up_for(working: App):
    @working.task
    async def double(n: int) -> int:
        return 2 * n

    await (await double.delay(1)).get(timeout=10)
    handle = await double.delay(2)
    watch: Any = working.tasks.watch
    async with asyncio.timeout(10):
        while not (await handle.status()).ended:
            await asyncio.sleep(0)
    # As after a broken connection: something may have been said that nobody heard.
    watch._announce("", "")
    assert await handle.get(timeout=10) == 4


async def test_a_worker_that_is_told_of_jobs_asks_once_for_each(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(consuming, "IDLE_POLL", 1000.0)
    async with App("test", url=url) as app:

        @app.task
        async def double(n: int) -> int:
            return 2 * n

        worker = app.start_worker()
        await worker.ready.wait()
        for n in range(3):
            # Until it has said that it wants to be told.
            await (await double.delay(n)).get(timeout=10)
        broker: Any = app.tasks.broker
        claim = broker.claim
        claims: list[int] = []

        async def recorded_claim(*args: Any, **options: Any) -> Any:
            answer = await claim(*args, **options)
            claims.append(len(answer.jobs))
            return answer

        broker.claim = recorded_claim
        for n in range(5):
            await (await double.delay(n)).get(timeout=10)
        assert claims == [1] * 5


def test_interest_ends_after_some_jobs_that_nobody_waited_for():
    interest = Interest()
    assert not interest.foreseen("a")
    for _ in range(100):
        interest.waited("a")
    assert [interest.foreseen("a") for _ in range(LASTING_INTEREST + 2)] == [True] * LASTING_INTEREST + [False] * 2
    assert not interest.foreseen("b")


def test_interest_lasts_while_every_other_result_is_waited_for():
    interest = Interest()
    interest.waited("a")
    for _ in range(100):
        assert interest.foreseen("a")
        assert interest.foreseen("a")
        interest.waited("a")
