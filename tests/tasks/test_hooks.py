"""What runs beside tasks: hooks, what a task knows of its job, timers."""

from __future__ import annotations

import asyncio
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast import Again, App, CurrentJob, Done, Failed, RetryPolicy, TaskFailed, current_job
from holdfast.clock import ManualClock
from holdfast.errors import ConfigurationError, HoldfastError, NotInJob
from holdfast.model.job import JobFilter
from holdfast.retry import BackoffPolicy
from holdfast.schedules import Timers


class Declined(Exception):
    """Of this test's own."""


async def test_a_task_knows_its_job(app: App):
    @app.task(queue="mail")
    async def whole() -> tuple[str, str, int, str]:
        job = current_job()
        return (job.id, job.name, job.attempt, job.queue)

    @app.task
    def in_a_thread() -> str:
        return current_job().id

    handle = await whole.delay()
    assert await handle.get() == (handle.id, whole.name, 1, "mail")
    handle = await in_a_thread.delay()
    assert await handle.get() == handle.id


async def test_it_knows_which_attempt_this_is(app: App):
    @app.task(retry=RetryPolicy(3, backoff=BackoffPolicy(1)))
    async def third() -> int:
        if current_job().attempt < 3:
            raise Declined
        return current_job().attempt

    assert await (await third.delay()).get() == 3


def test_outside_of_a_task_there_is_no_job():
    with pytest.raises(NotInJob, match="for tasks that a worker runs"):
        current_job()


async def test_hooks_are_told_of_each_attempt_and_of_what_became_of_it(app: App):
    heard: list[object] = []

    @app.before_job
    def before(job: CurrentJob) -> None:
        heard.append(("before", job.name.partition(":")[2], job.attempt, current_job() == job))

    @app.after_job
    async def after(job: CurrentJob, outcome: object) -> None:
        heard.append(("after", type(outcome).__name__, job.attempt))

    @app.on_retry
    async def again(job: CurrentJob, outcome: object) -> None:
        heard.append(("retry", job.attempt))

    @app.on_dead
    def dead(job: CurrentJob, outcome: object) -> None:
        heard.append(("dead", job.attempt))

    @app.task(name="t:good")
    async def good() -> None:
        heard.append("good")

    @app.task(name="t:bad", retries=1)
    async def bad() -> None:
        heard.append("bad")
        raise Declined

    await (await good.delay()).get()
    with pytest.raises(TaskFailed):
        await (await bad.delay()).get()
    while ("dead", 2) not in heard:
        await (await good.delay()).get()
    assert heard[:3] == [("before", "good", 1, True), "good", ("after", "Done", 1)]
    assert [each for each in heard if each[0] in ("retry", "dead")] == [("retry", 1), ("dead", 2)]  # type: ignore[index]
    assert heard.count("bad") == 2
    assert ("after", "Again", 1) in heard
    assert ("after", "Failed", 2) in heard


async def test_hooks_see_results_and_exceptions_as_they_were(app: App):
    heard: dict[str, list[Any]] = {"values": [], "again": [], "dead": []}

    class Local(Exception):
        """Nobody can import this one."""

    @app.after_job
    def after(job: CurrentJob, outcome: Done | Again | Failed) -> None:
        if isinstance(outcome, Done):
            heard["values"].append(outcome.value)

    app.on_retry(lambda job, outcome: heard["again"].append(outcome.exception))
    app.on_dead(lambda job, outcome: heard["dead"].append(outcome.exception))

    @app.task
    async def moment() -> datetime:
        return BEGIN

    @app.task(retries=1)
    async def fail(cause: str) -> None:
        raise Declined("closed", 7) from KeyError(cause)

    @app.task(retries=0)
    async def fail_locally() -> None:
        raise Local("unknown")

    await (await moment.delay()).get()
    for call in (fail.s("order"), fail_locally.s()):
        with pytest.raises(TaskFailed):
            await (await call.delay()).get()
    await app.close()
    assert heard["values"] == [BEGIN]
    known, local = heard["dead"]
    for error in (*heard["again"], known):
        assert (type(error), error.args) == (Declined, ("closed", 7))
        assert isinstance(error.__cause__, KeyError)
        assert "in fail\n" in "".join(traceback.format_exception(error))
    assert isinstance(local, TaskFailed)
    assert str(local).endswith("Local: unknown")
    assert local.original_type.endswith("Local")
    assert "in fail_locally" in local.traceback_text


