"""Gates, on brokers that have them: so many jobs of one gate run at once and begin in a time, in the order of sending."""

from __future__ import annotations

from typing import Any

import pytest
from tests.backends.conftest import Bench, broker_of
from tests.backends.making import NOW, enlist, job

from holdfast.errors import LeaseLost
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import (
    Again,
    ClaimedJob,
    Done,
    Failed,
    Gate,
    JobFilter,
    JobStatus,
    QueueDepth,
    Reason,
)

pytestmark = pytest.mark.parametrize("jobs_bench", ["file", "memory", "postgres", "redis", "cluster"], indirect=True)
"""Those whose traits say that they keep gates."""

LATER = NOW + 1000
ONE = Gate("one", limit=1)


@pytest.fixture
async def home(jobs_bench: Bench) -> Any:
    return await jobs_bench.store()


@pytest.fixture
async def broker(home: Any) -> Any:
    await enlist(home, "w")
    await enlist(home, "v")
    return broker_of(home)


async def send(broker: Any, names: str, gate: Gate = ONE, **fields: Any) -> None:
    await broker.send([job(name, gate=gate, created_at=NOW + at / 100, **fields) for at, name in enumerate(names)])


async def claim(broker: Any, worker: str = "w", *, now: float = NOW + 1, room: int = 100) -> list[ClaimedJob]:
    return list((await broker.claim(WorkerId(worker), queues=["*"], room=room, now=now)).jobs)


async def admit(broker: Any, jobs: list[ClaimedJob], worker: str = "w", *, now: float = NOW + 1) -> str:
    return "".join(sorted(await broker.admit(WorkerId(worker), jobs, now=now)))


async def enter(broker: Any, worker: str = "w", *, now: float = NOW + 1, room: int = 100) -> dict[str, ClaimedJob]:
    """What is claimed, and may run."""
    claimed = await claim(broker, worker, now=now, room=room)
    passed = await admit(broker, claimed, worker, now=now)
    return {held.id: held for held in claimed if held.id in passed}


async def end(broker: Any, held: ClaimedJob, outcome: Any = None, worker: str = "w") -> None:
    gate = None if held.gate is None else held.gate.name
    outcome = outcome or Done(b"1", NOW + 1, LATER)
    assert not (await broker.settle(WorkerId(worker), [held.settled(outcome)._replace(gate=gate)])).lost


async def test_one_at_a_time_in_the_order_of_sending(broker: Any) -> None:
    await send(broker, "abc")
    first, second = await claim(broker, room=2), await claim(broker, "v")
    assert [each.id for each in (*first, *second)] == ["a", "b", "c"]
    assert first[0].gate == ONE
    # Who comes first to the gate is not who is first.
    assert await admit(broker, second, "v") == ""
    assert await admit(broker, first[::-1]) == "a"
    answer = await broker.claim(WorkerId("v"), queues=["*"], room=9, now=LATER)
    assert (list(answer.jobs), answer.next_due) == ([], None)
    assert await broker.count(JobFilter(status=JobStatus.QUEUED)) == 2
    assert await broker.count(JobFilter(status=JobStatus.QUEUED, queue="default")) == 2
    # Those behind the gate wait; they are not delayed.
    assert await broker.depths(now=NOW + 1, most=100) == [QueueDepth("default", waiting=2, running=1)]
    [waiting] = await broker.look([JobId("b")])
    assert (waiting.status, waiting.owner) == (JobStatus.QUEUED, None)
    assert waiting.due_at < LATER
    await end(broker, first[0])
    [b] = await claim(broker, "v")
    assert b.id == "b"
    assert (b.attempt, b.losses) == (1, 0)
    assert await admit(broker, [b], "v") == "b"
    await end(broker, b, Failed(Reason.FAILED, b"no", NOW + 2), "v")
    assert list(await enter(broker)) == ["c"]


async def test_jobs_without_a_gate_and_of_other_gates_are_not_kept_waiting(broker: Any) -> None:
    await send(broker, "ab")
    await send(broker, "xy", Gate("other", limit=1))
    await broker.send([job("free")])
    claimed = await claim(broker)
    assert next(each for each in claimed if each.id == "free").gate is None
    assert await admit(broker, [each for each in claimed if each.gate]) == "ax"


async def test_to_ask_again_changes_nothing(broker: Any) -> None:
    await send(broker, "abc", Gate("some", limit=2, interval=10.0, burst=2))
    claimed = await claim(broker)
    assert await admit(broker, claimed) == "ab"
    assert await admit(broker, claimed) == "ab"


