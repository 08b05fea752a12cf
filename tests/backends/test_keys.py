"""Jobs with a key, on every broker: of each key one at a time, in the order in which they were sent, whatever becomes of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.backends.conftest import Bench, broker_of
from tests.backends.making import NOW, enlist, job

from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Again, ClaimedJob, Done, Failed, Gate, JobFilter, JobStatus, Reason, Returned

LATER = NOW + 1000


def key(name: str) -> Gate:
    return Gate(f"key:{name}", limit=1)


@pytest.fixture
async def broker(jobs_bench: Bench) -> Any:
    home = await jobs_bench.store()
    assert home.traits.keys
    await enlist(home, "w")
    await enlist(home, "v")
    return broker_of(home)


async def send(broker: Any, names: str, gate: Gate | None = None, **fields: Any) -> None:
    gate = gate or key("one")
    await broker.send([job(name, gate=gate, created_at=NOW + at / 100, **fields) for at, name in enumerate(names)])


async def enter(broker: Any, worker: str = "w", *, now: float = NOW + 1, room: int = 100) -> dict[str, ClaimedJob]:
    """What is claimed, and may run."""
    if not broker.home.traits.prompt:
        broker.service.move_to(now)
    found = await claim_once(broker, worker, now=now, room=room)
    if not broker.home.traits.prompt:
        async with asyncio.timeout(60):
            while len(found) < room:
                still = is_still(broker)
                more = await claim_once(broker, worker, now=now, room=room - len(found))
                found |= more
                if still and not more:
                    break
                await asyncio.sleep(0.01)
    return found


async def claim_once(broker: Any, worker: str, *, now: float, room: int) -> dict[str, ClaimedJob]:
    claimed = (await broker.claim(WorkerId(worker), queues=["*"], room=room, now=now)).jobs
    passed = await broker.admit(WorkerId(worker), [each for each in claimed if each.gate], now=now)
    return {held.id: held for held in claimed if held.gate is None or held.id in passed}


def is_still(broker: Any) -> bool:
    """Whether nothing is on its way from Service Bus: whatever is free has been taken, and what is held is in hand."""
    counts = broker.service.do("counts")["queues"]
    plain = [each for name, each in counts.items() if not name.endswith(".keyed")]
    locked = [each for each in broker._holdings._all.values() if each.session is None]
    if any(each["active"] for each in plain) or sum(each["locked"] for each in plain) != len(locked):
        return False
    sessions = broker.service.do("sessions")["queues"].values()
    serving = [session for _, ours in broker._intake._sources.values() for session in ours._serving]
    in_hand = [each for each in serving if each.busy]
    return not any(each["free"] for each in sessions) and sum(each["held"] for each in sessions) == len(in_hand)


async def end(broker: Any, held: ClaimedJob, outcome: Any = None, worker: str = "w", follow: Any = ()) -> None:
    outcome = outcome or Done(b"1", NOW + 1, LATER)
    settlement = held.settled(outcome, follow)
    assert not (await broker.settle(WorkerId(worker), [settlement])).lost


async def test_jobs_of_a_key_run_one_at_a_time_in_the_order_of_sending(broker: Any) -> None:
    await send(broker, "abc")
    for each in "abc":
        running = await enter(broker)
        assert list(running) == [each]
        assert running[each].gate == key("one")
        assert (running[each].attempt, running[each].losses) == (1, 0)
        await end(broker, running[each], None if each == "a" else Failed(Reason.FAILED, b"no", NOW + 2))
    assert await enter(broker) == {}


async def test_other_keys_and_jobs_without_one_are_not_kept_waiting(broker: Any) -> None:
    await send(broker, "ab")
    await send(broker, "xy", key("other"))
    await broker.send([job("free")])
    running = await enter(broker)
    assert sorted(running) == ["a", "free", "x"]
    assert running["free"].gate is None
    await end(broker, running["x"])
    assert list(await enter(broker)) == ["y"]


async def test_another_attempt_lets_the_next_one_in_and_waits_its_turn(broker: Any) -> None:
    later = time.time() + 100
    await send(broker, "abc")
    running = await enter(broker)
    await end(broker, running["a"], Again(later, b"{}"))
    running = await enter(broker)
    assert list(running) == ["b"]
    # When its time has come, the one that runs is before it, and it is before the one that waits.
    assert await enter(broker, now=later) == {}
    await end(broker, running["b"])
    running = await enter(broker, now=later)
    assert list(running) == ["a"]
    assert running["a"].attempt == 2
    await end(broker, running["a"])
    assert list(await enter(broker, now=later)) == ["c"]


async def test_every_attempt_is_counted(broker: Any) -> None:
    await send(broker, "a")
    later = time.time()
    for attempt in range(1, 5):
        running = await enter(broker, now=later)
        assert (running["a"].attempt, running["a"].losses) == (attempt, 0)
        later += 60
        await end(broker, running["a"], Again(later, b"{}"))
    running = await enter(broker, now=later)
    await end(broker, running["a"], Failed(Reason.FAILED, b"{}", later))
    [dead] = await broker.find(JobFilter(status=JobStatus.DEAD))
    assert (dead.id, dead.attempt) == ("a", 5)


async def test_several_that_wait_for_another_attempt_come_in_the_order_of_sending(broker: Any) -> None:
    later = time.time() + 100
    await send(broker, "abc")
    for each in "abc":
        running = await enter(broker)
        assert list(running) == [each]
        await end(broker, running[each], Again(later, b"{}"))
    assert await enter(broker) == {}
    await broker.send([job("d", gate=key("one"), created_at=NOW + 1)])
    for each in "abcd":
        running = await enter(broker, now=later + 1)
        assert list(running) == [each]
        assert running[each].attempt == (1 if each == "d" else 2)
        await end(broker, running[each])


async def test_what_is_delayed_keeps_nobody_waiting(broker: Any) -> None:
    later = time.time() + 100
    await send(broker, "a", due_at=later)
    await send(broker, "b")
    running = await enter(broker)
    assert list(running) == ["b"]
    await end(broker, running["b"])
    assert list(await enter(broker, now=later)) == ["a"]


async def test_what_is_handed_back_comes_first_again(broker: Any) -> None:
    await send(broker, "ab")
    running = await enter(broker)
    await end(broker, running["a"], Returned(NOW + 1))
    running = await enter(broker, "v")
    assert list(running) == ["a"]
    assert (running["a"].attempt, running["a"].losses) == (1, 0)


async def test_dead_letters_come_back_through_their_gate(broker: Any) -> None:
    await send(broker, "ab")
    running = await enter(broker)
    await end(broker, running["a"], Failed(Reason.FAILED, b"no", NOW + 1))
    running = await enter(broker)
    assert list(running) == ["b"]
    assert await broker.replay([JobId("a")], now=NOW + 2) == ["a"]
    assert await enter(broker, now=NOW + 2) == {}
    await end(broker, running["b"])
    assert list(await enter(broker, now=NOW + 2)) == ["a"]


async def test_what_follows_has_its_gate(broker: Any) -> None:
    await broker.send([job("first")])
    follow = [job("f", gate=key("one"), created_at=NOW), job("g", gate=key("one"), created_at=NOW + 0.5)]
    await end(broker, (await enter(broker))["first"], follow=follow)
    assert list(await enter(broker)) == ["f"]


async def test_many_workers_keep_the_order_of_each_key(jobs_bench: Bench) -> None:
    """1,000 jobs of 25 keys, claimed, admitted and settled by workers that race: each key's jobs run one by one, in order."""
    brokers = []
    for number in range(5):
        home = await jobs_bench.store()
        await enlist(home, f"w{number}")
        brokers.append(broker_of(home))
    prompt = brokers[0].home.traits.prompt
    await brokers[0].send([job(f"j{n:04}", gate=key(str(n % 25)), created_at=NOW + n / 1000) for n in range(1000)])
    ran: dict[str, list[str]] = {}
    inside: set[str] = set()

    async def work(number: int) -> None:
        broker, worker, idle = brokers[number], f"w{number}", 0
        while sum(map(len, ran.values())) < 1000:
            running = await claim_once(broker, worker, now=NOW + 2, room=7 + number)
            for held in running.values():
                assert held.gate is not None
                assert held.gate.name not in inside
                inside.add(held.gate.name)
                ran.setdefault(held.gate.name, []).append(held.id)
            await asyncio.sleep(0 if prompt else 0.005)
            done = [each.settled(Done(b"1", NOW)) for each in running.values()]
            for each in running.values():
                inside.discard(each.gate.name)  # type: ignore[union-attr]
            assert not (await broker.settle(WorkerId(worker), done)).lost
            idle = 0 if running else idle + 1
            assert idle < (2000 if prompt else 20_000), "nothing can be claimed any more"

    await asyncio.gather(*map(work, range(5)))
    assert len(ran) == 25
    assert all(ids == sorted(ids) for ids in ran.values())
