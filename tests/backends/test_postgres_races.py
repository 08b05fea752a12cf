"""Races on PostgreSQL, each forced: one side holds its locks until the other is seen to wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests.backends.conftest import Bench
from tests.backends.making import (
    NOW,
    asleep,
    call,
    claim,
    commit,
    dismissal,
    ending,
    enlist,
    ids,
    look,
    message,
    owned,
    start,
    step,
)

from holdfast.backends.postgres.broker import _columns  # pyright: ignore[reportPrivateUsage]
from holdfast.backends.postgres.clients import delivery_columns, told_columns
from holdfast.backends.postgres.statements import Statement, statement
from holdfast.errors import LeaseLost
from holdfast.ids import InstanceId, JobId, WorkerId
from holdfast.model.instance import Park, Status
from holdfast.model.job import Done, Failed, Gate, Job, Reason, Settlement
from holdfast.ports import Settled


class Rival:
    """Another client's transaction, as slow as a test wants it."""

    def __init__(self, connection: Any, eye: Any) -> None:
        self._connection = connection
        self._eye = eye
        self._transaction = connection.transaction()

    async def begin(self, name: str | Statement, **values: Any) -> None:
        """Send a statement of the store's, and do not commit yet."""
        chosen = statement(name) if isinstance(name, str) else name
        await self._transaction.start()
        await self._connection.fetch(chosen.text, *chosen.arguments(values))

    async def then(self, name: str, **values: Any) -> None:
        chosen = statement(name)
        await self._connection.fetch(chosen.text, *chosen.arguments(values))

    async def blocks_someone(self, number: int = 1) -> None:
        """Return once so many wait for this transaction, or for one that waits for it."""
        me = self._connection.get_server_pid()
        while number > await self._eye.fetchval(
            "WITH RECURSIVE waiting AS (SELECT $1::int AS pid UNION SELECT a.pid FROM waiting w, pg_stat_activity a "
            "WHERE w.pid = ANY(pg_blocking_pids(a.pid))) SELECT count(*) - 1 FROM waiting",
            me,
        ):
            pass

    async def commit(self) -> None:
        await self._transaction.commit()


@pytest.fixture
async def rival(database: str) -> AsyncIterator[Rival]:
    connection, eye = await asyncpg.connect(database), await asyncpg.connect(database)
    try:
        yield Rival(connection, eye)
    finally:
        await connection.close()
        await eye.close()


@pytest.fixture
async def store(postgres_bench: Bench) -> Any:
    return await postgres_bench.store()


async def against(rival: Rival, work: Any) -> Any:
    """What `work` answers when it had to wait for `rival` to commit."""
    async with asyncio.timeout(20):
        task = asyncio.create_task(work)
        await rival.blocks_someone()
        await rival.commit()
        return await task


def delivering(*deliveries: Any) -> dict[str, Any]:
    return {**told_columns(deliveries), **delivery_columns(deliveries)}


async def test_a_release_that_waited_for_a_delivery_does_not_happen(store: Any, rival: Rival) -> None:
    await owned(store, "w", "a", "b")
    await rival.begin("deliver", **delivering(message("m", "a")))
    release = [commit("a", step(1), close=asleep()), commit("b", step(1), close=asleep())]
    done = await against(rival, store.commit("w", release))
    assert done.kept == {"a"}
    assert [each.id for each in await store.take_inbox("w")] == ["m"]
    assert (await look(store, "b")).owner is None


async def test_a_delivery_that_waited_for_a_release_wakes_the_sleeper(store: Any, rival: Rival) -> None:
    await owned(store, "w", "a")
    connection = rival._connection
    await rival._transaction.start()
    await connection.execute("UPDATE holdfast_instance SET owner = NULL, due_at = NULL WHERE id = 'a'")
    assert await against(rival, store.deliver([message("m", "a")])) == ["a"]
    assert (await look(store, "a")).due_at == NOW
    assert ids(await claim(store, "w")) == ["a"]


