"""Plain jobs on PostgreSQL: claimed into bundles, settled there, and unpacked for whoever asks for one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
from tests.backends.conftest import Bench
from tests.backends.making import NOW, enlist, job
from tests.backends.test_postgres_races import Rival, against, rival

from holdfast.backends.postgres.bundles import PLAIN_BYTES, unpacking
from holdfast.backends.postgres.line import Line
from holdfast.errors import LeaseLost, StoreUnavailable
from holdfast.ids import JobId
from holdfast.model.job import (
    Again,
    ClaimedJob,
    Done,
    Failed,
    Gate,
    JobFilter,
    JobStatus,
    Reason,
    Returned,
    Settlement,
)

__all__ = ["rival"]

GONE = Done(b"1", NOW)


@pytest.fixture
async def store(postgres_bench: Bench) -> Any:
    store = await postgres_bench.store()
    await enlist(store, "w")
    await enlist(store, "v")
    return store


@pytest.fixture
async def broker(store: Any) -> Any:
    return store.broker()


@pytest.fixture
async def eye(database: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def send(broker: Any, number: int, **fields: Any) -> list[str]:
    names = [f"j{n:03}" for n in range(number)]
    assert await broker.send([job(name, plain=True, **fields) for name in names]) == names
    return names


async def claim(broker: Any, worker: str = "w", room: int = 1000) -> list[ClaimedJob]:
    return list((await broker.claim(worker, queues=["*"], room=room, now=NOW)).jobs)


async def rows(eye: Any) -> list[str]:
    return [row["id"] for row in await eye.fetch("SELECT id FROM holdfast_job ORDER BY id")]


async def bundles(eye: Any) -> list[str]:
    return [row["gone"] for row in await eye.fetch("SELECT gone::text AS gone FROM holdfast_bundle ORDER BY ticket")]


async def status(broker: Any, id: str) -> JobStatus | None:
    views = await broker.look([JobId(id)])
    return views[0].status if views else None


def done(held: Sequence[ClaimedJob]) -> list[Settlement]:
    return [each.settled(GONE) for each in held]


async def test_a_claim_makes_a_bundle_that_its_settlements_empty(broker: Any, eye: Any) -> None:
    names = await send(broker, 30)
    held = await claim(broker)
    assert [each.id for each in held] == names
    assert (await rows(eye), await bundles(eye)) == ([], ["0" * 30])
    assert not (await broker.settle("w", done(held[3:10] + held[20:]))).lost
    assert await bundles(eye) == ["000" + "1" * 7 + "0" * 10 + "1" * 10]
    # Again, as after an answer that was lost.
    again = await broker.settle("w", done(held[:8]))
    assert again.lost == set(names[3:8])
    assert not (await broker.settle("w", done(held[10:20]))).lost
    assert (await rows(eye), await bundles(eye)) == ([], [])


async def test_settlements_of_several_bundles_and_of_rows_come_together(broker: Any, eye: Any) -> None:
    await send(broker, 10)
    first, second = await claim(broker, room=5), await claim(broker, room=5)
    await broker.send([job("row", payload=b"-")])
    [row] = await claim(broker)
    assert row.receipt is None
    answer = await broker.settle("w", done([*second, row, *first[:2]]))
    assert not answer.lost
    assert (await rows(eye), await bundles(eye)) == ([], ["11000"])


async def test_what_stays_gets_a_row(broker: Any, eye: Any) -> None:
    await send(broker, 6)
    held = await claim(broker)
    outcomes = [
        GONE,
        Again(NOW + 5, b"e"),
        Failed(Reason.FAILED, b"e", NOW),
        Returned(NOW),
        Done(b"1", NOW, NOW + 9),
        GONE,
    ]
    answer = await broker.settle("w", [each.settled(outcome) for each, outcome in zip(held, outcomes, strict=True)])
    assert not answer.lost
    assert await rows(eye) == ["j001", "j002", "j003", "j004"]
    assert await bundles(eye) == []
    views = {view.id: view for view in await broker.look([each.id for each in held])}
    assert [views[JobId(id)].status for id in ("j001", "j002", "j003", "j004")] == [
        JobStatus.QUEUED,
        JobStatus.DEAD,
        JobStatus.QUEUED,
        JobStatus.DONE,
    ]
    assert views[JobId("j001")].attempt == 2
    [again] = await claim(broker, "v")
    assert (again.id, again.attempt, again.claim, again.receipt) == ("j003", 1, 2, None)


async def test_what_follows_comes_from_those_alone_that_were_settled_now(broker: Any, eye: Any) -> None:
    await send(broker, 3)
    held = await claim(broker)
    await broker.settle("w", [held[0].settled(GONE)])
    answer = await broker.settle("w", [each.settled(GONE, [job(f"after {each.id}")]) for each in held])
    assert answer.lost == {"j000"}
    assert await rows(eye) == ["after j001", "after j002"]


async def test_only_small_calls_that_nobody_may_ask_for_are_bundled(broker: Any, eye: Any) -> None:
    fields: list[dict[str, Any]] = [
        {"payload": b"x" * (PLAIN_BYTES + 1)},
        {"unique": "u"},
        {"expires_at": NOW + 9},
        {"waiter": "c"},
        {"gate": Gate("g", limit=1)},
        {"plain": False},
    ]
    await broker.send([job(f"row{n}", **({"plain": True} | each)) for n, each in enumerate(fields)])
    await broker.send([job("bundled", plain=True, payload=b"x" * PLAIN_BYTES)])
    held = await claim(broker)
    assert len(held) == 7
    assert [each.id for each in held if each.receipt is not None] == ["bundled"]
    assert await rows(eye) == [f"row{n}" for n in range(6)]


async def test_whoever_waits_for_one_is_told_of_its_end(broker: Any, eye: Any) -> None:
    await send(broker, 3)
    held = await claim(broker)
    [view] = await broker.look([JobId("j001")], waiter="c1")
    assert (view.status, view.owner) == (JobStatus.RUNNING, "w")
    assert (await rows(eye), await bundles(eye)) == (["j001"], ["010"])
    answer = await broker.settle("w", done(held))
    assert (answer.lost, list(answer.waiters)) == (set(), [("c1", "j001")])
    assert (await rows(eye), await bundles(eye)) == ([], [])


async def test_whoever_waits_for_one_that_is_queued_is_told_too(broker: Any, eye: Any) -> None:
    await send(broker, 3)
    await broker.look([JobId("j001"), JobId("j002")], waiter="c1")
    held = await claim(broker)
    assert (await rows(eye), await bundles(eye)) == (["j001", "j002"], ["0"])
    outcomes = [GONE, GONE, Failed(Reason.FAILED, b"e", NOW)]
    answer = await broker.settle("w", [each.settled(outcome) for each, outcome in zip(held, outcomes, strict=True)])
    assert set(answer.waiters) == {("c1", "j001"), ("c1", "j002")}


async def test_whoever_waits_for_one_that_is_unpacked_meanwhile_is_told(
    broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(broker, 1)
    held = await claim(broker)
    once = broker._await

    async def late(*args: Any) -> None:
        await once(*args)
        monkeypatch.setattr(broker, "_await", once)
        await broker._unpack(["j000"])

    monkeypatch.setattr(broker, "_await", late)
    await broker.look([JobId("j000")], waiter="c1")
    assert list((await broker.settle("w", done(held))).waiters) == [("c1", "j000")]


async def test_one_whose_id_was_taken_meanwhile_stays_in_its_bundle(broker: Any, eye: Any) -> None:
    await send(broker, 2)
    held = await claim(broker)
    await broker.send([job("j001")])
    assert (await broker.cancel([JobId("j001")], now=NOW, keep_until=None)).ended == ["j001"]
    assert await bundles(eye) == ["00"]
    assert not (await broker.settle("w", done(held))).lost


async def test_one_that_is_cancelled_while_it_runs_is_unwanted(broker: Any, eye: Any) -> None:
    names = await send(broker, 3)
    held = await claim(broker)
    assert await broker.unwanted("w", [*names, JobId("other")]) == ["other"]
    answer = await broker.cancel([JobId("j000"), JobId("other")], now=NOW, keep_until=NOW + 5)
    assert (answer.asked, answer.ended) == (["j000"], [])
    assert await broker.unwanted("w", names) == ["j000"]
    assert not (await broker.settle("w", [held[0].settled(Again(NOW, b"e")), *done(held[1:])])).lost
    assert await status(broker, "j000") is JobStatus.CANCELLED


async def test_progress_is_kept_of_one_that_is_bundled(broker: Any) -> None:
    await send(broker, 2)
    await claim(broker)
    for said in (b"half", b"more"):
        await broker.report("w", {JobId("j001"): said})
        [view] = await broker.look([JobId("j001")])
        assert (view.progress, view.status) == (said, JobStatus.RUNNING)
    await broker.report("v", {JobId("j000"): b"of another's"})
    [view] = await broker.look([JobId("j000")])
    assert view.progress is None


async def test_progress_is_kept_of_one_that_was_unpacked_meanwhile(
    broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(broker, 2)
    await claim(broker)
    unpack = broker._unpack

    async def late(ids: Sequence[str], **where: Any) -> Any:
        await unpack(ids)
        return await unpack(ids, **where)

    monkeypatch.setattr(broker, "_unpack", late)
    await broker.report("w", {JobId("j001"): b"half"})
    [view] = await broker.look([JobId("j001")])
    assert view.progress == b"half"


async def test_bundled_jobs_are_listed_and_counted_as_those_that_run(store: Any, broker: Any) -> None:
    await send(broker, 4)
    await claim(broker, room=3)
    for filter, number in [
        (JobFilter(status=JobStatus.RUNNING), 3),
        (JobFilter(status=JobStatus.QUEUED), 1),
        (JobFilter(), 4),
        (JobFilter(name="app:send", queue="default"), 4),
        (JobFilter(queue="other"), 0),
        (JobFilter(ids=[JobId("j000")]), 1),
    ]:
        assert (await broker.count(filter), len(await broker.find(filter))) == (number, number)
    [depth] = await broker.depths(now=NOW, most=100)
    assert (depth.waiting, depth.running) == (1, 3)
    assert {each.id: each.owned for each in await store.workers(now=NOW)} == {"w": 3, "v": 0}


@pytest.mark.parametrize("lost", [True, False])
async def test_what_a_worker_held_in_bundles_goes_to_others(store: Any, broker: Any, eye: Any, lost: bool) -> None:
    names = await send(broker, 5)
    held = await claim(broker)
    await broker.settle("w", done(held[1:2]))
    await broker.look([JobId("j002")], waiter="c")
    if lost:
        await eye.execute("UPDATE holdfast_lease SET expires_at = $1 WHERE worker = 'w'", NOW - 1)
        await store.heartbeat("v", lease=10, now=NOW)
    else:
        await store.retire("w", now=NOW)
    assert (await rows(eye), await bundles(eye)) == ([names[0], *names[2:]], [])
    with pytest.raises(LeaseLost):
        await broker.settle("w", done(held[3:]))
    taken = await claim(broker, "v")
    assert {(each.id, each.claim, each.losses, each.receipt) for each in taken} == {
        (name, 2, int(lost), None) for name in (names[0], *names[2:])
    }


async def test_a_claim_whose_answer_was_lost_is_answered_by_the_next(
    broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await send(broker, 3)
    await broker.send([job("row", due_at=NOW - 1)])
    whole = Line.fetch_once

    async def broken(self: Line, name: Any, /, **values: Any) -> Any:
        await whole(self, name, **values)
        raise StoreUnavailable("the answer is lost")

    with monkeypatch.context() as patch:
        patch.setattr(Line, "fetch_once", broken)
        with pytest.raises(StoreUnavailable):
            await claim(broker)
    held = await claim(broker)
    assert [each.id for each in held] == ["row", *names]
    assert not (await broker.settle("w", done(held))).lost


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("number", [1, 3])
async def test_a_sending_whose_answer_was_lost_makes_no_second_job_of_one_that_runs(
    broker: Any, eye: Any, monkeypatch: pytest.MonkeyPatch, number: int, repeated: bool
) -> None:
    whole = Line.fetch_once
    held: list[ClaimedJob] = []

    async def broken(self: Line, name: Any, /, **values: Any) -> Any:
        found = await whole(self, name, **values)
        if name in ("send", "send_new", "send_alike"):
            if not held:
                monkeypatch.setattr(Line, "fetch_once", whole)
                held.extend(await claim(broker))
                monkeypatch.setattr(Line, "fetch_once", broken)
            raise StoreUnavailable("the answer is lost")
        return found

    monkeypatch.setattr(Line, "fetch_once", broken)
    jobs = [job(f"j{n}", plain=True) for n in range(number)]
    if repeated:
        # Nor did the second try tell what it did.
        with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
            patch.setattr(Line, "fetch", broken)
            await broker.send(jobs)
    assert await broker.send(jobs) == []
    assert len(held) == number
    assert await rows(eye) == []
    assert not (await broker.settle("w", done(held))).lost


@pytest.mark.parametrize("fails", [2, 3])
async def test_a_settlement_that_fails_half_way_is_finished_by_the_next_one(
    broker: Any, eye: Any, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    await send(broker, 3)
    await broker.send([job("row", payload=b"-"), job("told", waiter="c"), job("stays")])
    held = await claim(broker)
    outcomes: dict[str, Any] = {"stays": Again(NOW, b"e")}
    settlements = [each.settled(outcomes.get(each.id, GONE)) for each in held]
    part, count = broker._settle_part, 1

    async def failing(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == fails:
            raise StoreUnavailable("gone for a moment")
        return await part(*args)

    monkeypatch.setattr(broker, "_settle_part", failing)
    with pytest.raises(StoreUnavailable):
        await broker.settle("w", settlements)
    assert await bundles(eye) == []
    answer = await broker.settle("w", settlements)
    assert (answer.lost, list(answer.waiters)) == (set(), [("c", "told")])
    assert await rows(eye) == ["stays"]
    assert (await broker.settle("w", settlements)).lost == {each.id for each in held}
    assert broker._written == {}


# --- races


async def test_a_settlement_that_waited_for_an_unpacking_settles_the_row(broker: Any, eye: Any, rival: Rival) -> None:
    await send(broker, 3)
    held = await claim(broker)
    await rival.begin(unpacking(False, False), ids=["j001"])
    answer = await against(rival, broker.settle("w", done(held)))
    assert not answer.lost
    assert (await rows(eye), await bundles(eye)) == ([], [])


async def test_an_unpacking_that_waited_for_a_settlement_finds_nothing(broker: Any, eye: Any, rival: Rival) -> None:
    await send(broker, 3)
    held = await claim(broker)
    ticket, _, size = held[1].receipt or (0, 0, 0)
    await rival._transaction.start()
    await rival._connection.execute(
        "UPDATE holdfast_bundle SET gone = set_bit(gone::bit varying, 1, 1) WHERE ticket = $1", ticket
    )
    assert size == 3
    answer = await against(rival, broker.cancel([JobId("j001")], now=NOW, keep_until=None))
    assert (answer.asked, answer.ended) == ([], [])
    assert (await rows(eye), await bundles(eye)) == ([], ["010"])


async def test_recovery_that_waited_for_an_unpacking_takes_the_row_too(
    store: Any, broker: Any, eye: Any, rival: Rival
) -> None:
    names = await send(broker, 3)
    await claim(broker)
    await rival.begin(unpacking(False, False), ids=["j001"])
    await against(rival, store.retire("w", now=NOW))
    assert (await rows(eye), await bundles(eye)) == (names, [])
    assert {each.id for each in await claim(broker, "v")} == set(names)


async def test_a_cancel_that_waited_for_recovery_cancels_what_is_queued_again(
    store: Any, broker: Any, eye: Any, rival: Rival
) -> None:
    await send(broker, 3)
    await claim(broker)
    await rival.begin("discharge", worker="w")
    await rival.then("recover_bundles", worker="w", now=NOW, lost=1)
    answer = await against(rival, broker.cancel([JobId("j001")], now=NOW, keep_until=NOW + 5))
    assert (answer.asked, answer.ended) == ([], ["j001"])
    assert {each.id for each in await claim(broker, "v")} == {"j000", "j002"}


async def test_many_that_unpack_and_settle_at_once_lose_nothing(store: Any, broker: Any, eye: Any) -> None:
    names = await send(broker, 200)
    held = await claim(broker, room=67) + await claim(broker, room=67) + await claim(broker)

    async def settle() -> int:
        lost = 0
        for start in range(0, 200, 9):
            lost += len((await broker.settle("w", done(held[start : start + 9]))).lost)
        return lost

    async def ask(step: int) -> None:
        for start in range(0, 200, step):
            await broker.look([JobId(id) for id in names[start : start + 5]], waiter=f"c{step}")

    async with asyncio.timeout(60):
        lost, *_ = await asyncio.gather(settle(), ask(7), ask(11), ask(13))
    assert lost == 0
    assert (await rows(eye), await bundles(eye)) == ([], [])
