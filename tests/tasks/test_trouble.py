"""Workers and their jobs where things go wrong: little room, poison, refusals, words that come at the wrong moment."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from holdfast import App, RetryPolicy, Workflow, action, workflow
from holdfast.errors import StoreUnavailable, TaskCancelled, TaskFailed
from holdfast.ids import JobId
from holdfast.retry import Retry
from holdfast.runtime import consuming, settling
from holdfast.task import ACTIONS
from holdfast.tasks import as_completed, gather
from holdfast.testing import drain


@contextlib.asynccontextmanager
async def worked(url: str, **settings: Any) -> AsyncIterator[tuple[App, Any]]:
    """An App on real time, and its worker."""
    app = App("test", url=url, **settings)
    async with app:
        worker = app.start_worker()
        await worker.ready.wait()
        yield app, worker


async def change(url: str, *texts: str, fields: dict[str, dict[str, str]] | None = None) -> None:
    """From outside: a statement for SQLite, or one for PostgreSQL, or fields of keys in Redis."""
    if url.startswith("redis"):
        place, _, prefix = url.partition("?prefix=")
        with redis.Redis.from_url(place) as client:
            for key, values in (fields or {}).items():
                client.hset(f"{{{prefix}}}:{key}", mapping=values)
        return
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(texts[0])
            connection.commit()
        return
    connection: Any = await asyncpg.connect(url)
    await connection.execute(texts[-1])
    await connection.close()


async def test_a_free_place_is_taken_though_all_others_are_held_for_long(url: str):
    began: asyncio.Queue[int] = asyncio.Queue()
    go = asyncio.Event()
    async with worked(url, concurrent_per_worker=8) as (app, _):

        @app.task
        async def hold(n: int) -> None:
            began.put_nowait(n)
            await go.wait()

        @app.task
        async def release() -> None:
            go.set()

        holding = await hold.delay_many(range(7))
        for _ in range(7):
            await began.get()
        await (await release.delay()).get(timeout=5)
        await gather(holding)


async def test_who_asks_to_cancel_while_the_worker_asks_is_heard(url: str):
    began = asyncio.Event()
    async with worked(url, lease_seconds=60) as (app, worker):

        @app.task
        async def endless() -> None:
            began.set()
            await asyncio.Event().wait()

        beaten = asyncio.Event()
        worker.consumer.ask = beaten.set
        await beaten.wait()
        # The next heartbeat, which asks as well, is 20 seconds away.
        del worker.consumer.ask
        handle = await endless.delay()
        await began.wait()
        asked, answered = asyncio.Event(), asyncio.Event()
        unwanted = worker.broker.unwanted

        async def slow(*about: Any) -> Any:
            answer = await unwanted(*about)
            asked.set()
            await answered.wait()
            return answer

        worker.broker.unwanted = slow
        worker.consumer.ask()
        await asked.wait()
        assert await handle.cancel()
        # The word of it is here once a later one is.
        heard = asyncio.Event()
        await app.broker.home.listen("later", lambda *_: heard.set())
        await app.broker.home.notify({"later": ""})
        await heard.wait()
        worker.broker.unwanted = unwanted
        answered.set()
        with pytest.raises(TaskCancelled):
            await handle.get(timeout=3)


broken = False


@dataclass(frozen=True)
class Touchy:
    """Of this test's own."""

    n: int

    def __hash__(self) -> int:
        if broken:
            raise RuntimeError("do not touch me")
        return 1


