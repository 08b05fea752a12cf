"""Jobs that are settled before they run: at most once, and nobody learns how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.tasks.test_trouble import change, worked

from holdfast import App, CurrentJob, JobStatus, RetryPolicy
from holdfast.clock import SystemClock
from holdfast.errors import ConfigurationError
from holdfast.ids import JobId
from holdfast.model.job import ClaimedJob, Done, Failed, SettledJobs, Settlement
from holdfast.runtime.early import EarlyJobs, NotHeld
from holdfast.runtime.executor import Attempt
from holdfast.runtime.messages import Message
from holdfast.tasks import RESULT, chain
from holdfast.testing import drain


async def test_an_early_job_is_done_before_it_runs(working: App):
    seen: list[JobStatus] = []

    @working.task(acks="early")
    async def look(id: str) -> str:
        seen.append(await working.job(id).status())
        return "a result"

    handle = await look.options(id="me").delay("me")
    while not seen:
        await asyncio.sleep(0.001)
    assert seen == [JobStatus.DONE]
    with pytest.raises(ConfigurationError, match=r'nobody knows how job me ends: .* has acks="early"'):
        await handle.get()
    assert not await handle.cancel()


async def test_whoever_waits_is_told_at_once_that_there_is_nothing_to_wait_for(working: App):
    began = asyncio.Event()

    @working.task(acks="early", rate="1000/s")
    async def ring() -> None:
        began.set()

    handle = await ring.options(delay=0.3).delay()
    waiting = asyncio.create_task(handle.get())
    await began.wait()
    # Well before anybody looks by himself.
    with pytest.raises(ConfigurationError, match="nobody knows how job"):
        await asyncio.wait_for(waiting, 1.5)


async def test_a_failure_is_logged_and_neither_tried_again_nor_kept(app: App, caplog: pytest.LogCaptureFixture):
    heard: list[object] = []

    @app.after_job
    def told(job: CurrentJob, outcome: object) -> None:
        heard.append((job.id, type(outcome), getattr(outcome, "dead", None)))

    @app.task(acks="early")
    async def fail() -> None:
        heard.append("ran")
        raise ValueError("once and no more")

    @app.task(acks="early")
    async def fine() -> None: ...

    failed, done = await fail.delay(), await fine.delay()
    await drain(app)
    assert heard.count("ran") == 1
    assert (failed.id, Failed, False) in heard
    assert (done.id, Done, None) in heard
    assert await app.tasks.dead() == []
    assert "early job failed" in caplog.text
    assert "once and no more" in caplog.text


async def test_a_job_that_is_another_workers_by_now_does_not_run(url: str, caplog: pytest.LogCaptureFixture):
    if url.startswith("redis"):
        pytest.skip("its rows are changed in SQL")
    ran: list[str] = []
    async with worked(url) as (app, worker):

        @app.task(acks="early")
        async def once(what: str) -> None:
            ran.append(what)

        claim = worker.broker.claim

        async def claim_and_lose(*about: Any, **more: Any) -> Any:
            claimed = await claim(*about, **more)
            if claimed.jobs:
                worker.broker.claim = claim
                await change(url, "UPDATE holdfast_job SET owner = 'another'")
            return claimed

        worker.broker.claim = claim_and_lose
        lost = await once.delay("lost")
        while "early job not run" not in caplog.text:
            await asyncio.sleep(0.001)
        assert await lost.status() is JobStatus.RUNNING
        other = await once.delay("other")
        while await other.status() is not JobStatus.DONE or not ran:
            await asyncio.sleep(0.001)
        assert ran == ["other"]


async def test_a_worker_that_stops_lets_early_jobs_end(url: str):
    app = App("test", url=url, embedded_worker=False, concurrent_per_worker=1)
    began, gate = asyncio.Event(), asyncio.Event()
    ran: list[int] = []

    @app.task(acks="early")
    async def gated(n: int) -> None:
        began.set()
        await gate.wait()
        ran.append(n)

    async with app:
        jobs = await gated.map(range(3))
        worker = app.start_worker()
        await began.wait()
        worker.stop()
        while [await job.status() for job in jobs].count(JobStatus.QUEUED) < 2:
            await asyncio.sleep(0.001)
        gate.set()
        while worker.consumer is not None:
            await asyncio.sleep(0.001)
        assert len(ran) == 1
        await app.start_worker().ready.wait()
        while len(ran) < 3:
            await asyncio.sleep(0.001)
        assert sorted(ran) == [0, 1, 2]


async def test_what_has_no_meaning_for_early_jobs_is_refused(app: App):
    with pytest.raises(ConfigurationError, match="there is one attempt"):
        app.task(acks="early", retries=3)
    with pytest.raises(ConfigurationError, match="acks= is 'late' or 'early', not 'never'"):
        app.task(acks="never")  # type: ignore[call-overload]

    @app.task(acks="early", retries=0)
    async def once(n: int) -> int:
        return n

    with pytest.raises(ConfigurationError, match="there is one attempt"):
        once.options(retry=RetryPolicy(3))
    with pytest.raises(ConfigurationError, match="nobody knows how it ends"):
        once.s(1) >> once.s(RESULT)  # noqa: B018 - it is refused
    with pytest.raises(ConfigurationError, match="nobody knows how it ends"):
        chain(once.s(1), on_failure=once.s(2))


async def test_an_early_job_may_follow_others(app: App):
    heard: list[int] = []

    @app.task
    async def add(n: int) -> int:
        return n + 1

    @app.task(acks="early")
    async def note(n: int) -> None:
        heard.append(n)

    await (add.s(1) >> note.s(RESULT)).delay()
    await drain(app)
    assert heard == [2]


async def test_a_job_that_begins_just_as_a_group_was_written_is_settled_too(app: App):
    groups: list[list[str]] = []
    second: list[asyncio.Task[None]] = []

    def begin(id: str) -> asyncio.Task[None]:
        claimed = ClaimedJob(JobId(id), "task", b"", "default", 1, 1)
        return asyncio.create_task(early.settle(claimed, Message(None), Attempt("task", None, None, None, print)))

    async def write(group: Sequence[Settlement]) -> SettledJobs:
        groups.append([each.id for each in group])
        if len(groups) == 1:
            # Its first step comes after the last look for more, and before the loop has heard that nobody looks any more.
            second.append(begin("b"))
        return SettledJobs()

    early = EarlyJobs(write, clock=SystemClock())
    first = begin("a")
    await asyncio.wait_for(first, 2)
    await asyncio.wait_for(second[0], 2)
    assert groups == [["a"], ["b"]]


async def test_what_is_lost_of_a_group_takes_nobody_with_it():
    async def write(group: Sequence[Settlement]) -> SettledJobs:
        return SettledJobs(lost=frozenset({JobId("b")}))

    early = EarlyJobs(write, clock=SystemClock())
    claimed = [ClaimedJob(JobId(id), "task", b"", "default", 1, 1) for id in "abc"]
    beginning = [early.settle(each, Message(None), Attempt("task", None, None, None, print)) for each in claimed]
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*beginning, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), NotHeld, type(None)]