async def test_a_delivery_that_waited_for_an_ending_is_dropped(store: Any, rival: Rival) -> None:
    await owned(store, "w", "a")
    await rival._transaction.start()
    await rival._connection.execute("UPDATE holdfast_instance SET status = 'done', owner = NULL WHERE id = 'a'")
    assert await against(rival, store.deliver([message("m", "a")])) == []
    assert await rival._connection.fetchval("SELECT count(*) FROM holdfast_inbox") == 0


async def test_a_dismissal_that_waited_for_another_step_does_not_happen(store: Any, rival: Rival) -> None:
    """It was retried, went on and was parked again: what its caller had seen of it is not true any more."""
    await owned(store, "w", "a")
    await store.commit("w", [commit("a", step(1), close=Park(reason="x"))])
    await rival._transaction.start()
    await rival._connection.execute("UPDATE holdfast_instance SET claims = claims + 1 WHERE id = 'a'")
    await rival._connection.execute(
        f"INSERT INTO holdfast_journal VALUES (0, 'a', 2, {NOW}, false, 'a step between'::bytea)"
    )
    done = await against(rival, store.dismiss([dismissal("a", 2)]))
    assert done.lost == {"a"}
    assert (await look(store, "a")).status is Status.PARKED
    assert [each.seq for each in await store.history(InstanceId("a"))] == [0, 1, 2]


async def test_a_release_that_waited_sees_what_was_delivered_and_read_meanwhile(
    store: Any, postgres_bench: Bench, rival: Rival
) -> None:
    """Its snapshot is older than the row, and no flag is left for it to see: the count of deliveries tells."""
    other = await postgres_bench.store()
    await owned(store, "w", "a")
    await rival.begin("deliver", **delivering(message("m", "a")))
    async with asyncio.timeout(20):
        release = asyncio.create_task(store.commit("w", [commit("a", step(1), close=asleep())]))
        await rival.blocks_someone()
        await rival.commit()
        assert [each.id for each in await other.take_inbox("w")] == ["m"]
        assert (await release).kept == {"a"}


async def test_an_ending_that_waited_for_a_delivery_still_ends(store: Any, rival: Rival) -> None:
    await owned(store, "w", "a")
    await rival.begin("deliver", **delivering(message("m", "a")))
    await against(rival, store.commit("w", [commit("a", step(1), close=ending())]))
    assert (await look(store, "a")).status == Status.DONE
    # What slipped in goes with the instance.
    assert await store.delete([InstanceId("a")]) == ["a"]
    assert await rival._connection.fetchval("SELECT count(*) FROM holdfast_inbox") == 0


async def test_a_commit_that_waited_for_the_end_of_its_lease_writes_nothing(store: Any, rival: Rival) -> None:
    await owned(store, "w", "a")
    await rival.begin("bury", now=NOW + 99)
    await rival.then("recover_instances", worker="w", now=NOW + 99)
    with pytest.raises(LeaseLost):
        await against(rival, store.commit("w", [commit("a", step(1), starts=[start("child")])]))
    assert [each.seq for each in await store.history(InstanceId("a"))] == [0]
    assert await store.view([InstanceId("child")]) == []


async def test_a_claim_that_waited_for_the_end_of_its_lease_takes_nothing(store: Any, rival: Rival) -> None:
    await store.start([start("a")])
    await enlist(store, "w")
    await rival.begin("discharge", worker="w")
    with pytest.raises(LeaseLost):
        await against(rival, claim(store, "w"))
    assert (await look(store, "a")).owner is None


async def test_whoever_ends_a_lease_waits_for_the_claim_under_way_and_frees_what_it_took(
    store: Any, rival: Rival
) -> None:
    await store.start([start("a")])
    await enlist(store, "w")
    await enlist(store, "v", now=NOW + 99)
    values = {"queues": ["*"], "any_queue": True, "now": NOW, "room": 5, "ticket": 1}
    await rival.begin("claim", worker="w", **values)
    beat = await against(rival, store.heartbeat("v", lease=10, now=NOW + 99))
    assert beat.workers == 1
    assert (await look(store, "a")).owner is None
    assert ids(await claim(store, "v", now=NOW + 99)) == ["a"]


