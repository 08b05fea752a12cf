"""What is particular to jobs in Redis: what they cost, hostile names, a server that is full, read-only or another one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backends.making import NOW, enlist, job
from tests.redis_servers import Server, fresh, server

from holdfast.backends import open_broker
from holdfast.backends.redis import rows
from holdfast.backends.redis.address import parse
from holdfast.errors import ConfigurationError, LeaseLost, SchemaError, StoreError, StoreUnavailable
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Again, Done, Failed, JobFilter, JobStatus, Reason, Settlement

W = WorkerId("w")


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    broker: Any = open_broker(url)
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


@pytest.fixture
async def broker(redis_url: str) -> AsyncIterator[Any]:
    async with opened(redis_url) as made:
        await enlist(made, "w")
        yield made


@pytest.fixture
def own_server() -> Iterator[Server]:
    with server() as made:
        yield made


async def claim(broker: Any, room: int = 1000, now: float = NOW) -> Any:
    return (await broker.claim(W, queues=["*"], room=room, now=now)).jobs


def done(held: Any, keep_until: float | None = None) -> Settlement:
    return Settlement(held.id, held.claim, Done(b"1", NOW, keep_until))


# --- what it costs


async def test_a_job_without_a_result_costs_a_small_part_of_a_command(own_server: Server):
    client = own_server.client()
    async with opened(own_server.url) as broker:
        await enlist(broker, "w")
        # Scripts are told once.
        await broker.send([job("a")])
        await broker.settle(W, [done(each) for each in await claim(broker)])
        for keep_until in (None, NOW + 100):
            before, sent = _commands(client), broker.statements
            for first in range(0, 5000, 500):
                await broker.send([job(f"{keep_until}{first + n}") for n in range(500)])
            while held := await claim(broker, room=500):
                await broker.settle(W, [done(each, keep_until) for each in held])
            # One call to send 500, one to claim, one to settle; within each a few commands for all of them.
            assert broker.statements - sent == 31
            assert (_commands(client) - before) / 5000 < 0.15


async def test_a_lone_job_costs_few_commands(own_server: Server):
    client = own_server.client()
    async with opened(own_server.url) as broker:
        await enlist(broker, "w")
        before = _commands(client)
        await broker.send([job("a")])
        [held] = await claim(broker)
        await broker.settle(W, [done(held)])
        assert _commands(client) - before <= 40


def _commands(client: Any) -> int:
    return sum(each["calls"] for each in client.info("commandstats").values())


async def test_nothing_is_left_behind_by_jobs_that_leave_nothing(own_server: Server):
    async with opened(own_server.url) as broker:
        await enlist(broker, "w")
        await broker.send([job(f"j{n}", unique=f"u{n}", waiter="me", queue=f"q{n}", priority=n) for n in range(50)])
        held = await claim(broker)
        await broker.settle(W, [Settlement(each.id, each.claim, Again(NOW, b"e")) for each in held])
        await broker.cancel([each.id for each in held[:10]], now=NOW, keep_until=None)
        await broker.settle(W, [done(each) for each in await claim(broker)])
        await claim(broker)
        await broker.retire(W, now=NOW)
        assert own_server.client().keys() == [b"{holdfast}:format"]


# --- names and sizes


HOSTILE = ["a b", "a:b", "{x}", "-1:q", "\n", "\0", "*", "é😀", "%s", "' OR 1", "a\\b", '"', "0", " ", "nil"]


async def test_no_name_harms_others(broker: Any):
    jobs = [job(f"id {name}", name=name, queue=name, unique=name, priority=n - 5) for n, name in enumerate(HOSTILE)]
    assert len(await broker.send(jobs)) == len(HOSTILE)
    assert await broker.send([each._replace(id=JobId(f"again {each.id}")) for each in jobs]) == []
    assert await broker.holders(HOSTILE) == {name: f"id {name}" for name in HOSTILE}
    for name in HOSTILE:
        if name != "*":
            [held] = (await broker.claim(W, queues=[name], room=9, now=NOW)).jobs
            assert (held.name, held.queue) == (name, name)
            await broker.settle(W, [Settlement(held.id, held.claim, Failed(Reason.FAILED, name.encode(), NOW))])
    [held] = await claim(broker)
    assert held.queue == "*"
    dead = await broker.find(JobFilter(status=JobStatus.DEAD))
    assert {view.name: view.outcome for view in dead} == {name: name.encode() for name in HOSTILE if name != "*"}
    assert len(await broker.replay([view.id for view in dead], now=NOW)) == len(HOSTILE) - 1
    assert {each.name for each in await claim(broker)} == set(HOSTILE) - {"*"}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_worker_may_have_any_name(broker: Any, name: str):
    worker = WorkerId(name)
    await enlist(broker, name)
    await broker.send([job("a")])
    [held] = (await broker.claim(worker, queues=["*"], room=9, now=NOW)).jobs
    [view] = await broker.look([held.id])
    assert view.owner == name
    assert await broker.unwanted(worker, [held.id]) == []
    assert (await broker.settle(W, [done(held)])).lost == {held.id}
    assert not (await broker.settle(worker, [done(held)])).lost


async def test_what_cannot_be_kept_is_refused_in_words(broker: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "LARGEST", 1000)
    with pytest.raises(StoreError, match="job a has 1,001 bytes, and Redis takes 1,000 at most"):
        await broker.send([job("a", payload=b"x" * 1001)])
    with pytest.raises(StoreError, match="no text"):
        await broker.send([job("a", queue="\ud800")])
    with pytest.raises(StoreError, match="no text"):
        await broker.send([job("a")._replace(id=JobId("\ud800"))])
    for ask in (broker.look, broker.purge, lambda ids: broker.unwanted(W, ids)):
        with pytest.raises(StoreError, match="no text"):
            await ask([JobId("\ud800")])
    await broker.send([job("a")])
    [held] = await claim(broker)
    for outcome in (Done(b"x" * 1001, NOW, NOW), Again(NOW, b"x" * 1001), Failed(Reason.FAILED, b"x" * 1001, NOW)):
        with pytest.raises(StoreError, match="of job a has 1,001 bytes"):
            await broker.settle(W, [Settlement(held.id, held.claim, outcome)])


async def test_binary_messages_come_back_as_they_were(broker: Any):
    payload = bytes(range(256)) * 3
    await broker.send([job("a", payload=payload)])
    [held] = await claim(broker)
    assert held.payload == payload
    await broker.settle(W, [Settlement(held.id, held.claim, Again(NOW, payload))])
    [held] = await claim(broker)
    await broker.settle(W, [Settlement(held.id, held.claim, Done(payload, NOW, NOW + 1))])
    [view] = await broker.look([held.id])
    assert (view.outcome, view.payload) == (payload, payload)


async def test_moments_keep_their_microseconds(broker: Any):
    at = 1_795_848_263.123456
    await broker.send([job("a", created_at=at, due_at=at + 0.000001)])
    assert (await broker.claim(W, queues=["*"], room=1, now=at)).next_due == at + 0.000001
    [held] = await claim(broker, now=at + 1)
    await broker.settle(W, [Settlement(held.id, held.claim, Again(at + 2.000001, b"e"))])
    [view] = await broker.look([held.id])
    assert (view.created_at, view.due_at) == (at, at + 2.000001)
    [held] = await claim(broker, now=at + 3)
    await broker.settle(W, [Settlement(held.id, held.claim, Failed(Reason.FAILED, b"e", at + 4))])
    assert await broker.find(JobFilter(status=JobStatus.DEAD, before=(at, "a"))) == []
    assert len(await broker.find(JobFilter(status=JobStatus.DEAD, before=(at, "b")))) == 1


async def test_thousands_go_through_one_script(broker: Any):
    count = 9000
    await broker.send([job(f"j{n:05}", unique=f"u{n}", waiter="me") for n in range(count)])
    held = await claim(broker, room=count)
    answer = await broker.settle(W, [Settlement(each.id, each.claim, Done(b"1", NOW, NOW + 5)) for each in held])
    assert (len(held), len(answer.lost), len(answer.waiters)) == (count, 0, count)
    assert await broker.sweep_jobs(now=NOW + 6, batch=count) == count


# --- listing


async def test_dead_letters_of_one_moment_come_in_pages(broker: Any):
    await broker.send([job(f"j{n:03}", name=f"app:t{n % 2}") for n in range(40)])
    await broker.settle(
        W, [Settlement(each.id, each.claim, Failed(Reason.FAILED, b"e", NOW)) for each in await claim(broker)]
    )
    seen: list[str] = []
    before = None
    while page := await broker.find(JobFilter(status=JobStatus.DEAD, name="app:t1", limit=7, before=before)):
        seen += [view.id for view in page]
        before = (page[-1].created_at, page[-1].id)
    assert seen == [f"j{n:03}" for n in range(39, 0, -2)]
    assert await broker.count(JobFilter(status=JobStatus.DEAD, name="app:t1")) == 20
    assert [view.id for view in await broker.find(JobFilter(name="app:t0", limit=2))] == ["j038", "j036"]


# --- servers


async def test_prefixes_and_databases_are_apart(redis_server: str):
    one, other = fresh(redis_server), fresh(redis_server)
    heard: list[str] = []
    place, _, query = one.partition("?")
    async with opened(one) as first, opened(other) as second, opened(f"{place}/1?{query}") as third:
        for each in (second, third):
            await enlist(each, "w")
            await each.listen("hf_jobs", lambda *_: heard.append("told"))
        await first.send([job("a")])
        await first.notify({"hf_jobs": ""})
        for each in (second, third):
            assert await each.look([JobId("a")]) == []
        assert heard == []


async def test_a_server_that_has_forgotten_the_scripts_learns_them(own_server: Server):
    async with opened(own_server.url) as broker:
        await enlist(broker, "w")
        await broker.send([job("a")])
        own_server.client().script_flush()
        assert [each.id for each in await claim(broker)] == ["a"]


async def test_a_full_server_takes_nothing_new_and_drains(own_server: Server):
    client = own_server.client()
    async with opened(own_server.url) as broker:
        await enlist(broker, "w")
        await broker.send([job(f"j{n}") for n in range(100)])
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match="OOM"):
            await broker.send([job("more")])
        held = await claim(broker)
        await broker.settle(W, [done(each) for each in held])
        client.config_set("maxmemory", 0)
        assert await broker.send([job("more")]) == ["more"]
        assert len(held) == 100


async def test_a_replica_is_waited_for_until_it_is_none(own_server: Server):
    client = own_server.client()
    async with opened(own_server.url) as broker:
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="READONLY|MASTERDOWN"):
            await broker.send([job("a")])
        client.replicaof("NO", "ONE")
        assert await broker.send([job("a")]) == ["a"]


async def test_a_server_that_was_emptied_has_no_leases(own_server: Server):
    async with opened(own_server.url) as broker:
        await enlist(broker, "w")
        own_server.client().flushall()
        with pytest.raises(LeaseLost):
            await claim(broker)
        assert not (await broker.heartbeat(W, lease=10, now=NOW)).alive


async def test_passwords_are_asked_for_and_not_shown():
    with server("--save", "", "--requirepass", "secret word") as made:
        with pytest.raises(ConfigurationError, match="turns us away: NOAUTH"):
            await open_broker(made.url).home.open()
        wrong = made.url.replace("//", "//:mistaken@")
        with pytest.raises(ConfigurationError, match="turns us away") as caught:
            await open_broker(wrong).home.open()
        assert "mistaken" not in str(caught.value)
        async with opened(made.url.replace("//", "//default:secret%20word@")) as broker:
            assert await broker.send([job("a")]) == ["a"]


async def test_a_user_with_few_rights_is_enough(own_server: Server):
    rights = "~{holdfast}* resetchannels &{holdfast}* +@hash +@set +@sortedset +@string +@keyspace +@scripting +@pubsub"
    rights += " +info +ping +client|setname"
    own_server.client().execute_command("ACL", "SETUSER", "jobs", "on", ">secret", "-@all", *rights.split())
    async with opened(own_server.url.replace("//", "//jobs:secret@")) as broker:
        await enlist(broker, "w")
        await broker.listen("mine", lambda *_: None)
        await broker.wait_for_jobs(W, True)
        await broker.send([job("a", unique="u", waiter="me")])
        [held] = await claim(broker)
        await broker.cancel([held.id], now=NOW, keep_until=NOW)
        await broker.settle(W, [Settlement(held.id, held.claim, Again(NOW, b"e"))])
        await broker.heartbeat(W, lease=10, now=NOW)
        await broker.find(JobFilter())
        await broker.notify({"mine": "x"})
        await broker.retire(W, now=NOW)
        await broker.purge([held.id])
    async with opened(own_server.url) as other:
        assert await other.count(JobFilter()) == 0


async def test_who_needs_no_password_may_not_be_given_one(redis_server: str):
    if "@" in redis_server:
        pytest.skip("this server has one")
    with pytest.raises(ConfigurationError, match="turns us away"):
        await open_broker(redis_server.replace("//", "//:x@")).home.open()


async def test_a_socket_of_this_machine_will_do(tmp_path: Path):
    path = f"/tmp/hf_{os.getpid()}.sock"
    with server("--save", "", "--unixsocket", path):
        async with opened(f"redis+unix://{path}") as broker:
            assert await broker.send([job("a")]) == ["a"]


async def test_keys_of_a_later_release_are_left_alone(own_server: Server):
    own_server.client().set("{holdfast}:format", "2")
    with pytest.raises(SchemaError, match="upgrade Holdfast"):
        await open_broker(own_server.url).home.open()


async def test_nobody_there_is_told_as_such():
    with pytest.raises(StoreUnavailable, match="redis://127.0.0.1:1 cannot be reached now"):
        await open_broker("redis://user:secret@127.0.0.1:1").home.open()


def test_urls_are_read():
    address = parse("rediss://me:p%40ss@db.example:7000/3?prefix=shop&timeout=5")
    assert address.nodes == [("db.example", 7000)]
    assert (address.user, address.password, address.database, address.key) == ("me", "p@ss", 3, "{shop}")
    assert (address.timeout, address.tls is not None, address.cluster) == (5.0, True, False)
    assert "p@ss" not in repr(address)
    assert parse("redis://").nodes == [("localhost", 6379)]
    assert parse("redis://[::1]:7000").nodes == [("::1", 7000)]
    assert parse("redis+cluster://a:1,b").nodes == [("a", 1), ("b", 6379)]
    assert parse("redis+unix:///run/redis.sock?db=2").path == "/run/redis.sock"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/one", "a number, not 'one'"),
        ("redis+cluster://h/1", "no numbered databases"),
        ("redis+unix://", "names no socket"),
        ("redis://h:port", "is no server"),
        ("redis://a:1,b:2", "only redis\\+cluster"),
        ("redis://h?prefix={x}", "prefix='{x}' cannot be"),
        ("redis://h?timeout=never", "no number of seconds"),
        ("redis://h?speed=1", "no option speed"),
        ("rediss://h?ssl_cert_reqs=maybe", "required .the default. or none"),
        ("rediss://h?ssl_ca_certs=/nowhere", "certificates cannot be read"),
    ],
)
def test_wrong_urls_are_told(url: str, said: str):
    with pytest.raises(ConfigurationError, match=said):
        open_broker(url)
