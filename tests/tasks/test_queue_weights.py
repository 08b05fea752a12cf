"""Queues with weights: how a worker shares its room among them."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from holdfast import App, Settings
from holdfast.errors import ConfigurationError
from holdfast.runtime.sharing import ASKED_AGAIN, Shares
from holdfast.tasks import gather


def run(weights: dict[str, int], backlog: Counter[str], *, rounds: int, rooms: tuple[int, int] = (1, 20)) -> list[str]:
    """What is claimed in so many rounds, from a broker that gives the queue first that comes last in the alphabet."""
    shares, chance, taken, now = Shares(weights), Random(5), [], 0.0

    def claim(queues: list[str], room: int) -> list[str]:
        found: list[str] = []
        for queue in sorted(queues, reverse=True):
            number = min(backlog[queue], room - len(found))
            backlog[queue] -= number
            found += [queue] * number
        return found

    for _ in range(rounds):
        now += 0.01
        room = chance.randint(*rooms)
        jobs: list[str] = []
        for queue, wanted in shares.plan(room, now).items():
            given = claim([queue], wanted)
            shares.asked(queue, given=len(given), room=wanted, now=now)
            jobs += given
        jobs += claim(list(weights), room - len(jobs))
        shares.claimed(jobs, room=room, now=now)
        taken += jobs
    return taken


def test_queues_share_what_is_begun_by_their_weights():
    taken = Counter(run({"a": 6, "b": 3, "c": 1}, Counter(a=10**6, b=10**6, c=10**6), rounds=2000))
    total = sum(taken.values())
    assert [round(taken[queue] / total, 2) for queue in "abc"] == [0.6, 0.3, 0.1]


def test_no_queue_waits_long_however_small_its_share():
    taken = run({"a": 99, "z": 1}, Counter(a=10**6, z=10**6), rounds=2000, rooms=(1, 1))
    turns = [number for number, queue in enumerate(taken) if queue == "a"]
    assert max(later - before for before, later in zip(turns, turns[1:])) <= 3
    assert Counter(taken)["z"] == 20


def test_an_empty_queue_leaves_its_share_to_the_others_in_theirs():
    taken = Counter(run({"a": 8, "b": 3, "c": 1}, Counter(b=10**6, c=10**6), rounds=2000))
    assert taken["b"] / taken["c"] == pytest.approx(3, rel=0.15)


def test_a_queue_that_fills_again_is_found_and_gets_no_more_than_its_share():
    shares = Shares({"a": 1, "b": 1})
    shares.claimed(["b"] * 10, room=10, now=0.0)
    assert shares.plan(10, 0.0) == {"a": 10}
    shares.asked("a", given=0, room=10, now=0.0)
    shares.claimed(["b"] * 10, room=10, now=0.0)
    for number in range(5):
        assert shares.plan(10, number * 0.01) == {"b": 10}
        shares.asked("b", given=10, room=10, now=0.0)
        shares.claimed(["b"] * 10, room=10, now=0.0)
    order = []
    for number in range(6):
        now = ASKED_AGAIN + number * 0.01
        order += shares.plan(10, now)
        shares.asked(order[-1], given=10, room=10, now=now)
        shares.claimed([order[-1]] * 10, room=10, now=now)
    assert order == ["a", "b"] * 3


def test_a_large_room_is_shared_out_at_once():
    shares = Shares({"a": 3, "b": 1})
    shares.claimed(["a"] * 10, room=10, now=0.0)
    assert shares.plan(400, 0.0) == pytest.approx({"a": 300, "b": 100}, abs=10)


def test_where_nothing_is_left_behind_all_are_asked_at_once():
    shares = Shares({"a": 1, "b": 1})
    assert shares.plan(10, 0.0) == {}
    shares.claimed(["a"], room=10, now=0.0)
    assert shares.plan(10, 0.0) == {}


@pytest.mark.parametrize(
    ("queues", "names", "weights"),
    [
        ("*", ["*"], {}),
        ("a, b", ["a", "b"], {}),
        ("critical:3, default:1", ["critical", "default"], {"critical": 3, "default": 1}),
        ("critical:3,default", ["critical", "default"], {"critical": 3, "default": 1}),
        ("tenant:x,tenant:y:2", ["tenant:x", "tenant:y"], {"tenant:x": 1, "tenant:y": 2}),
        ("tenant:x", ["tenant:x"], {}),
    ],
)
def test_weights_are_read(queues: str, names: list[str], weights: dict[str, int]):
    settings = Settings.load(queues=queues)
    assert (settings.queue_names, settings.queue_weights) == (names, weights)


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        ("a:0", "'a:0': a weight is a whole number from 1 on"),
        ("a:-1", "a weight is a whole number"),
        ("a:1.5,b", "a weight is a whole number"),
        ("a:2,*", "name each queue"),
        ("*:2", "name each queue"),
        ("a:2,a:1", "'a' is named twice"),
    ],
)
def test_weights_that_are_none_are_refused(queues: str, said: str):
    with pytest.raises(ConfigurationError, match=f"HOLDFAST_QUEUES.*{said.replace('*', '.')}"):
        Settings.load(queues=queues)


async def test_a_worker_begins_jobs_by_the_weights_of_their_queues(url: str):
    # Within one claim the jobs of one queue come before those of the other: small claims show the shares at any moment.
    app = App("test", url=url, queues="bulk:1,urgent:3", concurrent_per_worker=4, prefetch=4, embedded_worker=False)
    began: list[str] = []

    @app.task(priority=5)
    async def bulk() -> None:
        began.append("bulk")
        await asyncio.sleep(0.001)

    @app.task(queue="urgent")
    async def urgent() -> None:
        began.append("urgent")
        await asyncio.sleep(0.001)

    async with app:
        # By priority and by age those of the other queue would come first.
        jobs = await bulk.options(queue="bulk").delay_many([()] * 300)
        jobs += await urgent.delay_many([()] * 300)
        app.start_worker()
        await gather(jobs)
    # In the first claim nobody knows yet that jobs are left behind.
    shared = Counter(began[4:300])
    assert 0.6 < shared["urgent"] / 296 < 0.85, shared
    assert Counter(began) == {"bulk": 300, "urgent": 300}


async def test_a_worker_for_all_queues_takes_from_each(url: str):
    app = App("test", url=url, queues="*")

    @app.task
    async def twice(n: int) -> int:
        return 2 * n

    async with app:
        app.start_worker()
        jobs = [await twice.options(queue=f"queue-{n}").delay(n) for n in range(5)]
        assert await gather(jobs) == [0, 2, 4, 6, 8]
