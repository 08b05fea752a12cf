"""Tasks from the outside: sent, run, retried, cancelled, dead and replayed."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta
from typing import Annotated, Any

import pytest

from holdfast import App, Depend, RetryPolicy, Workflow, action, workflow
from holdfast.codec import dumps, encode_exception
from holdfast.errors import ConfigurationError, HoldfastError, JobNotFound, TaskCancelled, TaskFailed, WaitTimeout
from holdfast.ids import JobId
from holdfast.model.job import JobFilter, JobStatus, JobView
from holdfast.retry import BackoffPolicy, Retry, RetryMode
from holdfast.tasks import as_completed, gather, pause_queues, wait
from holdfast.tasks.client import result_of
from holdfast.testing import drain


class Declined(Exception):
    """Of this test's own."""


async def test_a_task_is_sent_and_its_result_fetched(app: App):
    @app.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    handle = await add.delay(2, b=3)
    assert await handle.get() == 5
    assert await handle.status() is JobStatus.DONE
    assert await handle.get(timeout=1) == 5
    # Called as it is, it runs here.
    assert await add(1) == 2
    with pytest.raises(TypeError, match="unexpected keyword"):
        await add.delay(2, c=3)  # type: ignore[call-arg]


async def test_sync_functions_run_in_threads(app: App):
    @app.task
    def where() -> str:
        return threading.current_thread().name

    assert await (await where.delay()).get() != threading.current_thread().name


async def test_many_are_sent_at_once_and_gathered_in_order(app: App):
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    assert await gather(await double.delay_many(range(2500))) == [2 * n for n in range(2500)]
    assert await gather(await double.delay_many([(3,), 4])) == [6, 8]
    assert await gather([]) == []


async def test_values_are_mapped_as_they_are_and_calls_spread(app: App):
    @app.task
    async def size(value: tuple[int, ...]) -> int:
        return len(value)

    @app.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    assert await gather(await size.map([(1, 2), (), (3,)])) == [2, 0, 1]
    assert await gather(await size.options(queue="default").map(iter([(1,)]))) == [1]
    assert await gather(await add.starmap([(1, 2), [3]])) == [3, 4]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        await add.starmap([()])
    with pytest.raises(ConfigurationError, match="one id="):
        await size.options(id="x").map([(1,)])


async def test_values_come_back_as_what_they_were(app: App):
    @app.task
    async def same(value: object) -> object:
        return value

    for value in (None, "123", {1: (2, 3)}, {"a", "b"}, timedelta(days=2), float("inf"), b"\x00"):
        assert await (await same.delay(value)).get() == value


async def test_a_failure_is_retried_after_growing_pauses_and_then_dead(app: App):
    moments: list[float] = []

    @app.task(retry=RetryPolicy(4, backoff=BackoffPolicy(2.0, multiplier=3.0)))
    async def fail(amount: int) -> None:
        moments.append(app.clock.now())
        raise Declined("no funds", amount)

    handle = await fail.delay(7)
    with pytest.raises(TaskFailed, match="no funds") as caught:
        await handle.get()
    assert [round(b - a, 3) for a, b in zip(moments, moments[1:], strict=False)] == [2.0, 6.0, 18.0]
    error = caught.value
    assert (error.original_type, error.original_args, error.reason) == ("Declined", ["no funds", 7], "failed")
    assert "Declined" in error.traceback_text
    assert "moments.append" not in error.traceback_text
    assert isinstance(error.__cause__, Declined)
    [dead] = await app.tasks.dead()
    assert (dead.id, dead.reason, dead.attempt, dead.name) == (handle.id, "failed", 4, fail.name)


async def test_by_default_tasks_are_retried_for_a_month(app: App):
    times: list[float] = []

    @app.task
    async def fail() -> None:
        times.append(app.clock.now())
        raise Declined

    with pytest.raises(TaskFailed):
        await (await fail.delay()).get()
    assert len(times) == 11
    pauses = [b - a for a, b in zip(times, times[1:], strict=False)]
    for number, pause in enumerate(pauses):
        longest = min(6.0 * 6.0**number, 7 * 86400)
        assert longest / 2 - 0.01 <= pause <= longest + 0.01


