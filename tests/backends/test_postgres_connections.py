"""PostgreSQL connections: how many, what happens when they break, and what a URL may say."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from tests.backends.conftest import Bench
from tests.backends.making import NOW, claim, commit, ending, enlist, ids, job, message, owned, start, step
from tests.servers import Postgres

from holdfast.backends import open_store
from holdfast.backends.postgres.statements import statement
from holdfast.backends.postgres.upkeep import LATEST
from holdfast.errors import ConfigurationError, SchemaError, StoreUnavailable
from holdfast.ids import InstanceId


@pytest.fixture
async def store(postgres_bench: Bench) -> Any:
    return await postgres_bench.store()


def with_option(url: str, option: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{option}"


async def ask(url: str, question: str, *values: Any) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question, *values)
    finally:
        await connection.close()


async def cut(url: str) -> None:
    """End all connections of stores to this database, from the server's side."""
    await ask(
        url,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'holdfast'",
    )


async def connections(url: str) -> int:
    return await ask(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'holdfast'",
    )


async def test_a_worker_has_at_most_three_connections(store: Any, database: str) -> None:
    assert await connections(database) == 1
    await owned(store, "w", "a")
    await store.listen("hf_w_w", lambda channel, text: None)
    await asyncio.gather(
        *(store.commit("w", [commit("a", step(seq))]) for seq in range(1, 20)),
        *(claim(store, "w") for _ in range(20)),
        *(store.view([InstanceId("a")]) for _ in range(20)),
        store.heartbeat("w", lease=10, now=NOW),
    )
    counted: list[int] = []

    async def beat() -> None:
        await store.heartbeat("w", lease=10, now=NOW)
        counted.append(await connections(database))
        await store.close_thread()

    thread = threading.Thread(target=lambda: asyncio.run(beat()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert counted == [3]


CLAIM = {"worker": "w", "now": NOW, "queues": ["*"], "any_queue": True, "room": 1, "ticket": 1}


@pytest.mark.parametrize(
    ("name", "values", "waits"),
    [
        ("claim", CLAIM, "off"),
        ("claim_calls", CLAIM, "off"),
        ("claim_jobs", CLAIM, "off"),
        ("idle", {"worker": "w", "idle": True}, "off"),
        ("wait_for_jobs", {"worker": "w", "waits": True}, "off"),
        ("await_job", {"ids": ["j"], "waiter": "hf_c_1"}, "off"),
        ("beat", {"worker": "w", "now": NOW, "expires_at": NOW + 10, "lease": 10.0}, "on"),
        ("await_ending", {"ids": ["i"], "waiter": "hf_i_parent"}, "on"),
    ],
)
async def test_only_what_may_be_lost_with_the_server_does_not_wait_for_the_disk(
    store: Any, database: str, name: str, values: dict[str, Any], waits: str
) -> None:
    await enlist(store, "w")
    await store.start([start("i")])
    await store.broker().send([job("j")])
    connection = await asyncpg.connect(database)
    try:
        chosen = statement(name)
        async with connection.transaction():
            await connection.fetch(chosen.text, *chosen.arguments(values))
            assert await connection.fetchval("SHOW synchronous_commit") == waits
        # What comes next over this connection waits again.
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await connection.close()


async def test_every_verb_survives_a_broken_connection(store: Any, database: str) -> None:
    await owned(store, "w", "a")
    verbs: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.start([start("b")]),
        lambda: store.deliver([message("m", "a")]),
        lambda: store.commit("w", [commit("a", step(1))]),
        lambda: store.heartbeat("w", lease=10, now=NOW),
        lambda: store.view([InstanceId("a")]),
        lambda: store.take_inbox("w"),
        lambda: store.notify({"x": ""}),
        lambda: claim(store, "w"),
        lambda: store.retire("w", now=NOW),
    ]
    answers: list[Any] = []
    for verb in verbs:
        await cut(database)
        answers.append(await verb())
    assert answers[0] == ["b"]
    assert [each.id for each in answers[5]] == ["m"]
    assert ids(answers[7]) == ["b"]


async def test_a_listener_is_woken_and_listens_on_after_a_break(store: Any, database: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await store.listen("mine", lambda channel, _: heard.put_nowait(channel))
    await cut(database)
    async with asyncio.timeout(10):
        # The next statement finds out, listens again, and says that something may have been missed.
        await store.view([])
        assert await heard.get() == "mine"
        await ask(database, "SELECT pg_notify('mine', '')")
        assert await heard.get() == "mine"


async def test_a_claim_whose_answer_got_lost_is_found_again(store: Any) -> None:
    await store.start([start(f"i{number}") for number in range(3)])
    await enlist(store, "w")
    reader = store._reader
    send = reader._send

    async def deaf(name: Any, values: Any) -> Any:
        rows = await send(name, values)
        if name == "claim":
            reader._send = send
            raise ConnectionResetError("gone before the answer came")
        return rows

    reader._send = deaf
    claims = await claim(store, "w")
    assert sorted(ids(claims)) == ["i0", "i1", "i2"]
    assert [len(each.steps) for each in claims.instances] == [1, 1, 1]


async def test_a_cancelled_claim_is_handed_over_by_the_next(store: Any) -> None:
    await store.start([start("a")])
    await enlist(store, "w")
    reader = store._reader
    send = reader._send

    async def slow(name: Any, values: Any) -> Any:
        rows = await send(name, values)
        if name == "claim":
            reader._send = send
            raise asyncio.CancelledError
        return rows

    reader._send = slow
    with pytest.raises(asyncio.CancelledError):
        await claim(store, "w")
    assert ids(await claim(store, "w")) == ["a"]
    assert ids(await claim(store, "w")) == []


async def test_a_server_that_is_not_there_is_reported_as_unavailable() -> None:
    store = open_store("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable, match="127.0.0.1:1/none"):
        await store.open()


async def test_a_database_that_is_not_there_is_a_wrong_setting(postgres: Postgres) -> None:
    store = open_store(postgres.url("no_such_database"))
    with pytest.raises(ConfigurationError, match="no_such_database"):
        await store.open()


async def test_a_closed_store_says_so_and_can_be_opened_again(store: Any) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.view([])
    await store.open()
    assert await store.view([]) == []


async def test_many_stores_may_open_a_new_database_at_once(postgres: Postgres) -> None:
    url = await postgres.empty_database()
    stores = [open_store(url) for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    assert await stores[3].start([start("a")]) == ["a"]
    await asyncio.gather(*(store.close() for store in stores))
    assert await ask(url, "SELECT max(version) FROM holdfast_schema") == LATEST


async def test_a_newer_schema_is_refused_in_words(database: str) -> None:
    await ask(database, "INSERT INTO holdfast_schema VALUES (99, 0) RETURNING 1")
    with pytest.raises(SchemaError, match="99.*upgrade Holdfast"):
        await open_store(database).open()


async def test_a_schema_of_its_own_keeps_two_stores_apart(database: str) -> None:
    one, two = (
        open_store(with_option(database, "schema=one")),
        open_store(with_option(database, "schema=two")),
    )
    for store in (one, two):
        await store.open()
    assert await one.start([start("a")]) == ["a"]
    assert await two.start([start("a")]) == ["a"]
    assert await two.start([start("b")]) == ["b"]
    assert [each.id for each in await one.view([InstanceId("a"), InstanceId("b")])] == ["a"]
    for store in (one, two):
        await store.close()


async def test_behind_a_pooler_words_for_workers_are_kept_and_channels_of_clients_are_not(database: str) -> None:
    store: Any = open_store(with_option(database, "pgbouncer=true"))
    await store.open()
    try:
        await owned(store, "w", "a")
        await store.view(["a"], waiter="hf_c_somebody")
        await store.view(["a"], waiter="hf_i_parent:3")
        done = await store.commit("w", [commit("a", step(1), close=ending())])
        assert list(done.waiters) == [("hf_i_parent:3", "a")]
    finally:
        await store.close()


async def test_a_pooled_store_does_without_listening_and_prepared_statements(database: str) -> None:
    store: Any = open_store(with_option(database, "pgbouncer=true"))
    await store.open()
    assert not store.traits.notifies
    stop = await store.listen("mine", lambda channel, text: None)
    await owned(store, "w", "a")
    await store.idle("w", True)
    await store.start([start("b")])
    await store.notify({"mine": ""})
    await store.commit("w", [commit("a", step(1, full=True))])
    assert ids(await claim(store, "w")) == ["b"]
    await stop()
    prepared = await store._reader._connection.fetchval("SELECT count(*) FROM pg_prepared_statements")
    assert prepared == 0
    await store.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://h/d?pgbouncer=maybe", "true or false"),
        ("postgresql://h/d?schema=Robert'); DROP", "lower case"),
        ("postgresql://h/d?schema=a&pgbouncer=true", "search_path"),
        ("postgresql://h/d?timeout=soon", "seconds"),
        ("mongodb://h/d", "no store speaks mongodb"),
        ("jobs.db", "not a database URL"),
        ("sqlite:///", "names no file"),
        ("sqlite://jobs.db", "names no file"),
        ("sqlite:///jobs.db?synchronous=off", "full .* or normal"),
        ("sqlite:///jobs.db?cache=1", "no option cache"),
    ],
)
def test_a_wrong_url_is_refused_in_words(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        open_store(url)


def test_a_missing_driver_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module in [each for each in sys.modules if each.startswith("holdfast.backends.postgres")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'holdfast\[postgres\]'"):
        open_store("postgres://localhost/jobs")


def test_messages_never_show_a_password() -> None:
    from holdfast.backends.postgres.address import parse

    assert parse("postgresql://user:secret@host:5432/jobs?sslmode=require").shown == "postgresql://host:5432/jobs"