class Mute(Exception):
    """Of this test's own."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


async def test_an_exception_that_cannot_say_what_it_is_fails_its_job_and_nothing_else(
    app: App, caplog: pytest.LogCaptureFixture
):
    told: list[str] = []

    @app.on_dead
    def silent(*_: object) -> None:
        raise Mute

    app.on_dead(lambda job, outcome: told.append(job.name))

    @app.task(retries=0, name="t:mute")
    async def mute() -> None:
        raise Mute(3, "x")

    with pytest.raises(TaskFailed, match=r"after 1 attempt, Mute: \(int, str\)") as caught:
        await (await mute.delay()).get()
    assert isinstance(caught.value.__cause__, Mute)
    assert caught.value.original_args == [3, "x"]

    @app.task(acks="early")
    async def ring() -> None:
        raise Mute

    await ring.delay()
    await drain(app)
    assert told == ["t:mute"]
    assert "hook failed" in caplog.text
    assert "Mute: ()" in caplog.text


async def test_arguments_whose_reading_fails_harm_their_job_alone(app: App, monkeypatch: pytest.MonkeyPatch):
    @app.task
    async def count(things: object) -> str:
        return "counted"

    job = count.job(({Touchy(1)},), {}, count.jobs)
    monkeypatch.setattr(f"{__name__}.broken", True)
    [bad] = await app.send([job])
    with pytest.raises(TaskFailed, match="do not touch me") as caught:
        await bad.get(timeout=10)
    assert caught.value.reason == "unreadable"
    assert await (await count.delay(1)).get(timeout=10) == "counted"


class Forgetful(Retry):
    """It has forgotten to call what it inherits."""

    def __init__(self) -> None:
        pass


async def test_a_failure_that_cannot_be_judged_ends_its_job(app: App):
    @app.task
    async def fail() -> None:
        raise Forgetful

    @app.task
    async def refuse() -> None:
        raise ValueError("no")

    job = refuse.job((), {}, refuse.jobs)
    [odd] = await app.send([job._replace(payload=b'{"args": [[], {}], "retry": {"attempts": "many"}}')])
    with pytest.raises(TaskFailed):
        await odd.get(timeout=10)
    with pytest.raises(TaskFailed):
        await (await fail.delay()).get(timeout=10)


async def test_an_outcome_that_the_store_refuses_ends_its_job_alone(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("holdfast.backends.redis.rows.LARGEST", 5000)
    async with worked(url) as (app, _):
        await change(
            url,
            "CREATE TRIGGER small BEFORE UPDATE ON holdfast_job WHEN length(NEW.outcome) > 5000 "
            "BEGIN SELECT RAISE(ABORT, 'too large'); END",
            "ALTER TABLE holdfast_job ADD CONSTRAINT small CHECK (length(outcome) <= 5000)",
        )

        @app.task(retries=0)
        async def letters(n: int) -> str:
            return n * "x"

        bad, *good = await letters.delay_many([10_000, 1, 2])
        async with asyncio.timeout(10):
            assert await gather(good) == ["x", "xx"]
        with pytest.raises(TaskFailed, match="the store refuses"):
            await bad.get(timeout=10)
        assert f"outcome refused job='{bad.id}'" in caplog.text


async def test_large_outcomes_are_settled_in_several_statements(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settling, "SETTLE_BYTES", 5000)
    async with worked(url) as (app, worker):
        sizes: list[int] = []
        settle = worker.broker.settle

        async def weigh(id: Any, settlements: Any) -> Any:
            sizes.append(sum(len(each.outcome.result) for each in settlements))
            return await settle(id, settlements)

        worker.broker.settle = weigh

        @app.task
        async def letters(n: int) -> str:
            return n * "x"

        async with asyncio.timeout(10):
            results = await gather(await letters.delay_many([2000] * 20 + [20_000]))
        assert [len(each) for each in results] == [2000] * 20 + [20_000]
        assert max(size for size in sizes if size < 20_000) <= 5000


async def test_whoever_is_refused_for_one_that_ends_meanwhile_is_sent_after_all(url: str):
    async with App("test", url=url, embedded_worker=False) as app:

        @app.task(unique="one")
        async def only() -> None: ...

        first = await only.delay()
        broker = app.tasks.broker
        holders = broker.holders

        async def late(unique: Any) -> Any:
            await broker.cancel([first.id], now=app.now(), keep_until=None)
            return await holders(unique)

        broker.holders = late  # type: ignore[method-assign]
        second = await only.delay()
        assert second.id != first.id
        assert (await second.status()).value == "queued"


async def test_unique_arguments_may_be_large(url: str):
    import random

    async with App("test", url=url) as app:

        @app.task(unique=True)
        async def only(text: str) -> None: ...

        text = random.Random(1).randbytes(20_000).hex()
        first = await only.delay(text)
        assert (await only.delay(text)).id == first.id
        assert (await only.delay(text + "0")).id != first.id


async def test_who_stops_looking_at_what_completes_leaves_nothing_behind(url: str):
    async with worked(url) as (app, _):

        @app.task(retries=0)
        async def fail(n: int) -> None:
            if n:
                await asyncio.Event().wait()
            raise ValueError

        handles = await fail.delay_many(range(3))
        before = len(app.tasks.watch._waiting)  # pyright: ignore[reportPrivateUsage]
        async for handle in as_completed(handles):
            assert handle.id == handles[0].id
            break
        async with asyncio.timeout(5):
            while len(app.tasks.watch._waiting) > before:  # pyright: ignore[reportPrivateUsage]
                await asyncio.sleep(0)


async def test_who_could_not_listen_listens_the_next_time(url: str):
    async with App("test", url=url) as app:

        @app.task
        async def one() -> None: ...

        handle = await one.options(delay=1000).delay()
        home: Any = app.broker.home
        listen = home.listen

        async def deaf(*_: Any) -> Any:
            raise StoreUnavailable("not now")

        home.listen = deaf
        with pytest.raises(StoreUnavailable):
            await handle.get()
        heard: list[str] = []

        async def keen(channel: str, wake: Any) -> Any:
            heard.append(channel)
            return await listen(channel, wake)

        home.listen = keen
        with pytest.raises(TimeoutError):
            await handle.get(timeout=0)
        # The App's own worker may be about to listen as well, to channels of its own.
        assert heard.count(app.tasks.watch.channel) == 1


async def test_a_job_that_cannot_be_looked_at_keeps_nobody_waiting(url: str):
    async with App("test", url=url) as app:

        @app.task
        async def one() -> None: ...

        odd, fine = await one.options(delay=1000).delay(), await one.options(delay=1000).delay()
        text = f"UPDATE holdfast_job SET status = 'odd' WHERE id = '{odd.id}'"
        await change(url, text, fields={"ended": {odd.id: '["odd",1,null]\n'}})
        with pytest.raises(ValueError, match="odd"):
            await odd.get(timeout=5)
        waiting = asyncio.ensure_future(fine.get())
        await asyncio.sleep(0)
        await app.tasks.broker.cancel([JobId(fine.id)], now=app.now(), keep_until=app.now() + 60)
        with pytest.raises(TaskCancelled):
            await asyncio.wait_for(waiting, 5)


async def test_jobs_that_may_have_killed_their_workers_run_one_at_a_time(url: str):
    running: list[int] = []
    most = 0
    app = App("test", url=url)

    @app.task
    async def watched(n: int) -> int:
        nonlocal most
        running.append(n)
        most = max(most, len(running))
        # Time for the others to begin.
        await app.tasks.dead()
        await app.tasks.dead()
        running.remove(n)
        return n

    async with app:
        handles = await watched.delay_many(range(4))
        pasts = {handle.id: "1 1 2 0 0\n" for handle in handles}
        await change(url, "UPDATE holdfast_job SET losses = 2", fields={"past": pasts})
        app.start_worker()
        async with asyncio.timeout(20):
            assert await gather(handles) == [0, 1, 2, 3]
        assert most == 1


async def test_a_retry_is_not_late_because_it_expired_meanwhile(app: App):
    @app.task(retry=RetryPolicy(2, delay=100))
    async def second_time() -> str:
        if not tries:
            tries.append(1)
            raise ValueError
        return "done"

    tries: list[int] = []
    assert await (await second_time.options(expires=10).delay()).get(timeout=20) == "done"


@action
async def until_let_go() -> None:
    await let_go.wait()


let_go = asyncio.Event()


@workflow
class Holding(Workflow):
    async def run(self) -> None:
        await until_let_go()


async def test_a_place_that_a_workflow_leaves_is_taken_by_a_job(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(f"{__name__}.let_go", asyncio.Event())
    monkeypatch.setattr(consuming, "IDLE_POLL", 60.0)
    tasks_url = url if url.startswith("redis") else None
    database = "sqlite://:memory:" if tasks_url else url
    async with worked(database, tasks_url=tasks_url, concurrent_per_worker=1) as (app, worker):

        @app.task
        async def one() -> int:
            return 1

        instance = await Holding().start()
        async with asyncio.timeout(5):
            while not worker.owner.executor.load:
                await asyncio.sleep(0)
        handle = await one.delay()
        # The worker has heard of it, and has no room.
        async with asyncio.timeout(5):
            while not worker.consumer._napping or worker.consumer._look.is_set():
                await asyncio.sleep(0)
        let_go.set()
        await instance.result()
        assert await handle.get(timeout=5) == 1


async def test_a_claim_that_is_given_again_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that crashes may have forgotten a claim; who asks again gets it anew, under the same number."""
    ran: list[int] = []
    go_on = asyncio.Event()
    async with App("test", url=f"sqlite:///{tmp_path}/again.db") as app:

        @app.task(name="test:given_again")
        async def given_again(n: int) -> int:
            ran.append(n)
            await go_on.wait()
            return n

        claim = app.broker.claim

        async def twice(*args: Any, **values: Any) -> Any:
            claims = await claim(*args, **values)
            return replace(claims, jobs=[*claims.jobs, *claims.jobs])

        monkeypatch.setattr(app.broker, "claim", twice)
        job = await given_again.delay(1)
        worker = app.start_worker()
        await worker.ready.wait()
        async with asyncio.timeout(10):
            while not ran:
                await asyncio.sleep(0.005)
            go_on.set()
            assert await job.get() == 1
        assert ran == [1]
    ACTIONS.pop("test:given_again")
