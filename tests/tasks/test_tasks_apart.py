"""Tasks that lie elsewhere than workflows: one worker with a lease in both places, and words that say what is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast import App, Workflow, action, workflow
from holdfast.cli import main
from holdfast.errors import ConfigurationError
from holdfast.ids import WorkerId
from holdfast.model.job import JobFilter
from holdfast.tasks import gather


@action
async def plus(n: int) -> int:
    return n + 1


@workflow
class Counting(Workflow):
    async def run(self, n: int) -> int:
        return await plus(n)


@pytest.fixture
def urls(tmp_path: Path) -> dict[str, str]:
    return {"url": f"sqlite:///{tmp_path}/flows.db", "tasks_url": f"sqlite:///{tmp_path}/tasks.db"}


async def test_one_worker_serves_both_places(urls: dict[str, str]):
    app = App("test", **urls)
    async with app:

        @app.task
        async def double(n: int) -> int:
            return 2 * n

        worker = app.start_worker()
        await worker.ready.wait()
        assert await Counting().run(1) == 2
        assert await gather(await double.delay_many([1, 2])) == [2, 4]
        [one] = await app.workers()
        assert [view.id for backend in app.backends for view in await backend.workers(now=app.now())] == [one.id] * 2
        assert await app.store.broker().count(JobFilter()) == 0
        assert await app.broker.count(JobFilter()) == 2
    async with app:
        assert await app.workers() == []


async def test_sending_has_a_worker_work_here(urls: dict[str, str]):
    app = App("test", **urls)
    async with app:

        @app.task
        async def double(n: int) -> int:
            return 2 * n

        assert await (await double.delay(4)).get(timeout=10) == 8


async def test_a_lease_lost_in_either_place_ends_the_tenure(urls: dict[str, str]):
    app = App("test", lease_seconds=0.3, **urls)
    async with app:
        worker = app.start_worker()
        for backend in app.backends:
            await worker.ready.wait()
            [before] = await app.workers()
            await backend.retire(WorkerId(before.id), now=app.now())
            async with asyncio.timeout(10):
                while len(found := await app.workers()) != 1 or found[0].id == before.id:
                    await asyncio.sleep(0.01)
        assert await Counting().run(1) == 2


async def test_the_same_url_twice_is_one_place(urls: dict[str, str]):
    async with App("test", url=urls["url"], tasks_url=urls["url"]) as app:
        assert app.backends == [app.store]


def test_commands_look_where_the_jobs_are(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    app = App("test", embedded_worker=False, **urls)

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async def send() -> str:
        async with app:
            return (await double.delay(1)).id

    id = asyncio.run(send())
    monkeypatch.setenv("HOLDFAST_TASKS_URL", urls["tasks_url"])
    monkeypatch.setenv("COLUMNS", "200")

    def said(*command: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, [*command, "--url", urls["url"]])
        assert result.exit_code == code, result.output
        return result.output

    assert id in said("tasks", "list")
    told = said("doctor", code=1)
    assert "tasks.db" in told
    assert "none is alive, and there is work: 0 pending, 1 queued" in told
    assert "no rows" in said("workers").lower() or id not in said("workers")


# --- Apps for tasks alone


@pytest.mark.parametrize("url", ["redis://nowhere:1", "rediss://nowhere:1", "redis+cluster://a:1,b:2"])
async def test_who_asks_redis_for_workflows_is_told_what_to_do(url: str):
    app = App("test", url=url)
    said = "Redis keeps no workflows: give url=… a database and tasks_url=redis"
    for ask in (
        lambda: app.launch(Counting().run(1)),
        lambda: app.start_many(Counting().start(1) for _ in range(1)),
        lambda: app.schedule(Counting, id="x", every=10),
        lambda: app.fork("x"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            await ask()
    with pytest.raises(ConfigurationError, match=said):
        App("test", url=url, tasks_url="sqlite://:memory:")


def test_commands_for_workflows_say_that_there_are_none():
    for command in (["workflows", "list"], ["schedules", "list"]):
        result = CliRunner().invoke(main, [*command, "--url", "redis://127.0.0.1:1"])
        assert result.exit_code == 1
        assert "Error" in result.output


def test_commands_serve_jobs_in_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    app = App("test", url=redis_url)

    @app.task(retries=0)
    async def fail(n: int) -> int:
        raise ValueError(f"no {n}")

    async def work() -> list[str]:
        async with app:
            await app.start_worker().ready.wait()
            handles = await fail.delay_many([1, 2])
            await gather(handles, return_exceptions=True)
            waiting = await fail.options(delay=1000).delay(3)
            return [*[handle.id for handle in handles], waiting.id]

    one, two, waiting = asyncio.run(work())
    monkeypatch.setenv("COLUMNS", "200")

    def said(*command: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, [*command, "--url", redis_url])
        assert result.exit_code == code, result.output
        return result.output

    assert waiting in said("tasks", "list", "--status", "queued")
    assert "no 1" in said("dlq", "show", one)
    assert "1 replayed" in said("dlq", "replay", one)
    assert "1 purged" in said("dlq", "purge", two, "--yes")
    assert "cancelled" in said("tasks", "cancel", waiting)
    assert "none is alive, and there is work: 0 pending, 1 queued" in said("doctor", code=1)
    assert one not in said("workers")