async def test_heartbeats_do_not_wait_for_a_commit_under_way(store: Any, rival: Rival) -> None:
    await owned(store, "w", "a")
    await rival._transaction.start()
    await rival._connection.execute("SELECT worker FROM holdfast_lease WHERE worker = 'w' FOR KEY SHARE")
    async with asyncio.timeout(5):
        assert (await store.heartbeat("w", lease=10, now=NOW)).alive
    await rival.commit()


async def test_claimers_pass_over_what_another_is_about_to_take(store: Any, rival: Rival) -> None:
    await store.start([start(f"i{number}", due_at=NOW - 9 + number) for number in range(4)])
    await enlist(store, "w")
    await enlist(store, "v")
    await rival.begin("claim", worker="v", queues=["*"], any_queue=True, now=NOW, room=2, ticket=1)
    async with asyncio.timeout(5):
        assert ids(await claim(store, "w")) == ["i2", "i3"]
    await rival.commit()
    assert (await look(store, "i0")).owner == "v"


async def test_an_ending_and_a_settlement_of_its_call_take_their_turns(postgres_bench: Bench) -> None:
    """They lock instance and call in one order, whoever comes first."""
    one, two = await postgres_bench.store(), await postgres_bench.store()
    names = [f"i{number}" for number in range(30)]
    await owned(one, "w1", *names)
    await one.commit("w1", [commit(name, step(1), spilled=[call("k", name)]) for name in names])
    await enlist(two, "w2")
    calls = (await claim(two, "w2")).calls
    assert len(calls) == 30
    settled = [Settled(call=each, delivery=message("r", each.instance)) for each in calls]
    async with asyncio.timeout(20):
        for half in (settled[:15], settled[15:]):
            await asyncio.gather(
                two.settle("w2", half),
                one.commit("w1", [commit(each.call.instance, step(2), close=ending()) for each in reversed(half)]),
            )
    assert {each.status for each in await one.view([InstanceId(name) for name in names])} == {Status.DONE}


def job(id: str, **fields: Any) -> Job:
    return Job(id=JobId(id), **({"name": "app:send", "payload": b"{}", "created_at": NOW, "due_at": NOW} | fields))


def sending(*jobs: Job) -> dict[str, Any]:
    return {"channel": "jobs", "first": True, **_columns(jobs)}


async def test_a_replay_that_waited_for_a_job_of_its_kind_leaves_that_alone(store: Any, rival: Rival) -> None:
    await enlist(store, "w")
    broker = store.broker()
    await broker.send([job("a", unique="one"), job("b")])
    held = (await broker.claim(WorkerId("w"), queues=["*"], room=9, now=NOW)).jobs
    dead = Failed(Reason.FAILED, b"null", NOW)
    await broker.settle(WorkerId("w"), [Settlement(each.id, each.claim, dead) for each in held])
    await rival.begin("send", **sending(job("c", unique="one")))
    assert await against(rival, broker.replay([JobId("a"), JobId("b")], now=NOW)) == ["b"]


async def test_senders_of_jobs_of_the_same_kinds_never_wait_in_a_circle(postgres_bench: Bench, rival: Rival) -> None:
    one, two = await postgres_bench.store(), await postgres_bench.store()
    await rival.begin("send", **sending(job("r", unique="middle")))
    before = one.statements + two.statements
    sends = [
        asyncio.create_task(store.broker().send(jobs))
        for store, jobs in (
            (one, [job("a", unique="x"), job("b", unique="middle"), job("c", unique="y")]),
            (two, [job("d", unique="y"), job("e", unique="middle"), job("f", unique="x")]),
        )
    ]
    async with asyncio.timeout(20):
        await rival.blocks_someone(2)
        await rival.commit()
        accepted = [id for ids in await asyncio.gather(*sends) for id in ids]
    assert len(accepted) == 2
    assert one.statements + two.statements == before + 2


