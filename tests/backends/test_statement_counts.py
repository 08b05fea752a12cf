"""How many statements each verb sends: round trips are what a remote database charges for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from tests.backends.conftest import Bench
from tests.backends.making import (
    NOW,
    asleep,
    call,
    claim,
    commit,
    ending,
    enlist,
    job,
    message,
    owned,
    start,
    step,
)

from holdfast.ids import InstanceId, JobId
from holdfast.model.instance import InstanceFilter
from holdfast.model.job import Again, ClaimedJob, Done, Failed, Gate, Reason, Settlement
from holdfast.ports import Settled


async def sent(store: Any, work: Awaitable[Any]) -> int:
    before = store.statements
    await work
    return store.statements - before


@pytest.fixture
async def store(postgres_bench: Bench) -> Any:
    return await postgres_bench.store()


async def test_clients_send_one_statement_a_verb(store: Any) -> None:
    await store.start([start("warm")])
    assert await sent(store, store.start([start(f"i{number}") for number in range(50)])) == 1
    assert await sent(store, store.deliver([message("m", "i1"), message("n", "i2")])) == 1
    assert await sent(store, store.view([InstanceId("i1")])) == 1
    assert await sent(store, store.view([InstanceId("i1")], waiter="ch")) == 2
    assert await sent(store, store.find(InstanceFilter(name="x"))) == 1
    assert await sent(store, store.count(InstanceFilter())) == 1
    assert await sent(store, store.tally()) == 1
    assert await sent(store, store.broker().depths(now=NOW, most=10)) == 1
    assert await sent(store, store.history(InstanceId("i1"))) == 1
    assert await sent(store, store.delete([InstanceId("i1")])) == 1
    assert await sent(store, store.start([])) == 0


async def test_a_start_notifies_only_while_somebody_idles(store: Any) -> None:
    await enlist(store, "w")
    heard: asyncio.Queue[str] = asyncio.Queue()
    await store.listen("hf_work", lambda channel, _: heard.put_nowait(channel))
    await store.listen("afterwards", lambda channel, _: heard.put_nowait(channel))
    await store.idle("w", True)
    assert await sent(store, store.start([start("a")])) == 1
    assert await heard.get() == "hf_work"
    # What is there already wakes nobody.
    await store.start([start("a")])
    await store.idle("w", False)
    assert await sent(store, store.start([start("b")])) == 1
    await store.notify({"afterwards": ""})
    assert await heard.get() == "afterwards"


async def test_a_workers_day_is_cheap(store: Any) -> None:
    await enlist(store, "w")
    assert await sent(store, claim(store, "w")) == 1
    assert await sent(store, store.take_inbox("w")) == 1
    assert await sent(store, store.heartbeat("w", lease=10, now=NOW)) == 1
    await store.start([start("a"), start("b"), start("c")])
    assert await sent(store, claim(store, "w")) == 1
    batch = [
        commit("a", step(1), spilled=[call("k", "a")], starts=[start("kid")], deliveries=[message("m", "b")]),
        commit("b", step(1, full=True), recalled=["x"], consumed=["y"], trim_below=0),
        commit("c", step(1), close=asleep(NOW)),
    ]
    assert await sent(store, store.commit("w", batch)) == 1
    # A call is there to be claimed, and the sleeper's journal to be read.
    assert await sent(store, claim(store, "w")) == 3
    assert await sent(store, store.take_inbox("w")) == 1
    assert await sent(store, store.settle("w", [Settled(call=call("k", "a"), delivery=message("r", "a"))])) == 1
    assert await sent(store, store.commit("w", [commit("c", step(2), close=ending())])) == 1
    assert await sent(store, store.retire("w", now=NOW)) == 7


async def test_jobs_cost_a_statement_for_each_batch(store: Any) -> None:
    await enlist(store, "w")
    broker = store.broker()
    assert await sent(store, broker.send([job(f"j{number}", unique=f"u{number}") for number in range(1000)])) == 1
    before = store.statements
    held = (await broker.claim("w", queues=["*"], room=500, now=NOW)).jobs
    assert store.statements - before == 1
    assert len(held) == 500
    outcomes = [Done(b"1", NOW), Done(b"1", NOW, NOW), Again(NOW, b"e"), Failed(Reason.FAILED, b"e", NOW)]
    settlements = [
        Settlement(each.id, each.claim, outcomes[number % 4], [job(f"after{number}")])
        for number, each in enumerate(held)
    ]
    gone = [each for each in settlements if each.outcome == outcomes[0]]
    assert await sent(store, broker.settle("w", gone[:50])) == 1
    # Those of which nothing remains, and the others.
    assert await sent(store, broker.settle("w", settlements[200:])) == 2
    assert await sent(store, broker.settle("w", [])) == 0
    assert await sent(store, broker.look([JobId("j1")])) == 1
    assert await sent(store, broker.unwanted("w", [JobId("j1")])) == 1
    assert await sent(store, broker.replay([JobId("j3")], now=NOW)) == 1
    # Whether any has a gate is asked first; the workers of those that run are told.
    assert await sent(store, broker.cancel([JobId("j999")], now=NOW, keep_until=None)) == 2


async def test_plain_jobs_cost_one_row_for_each_claim(store: Any) -> None:
    await enlist(store, "w")
    broker = store.broker()
    names = [JobId(f"j{number:03}") for number in range(900)]
    assert await sent(store, broker.send([job(name, plain=True) for name in names])) == 1
    held: list[ClaimedJob] = []
    for _ in range(3):
        before = store.statements
        held += (await broker.claim("w", queues=["*"], room=300, now=NOW)).jobs
        assert store.statements - before == 1
    gone = [
        each.settled(Done(b"1", NOW), [job(f"after{each.id}")] if number % 2 else ())
        for number, each in enumerate(held)
    ]
    assert await sent(store, broker.settle("w", gone[:500])) == 1
    # One that stays is unpacked first.
    assert await sent(store, broker.settle("w", [*gone[500:700], held[700].settled(Again(NOW, b"e"))])) == 3
    assert await sent(store, broker.look([names[1]])) == 1
    assert await sent(store, broker.look([names[701]], waiter="c")) == 5
    assert await sent(store, broker.look([names[701]], waiter="c")) == 2
    assert await sent(store, broker.report("w", {names[702]: b"half"})) == 3
    assert await sent(store, broker.report("w", {names[702]: b"more"})) == 1


async def test_gates_cost_a_few_statements_for_each_batch(store: Any) -> None:
    await enlist(store, "w")
    broker = store.broker()
    kinds = [Gate("key", limit=1), Gate("rate", interval=1.0), None]
    assert await sent(store, broker.send([job(f"j{n:03}", gate=kinds[n % 3]) for n in range(600)])) == 1
    held = (await broker.claim("w", queues=["*"], room=600, now=NOW)).jobs
    # Locked, looked at, passed or sent back, and the rates kept.
    assert await sent(store, broker.admit("w", held, now=NOW)) == 4
    first = next(each for each in held if each.gate == kinds[0])
    done = [Settlement(each.id, each.claim, Done(b"1", NOW)) for each in held if each.gate is None]
    assert await sent(store, broker.settle("w", done)) == 1
    # The gate is locked, and the next job let through.
    assert await sent(store, broker.settle("w", [Settlement(first.id, first.claim, Done(b"1", NOW), (), "key")])) == 3


async def test_only_a_heartbeat_that_finds_a_dead_worker_does_more(store: Any) -> None:
    await owned(store, "w", "a")
    await enlist(store, "v", now=NOW + 60)
    assert await sent(store, store.heartbeat("v", lease=10, now=NOW + 60)) == 8
    assert await sent(store, store.heartbeat("v", lease=10, now=NOW + 61)) == 1


async def test_an_idle_claim_on_sqlite_is_one_read(tmp_path: Any) -> None:
    from holdfast.backends import open_store

    store: Any = open_store(f"sqlite:///{tmp_path}/a.db")
    await store.open()
    try:
        await enlist(store, "w")
        await store.start([start(f"i{number}", due_at=NOW + 60, priority=number % 3) for number in range(50)])
        assert await sent(store, claim(store, "w")) == 1
        assert await sent(store, store.take_inbox("w")) == 1
        await store.start([start("a")])
        await claim(store, "w")
        assert await sent(store, store.commit("w", [commit("a", step(1))])) == 3
    finally:
        await store.close()
