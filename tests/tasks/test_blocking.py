"""The blocking interface: tasks from code without an event loop, and beside code with one."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Annotated

import psycopg
import pytest

from holdfast import App, BlockingApp, Depend, JobStatus, State, TaskFailed, WaitTimeout, Workflow, action, workflow
from holdfast.errors import ConfigurationError
from holdfast.sync import as_completed, gather, purge_dead, read_dead, replay_dead, wait
from holdfast.tasks import RESULT, chain, chord, group


@pytest.fixture
def blocking(url: str) -> Iterator[BlockingApp]:
    """A blocking App, with a worker in its own thread."""
    app = App("test", interface="sync", url=url, concurrent_per_worker=20)
    with app:

        async def work() -> None:
            await app.start_worker().ready.wait()

        app.run(work())
        yield app


def test_a_task_is_sent_and_waited_for_without_await(blocking: BlockingApp):
    @blocking.task
    def add(a: int, b: int = 1) -> int:
        return a + b

    @blocking.task(retries=0)
    async def fail() -> None:
        raise ValueError("baz")

    job = add.delay(2, b=3)
    assert job.get(timeout=30) == 5
    assert job.status() is JobStatus.DONE
    assert job.view().id == job.id
    assert (blocking.job(job.id).get(), blocking.job(job.id).status()) == (5, JobStatus.DONE)
    assert not job.cancel()
    assert gather(add.delay_many(range(5))) == [1, 2, 3, 4, 5]
    assert gather(add.map(range(3)) + add.options(priority=1).starmap([(1, 2)])) == [1, 2, 3, 3]
    assert gather([]) == []
    with pytest.raises(TaskFailed) as caught:
        fail.delay().get()
    assert (caught.value.original_type, caught.value.original_args) == ("ValueError", ["baz"])
    assert [view.task for view in read_dead(blocking)] == [fail.name]
    assert len(replay_dead(blocking, filter=lambda view: view.task == fail.name)) == 1
    assert purge_dead(blocking, filter=lambda view: False) == 0
    with pytest.raises(TypeError, match="unexpected keyword"):
        add.delay(1, c=2)  # type: ignore[call-arg]


def test_some_are_waited_for_and_others_taken_as_they_end(blocking: BlockingApp):
    release = threading.Event()

    @blocking.task
    def quick(n: int) -> int:
        return n

    @blocking.task
    def slow() -> None:
        release.wait()

    jobs = [quick.delay(1), quick.delay(2)]
    last = slow.delay()
    assert {job.get() for job in as_completed(jobs)} == {1, 2}
    done, pending = wait([*jobs, last], timeout=0.1)
    while len(done) < 2:
        done, pending = wait([*jobs, last], timeout=0.1)
    assert (done, pending) == (set(jobs), {last})
    with pytest.raises(WaitTimeout):
        last.get(timeout=0.01)
    release.set()
    assert last.get() is None
    assert wait([]) == (set(), set())


def test_one_call_has_options_of_its_own(blocking: BlockingApp):
    @blocking.task
    async def double(n: int) -> int:
        return 2 * n

    later = double.options(delay=3600, queue="slow").delay(1)
    assert later.view().queue == "slow"
    assert later.cancel()


def test_chains_groups_and_chords_are_sent_without_await(blocking: BlockingApp):
    @blocking.task
    async def double(n: int) -> int:
        return 2 * n

    @blocking.task
    def add_up(numbers: list[int]) -> int:
        return sum(numbers)

    chained = (double.s(1) >> double.options(queue="default").s(RESULT)).delay()
    assert chained.get(timeout=30) == 4
    assert (chained.status(), chained.progress()) == (JobStatus.DONE, None)
    assert not chained.cancel()
    assert not chained.retry()
    assert chained.view().id == chained.id
    assert double.si(3).delay().get(timeout=30) == 6
    assert chain(double.s(1), double.s(RESULT), double.s(RESULT)).delay().get(timeout=30) == 8
    assert gather(group(double.s(n) for n in range(3)).delay()) == [0, 2, 4]
    chorded = chord([double.s(1), double.s(2) >> double.s(RESULT)], add_up.s(RESULT)).delay()
    assert chorded.get(timeout=30) == 10
    assert chorded.status() is JobStatus.DONE
    later = double.options(delay=3600).s(1) >> double.s(RESULT)
    assert later.delay().cancel()


def test_a_group_of_no_calls_gives_no_handles():
    assert gather(group([]).delay()) == []  # type: ignore[arg-type]


class Shop:
    """What tasks share."""

    name = "the shop"


async def opened() -> AsyncIterator[list[str]]:
    log.append("opened")
    try:
        yield log
    except ValueError as error:
        log.append(str(error))
        raise
    finally:
        log.append("closed")


log: list[str] = []


def test_a_direct_call_runs_here_and_gives_the_result():
    app = App("test", interface="sync", url="sqlite://:memory:", state=Shop())

    @app.task
    def here(n: int = 1) -> tuple[int, threading.Thread]:
        return n, threading.current_thread()

    @app.task
    async def later(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    @app.task
    def fail(n: int, shop: State[Shop], log: Annotated[list[str], Depend(opened)]) -> str:
        log.append(threading.current_thread().name)
        if n:
            raise ValueError(f"no {n}")
        return shop.name

    @app.batch_task(size=3)
    def lengths(texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    this = threading.current_thread()
    log.clear()
    with app:
        assert here(2) == (2, this)
        assert later(n=2) == 4
        assert fail(0) == "the shop"
        assert log == ["opened", this.name, "closed"]
        log.clear()
        with pytest.raises(ValueError, match="no 7"):
            fail(7)
        assert log == ["opened", this.name, "no 7", "closed"]
        assert lengths("four") == 4  # pyright: ignore[reportUnknownVariableType]
        with pytest.raises(TypeError, match="missing a required argument|missing 1 required"):
            later()  # type: ignore[call-arg]


def test_what_a_dependency_raises_comes_out_of_a_direct_call():
    app = App("test", interface="sync", url="sqlite://:memory:")

    @app.task
    def name(shop: State[Shop]) -> str:
        return shop.name

    with app, pytest.raises(ConfigurationError, match="there is no state here"):
        name()


async def test_a_direct_call_in_an_event_loop_runs_what_needs_none():
    app = App("test", interface="sync", url="sqlite://:memory:", state=Shop())

    @app.task
    def double(n: int) -> int:
        return 2 * n

    @app.task
    async def treble(n: int) -> int:
        return 3 * n

    @app.task
    def name(shop: State[Shop]) -> str:
        return shop.name

    assert double(2) == 4
    for call in (lambda: treble(2), name):
        with pytest.raises(ConfigurationError, match=r"asyncio\.to_thread"):
            call()
    assert await treble.run(2) == 6


kept = App("kept", interface="sync", url="sqlite://:memory:")


@kept.task
def half(n: int) -> int:
    return n // 2


@workflow
class Quarter(Workflow):
    """Two calls of a blocking task."""

    async def run(self, n: int) -> int:
        once = await half(n)
        return await half(once)


def test_in_a_workflow_a_blocking_task_is_an_action():
    with kept:
        assert kept.run(Quarter().run(8)) == 2
        assert half(8) == 4


def test_workflows_are_run_through_it(tmp_path: Path):
    with App("test", interface="sync", url=f"sqlite:///{tmp_path}/a.db") as app:
        assert app.run(Twice().run(4)) == 16


@action
async def doubled(n: int) -> int:
    return 2 * n


@workflow
class Twice(Workflow):
    """Two actions, one after the other."""

    async def run(self, n: int) -> int:
        once = await doubled(n)
        return await doubled(once)


async def test_inside_a_running_event_loop_it_says_what_to_do(tmp_path: Path):
    app = App("test", interface="sync", url=f"sqlite:///{tmp_path}/a.db")

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    with pytest.raises(ConfigurationError, match=r"interface=\"async\".*asyncio\.to_thread"):
        double.delay(1)
    with pytest.raises(ConfigurationError, match=r"asyncio\.to_thread"):
        (double.s(1) >> double.s(RESULT)).delay()
    job = await asyncio.to_thread(double.delay, 4)
    assert await asyncio.to_thread(job.get, 30) == 8
    await asyncio.to_thread(app.bridge.close)


async def test_a_task_sends_others_from_its_thread_on_the_worker(url: str):
    app = App("test", interface="sync", url=url)

    @app.task
    def double(n: int) -> int:
        return 2 * n

    @app.task
    def twice(n: int) -> int:
        return double.delay(double.delay(n).get()).get()

    async with app:
        await app.start_worker().ready.wait()
        [job] = await app.send([twice.job((3,), {}, twice.jobs)])
        assert await job.get(timeout=60) == 12


async def test_blocking_and_async_clients_of_one_broker_stand_side_by_side(url: str):
    plain = App("plain", url=url)
    blocking = App("blocking", interface="sync", url=url)

    @plain.task(name="side:double")
    async def double(n: int) -> int:
        return 2 * n

    @blocking.task(name="side:treble")
    def treble(n: int) -> int:
        return 3 * n

    async with plain:
        await plain.start_worker().ready.wait()
        assert await (await double.delay(1)).get() == 2
        assert await asyncio.to_thread(lambda: treble.delay(1).get(60)) == 3
    await asyncio.to_thread(blocking.bridge.close)


def test_a_job_commits_or_vanishes_with_a_blocking_connection(tmp_path: Path):
    path = tmp_path / "shop.db"
    with App("test", interface="sync", url=f"sqlite:///{path}", embedded_worker=False) as app:

        @app.task
        def double(n: int) -> int:
            return 2 * n

        connection = sqlite3.connect(path)
        gone = double.in_transaction(connection).delay(1)
        connection.rollback()
        kept = double.options(queue="slow").in_transaction(connection).delay(2)
        connection.commit()
        connection.close()
        assert kept.status() is JobStatus.QUEUED
        with pytest.raises(LookupError):
            gone.status()


async def test_a_connection_that_must_be_awaited_is_refused(postgres_url: str):
    app = App("test", interface="sync", url=postgres_url)

    @app.task
    def double(n: int) -> int:
        return 2 * n

    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        with pytest.raises(ConfigurationError, match="must be awaited"):
            double.in_transaction(connection)


def test_an_interface_of_another_name_is_refused():
    with pytest.raises(ConfigurationError, match="'async' or 'sync', not 'threads'"):
        App("test", interface="threads")  # type: ignore[call-overload]


def test_a_script_ends_by_itself_and_a_forked_server_opens_anew(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        dedent(
            f"""
            import os, sys
            from holdfast import App

            app = App("script", interface="sync", url="sqlite:///{tmp_path}/a.db")

            @app.task
            def double(n: int) -> int:
                return 2 * n

            first = double.delay(2)
            print(first.get(30), flush=True)
            child = os.fork()
            if not child:
                print(app.job(first.id).get(60), double.delay(3).get(60), flush=True)
                sys.exit(0)
            _, status = os.waitpid(child, 0)
            print(double.delay(4).get(60), os.waitstatus_to_exitcode(status), flush=True)
            """
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout.split(), done.returncode) == (["4", "4", "6", "8", "0"], 0), done.stderr


def test_a_script_ends_in_silence_and_leaves_no_lease(tmp_path: Path):
    (tmp_path / "script.py").write_text(
        dedent(
            f"""
            from holdfast import App

            app = App("shop", url="sqlite:///{tmp_path}/jobs.db", interface="sync")

            @app.task
            def double(n: int) -> int:
                return 2 * n

            if __name__ == "__main__":
                print(double.delay(7).get(timeout=60))
            """
        )
    )
    for _ in range(2):
        # The second would wait for the lease of the first, had that not given it back.
        ended = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (ended.stdout, ended.stderr, ended.returncode) == ("14\n", "", 0)