async def test_the_policy_of_the_call_goes_before_that_of_the_task(app: App):
    calls: list[str] = []

    @app.task(retries=5)
    async def fail(how: str) -> None:
        calls.append(how)
        raise Declined

    with pytest.raises(TaskFailed):
        await (await fail.options(retries=0).delay("once")).get()
    with pytest.raises(TaskFailed):
        await (await fail.options(retry=RetryPolicy(3, give_up_on=Declined)).delay("gives up")).get()
    with pytest.raises(TaskFailed):
        await (await fail.delay("six")).get()
    assert [calls.count(each) for each in ("once", "gives up", "six")] == [1, 1, 6]


async def test_a_raised_retry_goes_before_all_others(app: App):
    moments: list[float] = []

    @app.task(retries=0)
    async def stubborn(how: str) -> str:
        moments.append(app.clock.now())
        if len(moments) == 3:
            return "done"
        if how == "policy":
            raise Retry(policy=RetryPolicy(5, delay=10, retry_mode=RetryMode.Linear))
        raise Retry("later", delay=timedelta(hours=1))

    assert await (await stubborn.delay("policy")).get() == "done"
    assert [round(b - a) for a, b in zip(moments, moments[1:], strict=False)] == [10, 20]
    moments.clear()
    assert await (await stubborn.options(retries=5).delay("delay")).get() == "done"
    assert [round(b - a) for a, b in zip(moments, moments[1:], strict=False)] == [3600, 3600]
    moments.clear()
    # Attempts are counted against the policy in force: there is only one.
    with pytest.raises(TaskFailed, match="later"):
        await (await stubborn.delay("delay")).get()


async def test_timeouts_fail_the_attempt(app: App):
    @app.task(retries=0, timeout=0.02)
    async def slow() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TaskFailed, match="longer than its 0.02 seconds"):
        await (await slow.delay()).get()


async def test_delayed_jobs_wait_and_late_ones_expire(app: App):
    ran: list[str] = []

    @app.task
    async def note(what: str) -> float:
        ran.append(what)
        return app.clock.now()

    begin = app.clock.now()
    assert await (await note.options(delay=3600).delay("later")).get() == pytest.approx(begin + 3600, abs=1)
    late = await note.options(eta=app.clock.now() - 10, expires=5).delay("never")
    with pytest.raises(TaskFailed) as caught:
        await late.get()
    assert caught.value.reason == "expired"
    assert f"job {late.id} ({note.name}) was never run: a worker came to it 5.0 seconds after it had" in str(
        caught.value
    )
    assert await (await note.options(eta=app.clock.now() - 3, expires=5).delay("in time")).get()
    assert ran == ["later", "in time"]
    with pytest.raises(ConfigurationError, match="either delay= or eta="):
        note.options(delay=1, eta=2.0)


async def test_only_one_of_a_kind_is_there_at_a_time(app: App):
    gate = asyncio.Event()

    @app.task(unique=True)
    async def once(n: int) -> int:
        await gate.wait()
        return n

    first, twin, other = await once.delay(1), await once.delay(1), await once.delay(2)
    assert first.id == twin.id != other.id
    gate.set()
    assert await gather([first, twin, other]) == [1, 1, 2]
    again = await once.delay(1)
    assert again.id != first.id
    assert await again.get() == 1


async def test_the_same_arguments_are_the_same_however_they_are_given(app: App):
    gate = asyncio.Event()

    @app.task(unique=True)
    async def once(a: int, b: int = 0, **more: int) -> None:
        await gate.wait()

    first = await once.delay(1, 2, c=3, d=4)
    for twin in (once.delay(b=2, a=1, c=3, d=4), once.delay(1, b=2, d=4, c=3)):
        assert (await twin).id == first.id
    other = await once.delay(2, 1, c=3, d=4)
    assert other.id != first.id
    gate.set()
    await gather([first, other])


