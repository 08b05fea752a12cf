"""Redis where it breaks: cut connections, answers that get lost, restarts, a cluster that fails over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.backends.making import NOW, enlist, job
from tests.redis_servers import Cluster, Server, cluster, fresh, server

from holdfast import App, RetryPolicy
from holdfast.backends import open_broker
from holdfast.backends.redis import listener
from holdfast.backends.redis.connection import Connection, Cut
from holdfast.backends.redis.nodes import Nodes
from holdfast.errors import StoreUnavailable
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Done, JobFilter, JobStatus, Settlement
from holdfast.tasks import gather

W = WorkerId("w")


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    broker: Any = open_broker(url)
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


async def until(there: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await there():
            await asyncio.sleep(0.02)


def lose_answers(monkeypatch: pytest.MonkeyPatch, count: int, *, of: int) -> None:
    """Of the next commands with that many keys and more, so many happen, and their answers get lost with the connection."""
    left = count
    ask = Connection.ask

    def lossy(self: Connection, *command: Any) -> Any:
        nonlocal left
        if command[0] != "EVALSHA" or len(command) < of or left == 0:
            return ask(self, *command)
        left -= 1

        async def lost() -> Any:
            await ask(self, *command)
            self.close()
            raise Cut("lost")

        return asyncio.ensure_future(lost())

    monkeypatch.setattr(Connection, "ask", lossy)


async def test_a_claim_whose_answer_got_lost_is_found_again(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    async with opened(redis_url) as broker:
        await enlist(broker, "w")
        await broker.send([job("a"), job("b"), job("c", due_at=NOW + 50)])
        [first] = (await broker.claim(W, queues=["*"], room=1, now=NOW)).jobs
        lose_answers(monkeypatch, 1, of=0)
        with pytest.raises(StoreUnavailable, match="lost"):
            await broker.claim(W, queues=["*"], room=5, now=NOW)
        found = await broker.claim(W, queues=["*"], room=5, now=NOW)
        assert [(each.id, each.claim) for each in found.jobs] == [("b", 1)]
        assert (await broker.claim(W, queues=["*"], room=5, now=NOW)).next_due == NOW + 50
        assert first.id == "a"


async def test_a_claim_that_was_given_up_is_found_again(redis_url: str):
    async with opened(redis_url) as broker:
        await enlist(broker, "w")
        await broker.send([job("a")])
        claiming = asyncio.ensure_future(broker.claim(W, queues=["*"], room=5, now=NOW))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        assert [each.id for each in (await broker.claim(W, queues=["*"], room=5, now=NOW)).jobs] == ["a"]


async def test_other_calls_are_repeated_without_harm(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    async with opened(redis_url) as broker:
        await enlist(broker, "w")
        lose_answers(monkeypatch, 1, of=0)
        # It had been accepted, so that it is not new the second time.
        assert await broker.send([job("a")]) == []
        [held] = (await broker.claim(W, queues=["*"], room=5, now=NOW)).jobs
        lose_answers(monkeypatch, 1, of=0)
        await broker.settle(W, [Settlement(held.id, held.claim, Done(b"1", NOW, NOW + 9))])
        [view] = await broker.look([JobId("a")])
        assert (view.status, view.outcome) == (JobStatus.DONE, b"1")


async def test_who_listens_is_told_of_a_new_connection_and_goes_on(redis_url: str):
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    async with opened(redis_url) as broker:
        await broker.listen("mine", lambda *said: heard.put_nowait(said))
        await broker.notify({"mine": "one", "other": "x"})
        async with asyncio.timeout(10):
            assert await heard.get() == ("mine", "one")
            broker._listener._connection.close()
            # Something may have been missed.
            assert await heard.get() == ("mine", "")
            await broker.notify({"mine": "é two"})
            assert await heard.get() == ("mine", "é two")


async def test_who_stops_listening_hears_no_more(redis_url: str):
    heard: list[str] = []
    async with opened(redis_url) as broker:
        stop = await broker.listen("mine", lambda _, text: heard.append(f"a {text}"))
        await broker.listen("mine", lambda _, text: heard.append(f"b {text}"))
        await stop()
        await broker.notify({"mine": "x"})
        await until(lambda: asyncio.sleep(0, bool(heard)))
        assert heard == ["b x"]


async def test_a_silent_connection_is_given_up(redis_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "SIGN_OF_LIFE", 0.05)
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with opened(redis_url) as broker:
        await broker.listen("mine", lambda _, text: heard.put_nowait(text))
        await asyncio.sleep(0.3)
        assert heard.empty()
        # From now on nothing comes in, as when a machine between them has gone.
        broker._listener._connection.data_received = lambda data: None
        async with asyncio.timeout(10):
            assert await heard.get() == ""


async def test_an_answer_that_does_not_come_is_given_up(redis_url: str):
    async with opened(f"{redis_url}{'&' if '?' in redis_url else '?'}timeout=0.5") as broker:
        await broker.send([job("a")])
        silent = broker._line._connection
        silent.data_received = lambda data: None
        begin = time.monotonic()
        # It is asked once more, over another connection.
        assert [view.id for view in await broker.look([JobId("a")])] == ["a"]
        assert time.monotonic() - begin >= 0.5
        assert silent.closed
        assert broker._line._connection is not silent
        # One that must not be sent again without a look at what it did ends with a reason.
        broker._line._connection.data_received = lambda data: None
        await enlist(broker, "v")
        broker._line._connection.data_received = lambda data: None
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            await broker.claim(WorkerId("v"), queues=["*"], room=1, now=NOW)


async def test_who_cannot_listen_is_told(monkeypatch: pytest.MonkeyPatch, redis_url: str):
    monkeypatch.setattr(listener, "CONFIRMED_WITHIN", 0.1)
    async with opened(redis_url) as broker:

        async def nowhere(_: Nodes) -> Connection:
            raise Cut("no")

        with monkeypatch.context() as patch:
            patch.setattr(Nodes, "connect", nowhere)
            with pytest.raises(StoreUnavailable, match="has not answered"):
                await broker.listen("mine", lambda *_: None)
        monkeypatch.setattr(listener, "CONFIRMED_WITHIN", 10)
        await broker.listen("mine", lambda *_: None)


async def test_many_callers_share_one_connection(own_server: Server):
    async with opened(own_server.url) as broker:
        await asyncio.gather(*[broker.send([job(f"j{n}")]) for n in range(500)])
        assert await broker.count(JobFilter()) == 500
        assert own_server.client().info("clients")["connected_clients"] <= 3


@pytest.fixture
def own_server():
    with server() as made:
        yield made


# --- workers


@contextlib.asynccontextmanager
async def at_work(url: str, runs: dict[int, int]) -> AsyncIterator[tuple[App, Any]]:
    """An App whose worker counts how often it has run each job."""
    app = App("test", url=url, lease_seconds=5, concurrent_per_worker=20)

    @app.task(retry=RetryPolicy(100, delay=0.01))
    async def count(n: int) -> int:
        runs[n] = runs.get(n, 0) + 1
        await asyncio.sleep(0.002)
        return n

    async with app:
        await app.start_worker().ready.wait()
        yield app, count


async def test_nothing_is_lost_or_run_twice_while_connections_are_cut(own_server: Server):
    runs: dict[int, int] = {}
    client = own_server.client()
    async with at_work(own_server.url, runs) as (app, count):
        cutting = True

        async def cut() -> None:
            while cutting:
                await asyncio.sleep(0.05)
                client.execute_command("CLIENT KILL TYPE normal SKIPME yes")
                client.execute_command("CLIENT KILL TYPE pubsub")

        cutter = asyncio.create_task(cut())
        handles: list[Any] = []
        for first in range(0, 2000, 100):
            while True:
                with contextlib.suppress(StoreUnavailable):
                    named = [count.options(id=f"j{n}") for n in range(first, first + 100)]
                    jobs = [each.task.job((n,), {}, each.chosen) for n, each in enumerate(named, start=first)]
                    handles += await app.send(jobs)
                    break
            await asyncio.sleep(0.02)
        async with asyncio.timeout(60):
            assert await gather(handles) == list(range(2000))
        cutting = False
        await cutter
    assert set(runs.values()) == {1}


async def test_jobs_survive_a_crash_of_a_server_that_saves_them():
    runs: dict[int, int] = {}
    with server("--save", "", "--appendonly", "yes", "--appendfsync", "always") as own:
        async with at_work(own.url, runs) as (app, count):
            handles = await count.delay_many(range(300))
            later = await count.options(delay=1.5).delay(1000)
            own.kill()
            with pytest.raises(StoreUnavailable):
                await count.delay(5)
            own.start()
            async with asyncio.timeout(60):
                assert await gather(handles) == list(range(300))
                assert await later.get() == 1000
            assert await app.tasks.dead() == []


async def test_a_worker_begins_anew_at_a_server_that_has_forgotten_all():
    runs: dict[int, int] = {}
    with server() as own:
        async with at_work(own.url, runs) as (app, count):
            [before] = await app.workers()
            own.kill()
            own.start()

            async def anew() -> bool:
                with contextlib.suppress(StoreUnavailable):
                    return [view.id for view in await app.workers()] not in ([], [before.id])
                return False

            await until(anew)
            assert await (await count.delay(7)).get(timeout=20) == 7


async def test_a_server_that_still_loads_is_waited_for():
    with server("--save", "", "--appendonly", "no") as own:
        client = own.client()
        # It answers now and then while it loads, each two megabytes.
        client.mset({f"key{n}": os.urandom(20_000) for n in range(500)})
        async with opened(own.url) as broker:
            await broker.send([job("a")])
            client.save()
            own.kill()
            own.options = (*own.options, "--key-load-delay", "3000")
            begun = asyncio.get_running_loop().run_in_executor(None, own.start)
            said: list[str] = []

            async def there() -> bool:
                try:
                    return [view.id for view in await broker.look([JobId("a")])] == ["a"]
                except StoreUnavailable as error:
                    said.append(str(error))
                    return False

            await until(there)
            await begun
            assert any("LOADING" in each for each in said), said


# --- clusters


async def test_keys_of_a_prefix_lie_in_one_slot_wherever_one_asks(redis_cluster: Cluster):
    whole = fresh(redis_cluster.url)
    query = whole.partition("?")[2]
    for each in redis_cluster.servers:
        # Any one node is enough to find the others; even a URL that does not speak of a cluster.
        for url in (f"redis+cluster://127.0.0.1:{each.port}?{query}", f"{each.url}?{query}"):
            async with opened(url) as broker:
                await broker.send([job(f"{each.port} {len(url)}")])
                assert (await broker.count(JobFilter())) > 0
    async with opened(whole) as broker:
        assert await broker.count(JobFilter()) == 6


async def test_words_reach_all_nodes(redis_cluster: Cluster):
    query = fresh(redis_cluster.url).partition("?")[2]
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with contextlib.AsyncExitStack() as stack:
        brokers = [
            await stack.enter_async_context(opened(f"redis+cluster://127.0.0.1:{each.port}?{query}"))
            for each in redis_cluster.servers
        ]
        for broker in brokers:
            await broker.listen("mine", lambda _, text: heard.put_nowait(text))
        await brokers[0].notify({"mine": "x"})
        async with asyncio.timeout(10):
            assert [await heard.get() for _ in brokers] == ["x"] * 3


async def test_work_goes_on_when_a_replica_takes_over():
    runs: dict[int, int] = {}
    with cluster(replicas=1) as made:
        async with at_work(f"{made.url}?prefix=shop", runs) as (app, count):
            handles = await count.options(delay=1).delay_many(range(200))
            slot = made.servers[0].client().execute_command("CLUSTER KEYSLOT", "{shop}")
            [master] = [each for number, each in enumerate(made.servers[:3]) if slot * 3 // 16384 == number]
            # What a replica has not seen would be lost: that much Redis promises, and no more.
            master.client().execute_command("WAIT", 1, 5000)
            begin = time.monotonic()
            master.kill()
            async with asyncio.timeout(60):
                assert await gather(handles) == list(range(200))
            assert time.monotonic() - begin < 45
            assert await app.broker.count(JobFilter(status=JobStatus.DONE)) == 200