async def test_settling_and_waiting_for_many_jobs_never_wait_in_a_circle(store: Any, rival: Rival) -> None:
    await enlist(store, "w")
    broker = store.broker()
    await broker.send([job("a"), job("b")])
    held = {each.id: each for each in (await broker.claim(WorkerId("w"), queues=["*"], room=9, now=NOW)).jobs}
    kept, gone = Done(b"1", NOW, NOW + 60), Done(b"1", NOW)
    before = store.statements
    await rival.begin("await_job", ids=["a"], waiter="someone")
    async with asyncio.timeout(20):
        settling = asyncio.create_task(
            broker.settle(
                WorkerId("w"), [Settlement(id, held[id].claim, end) for id, end in (("a", kept), ("b", gone))]
            )
        )
        await rival.blocks_someone()
        await rival.then("await_job", ids=["b"], waiter="someone")
        await rival.commit()
        answer = await settling
    assert (list(answer.lost), list(answer.waiters), store.statements) == ([], [("someone", "a")], before + 2)


async def test_what_a_claim_passes_over_because_somebody_asks_to_be_told_is_claimed_again(
    postgres_bench: Bench,
) -> None:
    """A claim leaves rows alone that change while it looks. Whoever changes one for his own sake says so."""
    store = await postgres_bench.store()
    broker = store.broker()
    await enlist(store, "w")
    heard: asyncio.Queue[str] = asyncio.Queue()
    for channel in ("hf_work", "hf_jobs"):
        await store.listen(channel, lambda channel, _: heard.put_nowait(channel))
    await store.start([start("a"), start("b")])
    await broker.send([job("j"), job("k")])
    await store.idle("w", True)
    await broker.wait_for_jobs("w", True)
    async with asyncio.timeout(10):
        await store.view(["a"], waiter="hf_c_x")
        assert await heard.get() == "hf_work"
        await broker.look(["j"], waiter="hf_c_x")
        assert await heard.get() == "hf_jobs"
        # Not where nothing changes, nor for what somebody has.
        await store.view(["a"], waiter="hf_c_x")
        await broker.look(["j"], waiter="hf_c_x")
        assert len((await claim(store, "w")).instances) == 2
        assert len((await broker.claim("w", queues=["*"], room=9, now=NOW)).jobs) == 2
        await store.view(["b"], waiter="hf_c_x")
        await broker.look(["k"], waiter="hf_c_x")
        await store.notify({"hf_work": "last"})
        assert await heard.get() == "hf_work"
    assert heard.empty()


async def test_recovery_comes_to_gates_before_jobs_as_settlements_do(store: Any, rival: Rival) -> None:
    worker = await enlist(store, "w")
    broker = store.broker()
    await broker.send([job("a", gate=Gate("g", 1)), job("b", gate=Gate("g", 1))])
    held = (await broker.claim(worker, queues=["*"], room=9, now=NOW)).jobs
    assert await broker.admit(worker, held, now=NOW) == ["a"]
    await broker.cancel([JobId("a")], now=NOW, keep_until=None)
    before = store.statements
    await rival.begin("lock_gates", gates=["g"])
    async with asyncio.timeout(20):
        leaving = asyncio.create_task(store.retire(worker, now=NOW))
        await rival.blocks_someone()
        await rival.then("await_job", ids=["a"], waiter="someone")
        await rival.commit()
        await leaving
    # None of them twice: its lease, instances, calls, the gates of its jobs, their locks, its bundles, the jobs, those let
    # through, a word.
    assert store.statements == before + 9
    other = await enlist(store, "v")
    assert [each.id for each in (await broker.claim(other, queues=["*"], room=9, now=NOW)).jobs] == ["b"]


async def test_a_job_whose_gate_is_not_locked_is_not_cancelled(store: Any, rival: Rival) -> None:
    """One that was sent, or replayed, after a cancel had asked for the gates of its jobs: that one came too early for it."""
    broker = store.broker()
    await broker.send([job("a", gate=Gate("g", 1)), job("b")])
    await rival.begin("cancel_jobs", ids=["a", "b"], gates=["another"], now=NOW, keep_until=None)
    await rival.commit()
    assert [view.status for view in await broker.look([JobId("a"), JobId("b")])] == ["queued", "cancelled"]
    await broker.cancel([JobId("a")], now=NOW, keep_until=None)
    assert [view.status for view in await broker.look([JobId("a")])] == ["cancelled"]