async def test_an_id_makes_sending_repeatable(app: App):
    @app.task
    async def count(n: int) -> int:
        return n

    first = await count.options(id="order-7").delay(1)
    assert await first.get() == 1
    second = await count.options(id="order-7").delay(2)
    assert (second.id, await second.get()) == ("order-7", 1)
    with pytest.raises(ConfigurationError, match="one id="):
        await count.options(id="x").delay_many([1, 2])

    @app.task(unique=True)
    async def other(n: int) -> int:
        return n

    for options in ({}, {"unique": False}):
        with pytest.raises(
            ConfigurationError, match=f"the id 'order-7' belongs to a job of {count.name}; choose another"
        ):
            await other.options(id="order-7", **options).delay(1)


async def test_waiting_and_running_jobs_are_cancelled(app: App):
    began, ended = asyncio.Event(), asyncio.Event()

    @app.task
    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    later = await endless.options(delay=10**6).delay()
    running = await endless.delay()
    await began.wait()
    assert await running.cancel()
    with pytest.raises(TaskCancelled):
        await running.get()
    await ended.wait()
    assert await later.cancel()
    with pytest.raises(TaskCancelled):
        await later.get()
    assert not await later.cancel()


async def test_a_job_that_is_not_there_is_not_taken_for_one_that_has_not_ended(app: App):
    @app.task(result_ttl=0)
    async def forget() -> None: ...

    gone = await forget.delay()
    await drain(app)
    for handle in (gone, app.job("never sent")):
        with pytest.raises(JobNotFound, match="there is no job"):
            await handle.retry()
        # These two cannot be told apart, and nothing is wrong with the end of the first.
        assert await handle.cancel() is False
    # Where time moves by itself, only a pause keeps a job from its turn.
    await pause_queues(app, "default")
    later = await forget.delay()
    assert await later.retry() is False


async def test_dead_letters_keep_their_reasons_and_are_replayed(app: App):
    broken = True

    @app.task(retries=0)
    async def fragile(n: int) -> int:
        if broken:
            raise Declined(n)
        return n

    jobs = [await fragile.delay(n) for n in range(3)]
    for handle in jobs:
        with pytest.raises(TaskFailed):
            await handle.get()
    dead = await app.tasks.all_dead(lambda job: job.name == fragile.name)
    assert [job.id for job in dead] == [handle.id for handle in reversed(jobs)]
    broken = False
    assert await app.tasks.replay([jobs[0].id]) == [jobs[0].id]
    assert await jobs[1].retry()
    assert await gather(jobs[:2]) == [0, 1]
    assert [job.id for job in await app.tasks.dead()] == [jobs[2].id]
    assert list(await app.tasks.broker.purge([jobs[2].id])) == [jobs[2].id]
    with pytest.raises(JobNotFound):
        await jobs[2].get()


@pytest.mark.parametrize(
    ("reason", "attempt", "told"),
    [
        ("failed", 1, "failed for good after 1 attempt, HoldfastError: why"),
        ("failed", 3, "failed for good after 3 attempts, HoldfastError: why"),
        ("expired", 1, "was never run: why"),
        ("unknown", 1, "was never run: why"),
        ("unreadable", 2, "did not go on after 1 attempt: why"),
        ("lost", 3, "was given up: why"),
    ],
)
def test_a_job_that_never_ran_is_not_said_to_have_been_tried(reason: str, attempt: int, told: str):
    refusal = dumps(encode_exception(HoldfastError("why")))
    about: Any = dict.fromkeys(("queue", "owner", "payload", "created_at", "due_at", "ended_at", "priority"))
    view = JobView(
        id=JobId("a"), name="shop:ship", status=JobStatus.DEAD, reason=reason, attempt=attempt, outcome=refusal, **about
    )
    with pytest.raises(TaskFailed) as caught:
        result_of(view)
    assert str(caught.value) == f"job a (shop:ship) {told}"


async def test_unknown_tasks_and_unreadable_messages_are_dead_each_for_its_reason(app: App):
    @app.task
    async def fine() -> str:
        return "fine"

    job = fine.job((), {}, fine.jobs)
    unknown, garbage, damaged = (job._replace(id=id) for id in ("unknown", "garbage", "damaged"))
    handles = await app.send(
        [
            unknown._replace(name="nobody:knows"),
            garbage._replace(payload=b"\xff not json"),
            damaged._replace(payload=b'{"args": [[{"$": "no.such:Class"}], {}]}'),
            job,
        ]
    )
    assert await handles[3].get() == "fine"
    reasons: list[str] = []
    for handle in handles[:3]:
        with pytest.raises(TaskFailed) as caught:
            await handle.get()
        reasons.append(caught.value.reason)
    assert reasons == ["unknown", "unreadable", "unreadable"]
    assert await app.tasks.broker.count(JobFilter(status=JobStatus.DEAD)) == 3