async def test_as_many_as_the_limit_run_at_once_and_the_urgent_go_first(broker: Any) -> None:
    two = Gate("two", limit=2)
    await send(broker, "abcd", two)
    running = await enter(broker)
    assert sorted(running) == ["a", "b"]
    await broker.send([job("u", gate=two, priority=5, created_at=NOW + 1)])
    assert await enter(broker, "v") == {}
    await end(broker, running["b"])
    assert list(await enter(broker, "v")) == ["u"]
    await end(broker, running["a"])
    assert list(await enter(broker, "v")) == ["c"]


async def test_who_is_cancelled_makes_room(broker: Any) -> None:
    await send(broker, "abcd")
    claimed = await claim(broker)
    assert await admit(broker, claimed) == "a"
    await broker.cancel([JobId("b")], now=NOW + 1, keep_until=LATER)
    await end(broker, claimed[0])
    held = await claim(broker, room=1)
    assert [each.id for each in held] == ["c"]
    # It was to be the next one, and is claimed; one that waits for it must not wait for ever.
    assert await admit(broker, held) == "c"
    await broker.cancel([JobId("c")], now=NOW + 1, keep_until=LATER)
    await end(broker, held[0], Again(NOW + 2, b"no"))
    assert (await broker.look([JobId("c")]))[0].status is JobStatus.CANCELLED
    assert list(await enter(broker)) == ["d"]


async def test_a_job_that_is_due_and_cancelled_makes_room_for_those_behind_it(home: Any, broker: Any) -> None:
    await send(broker, "ab")
    assert await admit(broker, (await claim(broker))[1:]) == ""
    await home.retire(WorkerId("w"), now=NOW + 1)
    await broker.cancel([JobId("a")], now=NOW + 1, keep_until=LATER)
    assert list(await enter(broker, "v")) == ["b"]


async def test_what_a_lost_worker_ran_is_first_again(home: Any, broker: Any) -> None:
    await send(broker, "abc")
    running = await enter(broker)
    assert list(running) == ["a"]
    await home.heartbeat(WorkerId("v"), lease=100, now=NOW + 11)
    again = await enter(broker, "v", now=NOW + 11)
    assert list(again) == ["a"]
    assert again["a"].losses == 1
    await end(broker, again["a"], worker="v")
    assert list(await enter(broker, "v", now=NOW + 11)) == ["b"]
    with pytest.raises(LeaseLost):
        await admit(broker, [running["a"]])


async def test_who_was_to_end_and_lost_its_worker_makes_room(home: Any, broker: Any) -> None:
    await send(broker, "ab")
    assert list(await enter(broker)) == ["a"]
    await broker.cancel([JobId("a")], now=NOW + 1, keep_until=LATER)
    await home.heartbeat(WorkerId("v"), lease=100, now=NOW + 11)
    assert (await broker.look([JobId("a")]))[0].status is JobStatus.CANCELLED
    assert list(await enter(broker, "v", now=NOW + 11)) == ["b"]


async def test_a_rate_spreads_beginnings(broker: Any) -> None:
    slow = Gate("slow", interval=10.0, burst=2)
    await send(broker, "abcd", slow)
    running = await enter(broker)
    assert sorted(running) == ["a", "b"]
    answer = await broker.claim(WorkerId("v"), queues=["*"], room=9, now=NOW + 1)
    assert (list(answer.jobs), answer.next_due) == ([], NOW + 11)
    assert list(await enter(broker, now=NOW + 11)) == ["c"]
    # Another attempt is another beginning.
    await end(broker, running["a"], Again(NOW + 12, b"no"))
    assert await enter(broker, now=NOW + 12) == {}
    assert list(await enter(broker, now=NOW + 21)) == ["d"]
    assert await enter(broker, now=NOW + 30) == {}
    assert list(await enter(broker, now=NOW + 31)) == ["a"]
    # After a pause as many as the burst begin at once.
    await send(broker, "xyz", slow, due_at=NOW + 500)
    assert sorted(await enter(broker, now=NOW + 500)) == ["x", "y"]
    await broker.sweep_jobs(now=NOW + 501, batch=100)
    assert await enter(broker, now=NOW + 505) == {}
    assert list(await enter(broker, now=NOW + 510)) == ["z"]


async def test_what_follows_has_its_gate(broker: Any) -> None:
    held = (await claim_of(broker, "first"))["first"]
    follow = [job("f", gate=ONE, created_at=NOW), job("g", gate=ONE, created_at=NOW + 0.5)]
    await broker.settle(WorkerId("w"), [held.settled(Done(b"1", NOW), follow)])
    assert list(await enter(broker)) == ["f"]


async def claim_of(broker: Any, id: str) -> dict[str, ClaimedJob]:
    await broker.send([job(id)])
    return {each.id: each for each in await claim(broker)}