async def test_what_a_hook_raises_before_an_attempt_fails_it(app: App):
    @app.before_job
    async def closed(job: CurrentJob) -> None:
        raise Declined("closed")

    @app.task(retries=0)
    async def never() -> None:
        raise AssertionError("it was called")

    with pytest.raises(TaskFailed, match="closed"):
        await (await never.delay()).get()


async def test_what_a_hook_raises_afterwards_is_logged_and_harms_nothing(app: App, caplog: pytest.LogCaptureFixture):
    @app.after_job
    async def broken(job: CurrentJob, outcome: object) -> None:
        raise Declined("of the hook")

    @app.task
    async def fine() -> int:
        return 1

    assert await (await fine.delay()).get() == 1
    assert await (await fine.delay()).get() == 1
    assert "hook failed" in caplog.text
    assert "of the hook" in caplog.text


async def test_a_worker_begins_with_on_start_and_ends_with_on_stop(tmp_path: Path):
    heard: list[str] = []
    app = App("test", url=f"sqlite:///{tmp_path}/a.db")
    app.on_start(lambda: heard.append("start"))
    app.on_stop(lambda: heard.append("first to be set up, last to go"))

    @app.on_stop
    async def stop() -> None:
        heard.append("stop")

    async with app:
        await app.start_worker().ready.wait()
        assert heard == ["start"]
    assert heard == ["start", "stop", "first to be set up, last to go"]
    with pytest.raises(ConfigurationError, match="a hook is a function"):
        app.on_stop(3)  # type: ignore[type-var]


async def test_a_worker_whose_on_start_raises_takes_no_work(tmp_path: Path):
    app = App("test", url=f"sqlite:///{tmp_path}/a.db")

    @app.on_start
    async def broken() -> None:
        raise Declined("no database")

    async with app:
        worker = app.make_worker()
        with pytest.raises(Declined, match="no database"):
            await worker.run()
        assert not worker.ready.is_set()


# --- timers

BEGIN = datetime(2030, 1, 1, 2, 58, tzinfo=UTC)


async def test_each_tick_has_one_job_however_many_workers_send_it(url: str):
    clock = ManualClock(BEGIN)
    app = App("test", url=url, clock=clock, embedded_worker=False)

    @app.crontab("* * * * *")
    async def minutely() -> None: ...

    async with app:
        workers = [Timers(app.timers, clock=clock) for _ in range(3)]
        tasks = [asyncio.create_task(worker.run()) for worker in workers]
        for ticks in range(1, 4):
            while not all(worker.asleep for worker in workers):
                await asyncio.sleep(0.001)
            clock.move(60)
            while await app.tasks.broker.count(JobFilter(name=minutely.name)) < ticks:
                await asyncio.sleep(0.001)
        while not all(worker.asleep for worker in workers):
            await asyncio.sleep(0.001)
        views = await app.tasks.broker.find(JobFilter(name=minutely.name))
        assert [view.id for view in reversed(views)] == [
            f"{minutely.name}@2030-01-01T{moment}:00Z" for moment in ("02:59", "03:00", "03:01")
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_timer_runs_on_a_worker():
    moments: list[float] = []
    clock = ManualClock(BEGIN)
    app = App("test", url="sqlite://:memory:", clock=clock)

    @app.timer(60)
    async def tick() -> None:
        moments.append(clock.now() - BEGIN.timestamp())

    async with app:
        worker = app.start_worker()
        await worker.ready.wait()
        for number in (1, 2, 3):
            while app.clockwork is None or not app.clockwork.asleep:
                await asyncio.sleep(0.001)
            clock.move(60)
            while len(moments) < number:
                await asyncio.sleep(0.001)
    assert moments == [60, 120, 180]


async def test_a_tick_is_left_out_while_an_earlier_one_has_not_ended(app: App):
    release = asyncio.Event()

    @app.timer(60, overlap="skip")
    async def slow() -> None:
        await release.wait()

    [timer] = app.timers
    [first] = await timer.send("slow@1")  # type: ignore[misc]
    [second] = await timer.send("slow@2")  # type: ignore[misc]
    assert first.id == second.id == "slow@1"
    release.set()
    await first.get()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda app: app.crontab("61 * * * *")(lambda: None), "not a cron expression"),
        (lambda app: app.timer(0)(lambda: None), "more than 0 seconds"),
        (lambda app: app.timer(5)(lambda n: None), "without arguments"),
        (lambda app: app.timer(5, overlap="cancel")(lambda: None), "'allow' or 'skip'"),
    ],
)
def test_timers_that_cannot_tick_are_refused(make, told):
    with pytest.raises(HoldfastError, match=told):
        make(App("test", url="sqlite://:memory:"))