async def test_a_result_that_cannot_be_saved_fails_its_job_alone(app: App):
    @app.task(retries=0)
    async def unsavable() -> object:
        return threading.Lock()

    @app.task
    async def fine() -> str:
        return "fine"

    bad, good = await unsavable.delay(), await fine.delay()
    assert await good.get() == "fine"
    with pytest.raises(TaskFailed, match="Lock|lock"):
        await bad.get()


async def test_results_are_kept_for_as_long_as_is_asked(app: App):
    @app.task(result_ttl=0)
    async def fire_and_forget() -> int:
        return 1

    @app.task(result_ttl=60)
    async def short() -> int:
        return 1

    forgotten, kept = await fire_and_forget.delay(), await short.delay()
    assert await kept.get() == 1
    with pytest.raises(JobNotFound):
        await forgotten.get()


async def test_a_failure_that_wants_no_dead_letter_leaves_none(app: App):
    @app.task(retries=0, dead_letter=False)
    async def fail() -> None:
        raise Declined

    with pytest.raises(TaskFailed):
        await (await fail.delay()).get()
    assert await app.tasks.dead() == []


async def test_dependencies_are_injected(app: App):
    @app.task
    async def price(net: int, rate: Annotated[int, Depend(tariff)]) -> int:
        return net * rate

    assert await (await price.delay(2)).get() == 38


async def test_whoever_waits_too_long_is_told_and_the_job_goes_on(app: App):
    gate = asyncio.Event()

    @app.task
    async def gated(n: int) -> int:
        if n:
            await gate.wait()
        return n

    jobs = [await gated.delay(n) for n in (0, 1, 2)]
    assert await jobs[0].get() == 0
    with pytest.raises(WaitTimeout):
        await jobs[1].get(timeout=0.02)
    # What has ended is told however short the time is.
    assert await jobs[0].get(timeout=0) == 0
    lone = await gated.delay(0)
    while await lone.status() is not JobStatus.DONE:
        await asyncio.sleep(0)
    assert await lone.get(timeout=0) == 0
    for seconds in (0, 0.05):
        done, pending = await wait(jobs, timeout=seconds)
        assert (done, pending) == ({jobs[0]}, {jobs[1], jobs[2]})
    assert (await wait(jobs, timeout=0, return_when="FIRST_EXCEPTION"))[0] == {jobs[0]}
    assert (await wait(jobs, return_when="FIRST_COMPLETED"))[0] == {jobs[0]}
    gate.set()
    assert {handle.id async for handle in as_completed(jobs)} == {handle.id for handle in jobs}
    assert await wait([]) == (set(), set())


def tariff() -> int:
    return 19


@action
async def shout(text: str) -> str:
    return text.upper()


async def test_a_task_is_an_action_in_workflows(app: App):
    assert await ShoutTwice().run("hey") == "HEYHEY!"


app_of_module = App("module")


@app_of_module.task(retries=2)
async def twice(text: str) -> str:
    return text * 2


@workflow
class ShoutTwice(Workflow):
    async def run(self, text: str) -> str:
        return await twice(await shout(text)) + "!"


async def test_wrong_definitions_are_refused(app: App):
    with pytest.raises(ConfigurationError, match="retries= cannot be negative"):
        app.task(retries=-1)
    with pytest.raises(ConfigurationError, match="timezone"):
        app.task(lambda: None).options(eta=datetime(2030, 1, 1))
    with pytest.raises(ConfigurationError, match=r"@app\.task takes no retires=; did you mean retries="):
        app.task(retires=3)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match=r"options\(\) takes no dealy=; did you mean delay="):
        app.task(lambda: None).options(dealy=3)  # type: ignore[call-arg]
