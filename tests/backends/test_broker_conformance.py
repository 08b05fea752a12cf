"""What every broker does: jobs are sent once, held by one worker at a time, settled by their holder, and never lost.

What a broker says in its traits that it cannot do is left out for it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest
from tests.backends.conftest import Bench, broker_of
from tests.backends.making import NOW, enlist, job

from holdfast.errors import LeaseLost, StoreError
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import (
    Again,
    Cancelled,
    ClaimedJob,
    ClaimedJobs,
    Done,
    Failed,
    Gate,
    Job,
    JobFilter,
    JobStatus,
    JobView,
    QueueDepth,
    Reason,
    Returned,
    Settlement,
)

LATER = NOW + 1000


def ids(claims: ClaimedJobs) -> list[str]:
    return [each.id for each in claims.jobs]


def settled(held: ClaimedJob, outcome: Any, *follow: Job) -> Settlement:
    return held.settled(outcome, follow)


@pytest.fixture
async def home(jobs_bench: Bench) -> Any:
    return await jobs_bench.store()


@pytest.fixture
async def broker(home: Any) -> Any:
    await enlist(home, "w")
    await enlist(home, "v")
    broker = broker_of(home)
    assert broker.home is home
    return broker


async def claim(
    broker: Any, worker: str = "w", *, now: float = NOW, room: int = 100, queues: Any = ("*",)
) -> ClaimedJobs:
    if broker.home.traits.prompt:
        return await broker.claim(WorkerId(worker), queues=queues, room=room, now=now)
    broker.service.move_to(now)
    return await collected(broker, worker, room, queues)


async def collected(broker: Any, worker: str, room: int, queues: Any) -> ClaimedJobs:
    """Claims again and again, until there is no room, or nothing is on its way any more."""
    found: list[ClaimedJob] = []
    quiet = 0
    async with asyncio.timeout(30):
        while len(found) < room and quiet < 20:
            more = await broker.claim(WorkerId(worker), queues=queues, room=room - len(found), now=NOW)
            found += more.jobs
            counts = broker.service.do("counts")["queues"]
            there = any(counts[queue]["active"] for queue in counts if queue in queues or "*" in queues)
            quiet = 0 if more.jobs or there else quiet + 1
            await asyncio.sleep(0.01)
    return ClaimedJobs(jobs=found)


def needs(broker: Any, *traits: str) -> None:
    """Skip the test for a broker without these traits."""
    for trait in traits:
        if not getattr(broker.home.traits, trait):
            pytest.skip(f"{broker.home.traits.name} declares that it has not the trait {trait}")


async def one(broker: Any, id: str = "a", worker: str = "w", **fields: Any) -> ClaimedJob:
    """Send a job and let `worker` hold it."""
    await broker.send([job(id, **fields)])
    return next(each for each in (await claim(broker, worker)).jobs if each.id == id)


async def look(broker: Any, id: str) -> JobView:
    [view] = await broker.look([JobId(id)])
    return view


async def settle(broker: Any, *settlements: Settlement, worker: str = "w") -> Any:
    return await broker.settle(WorkerId(worker), settlements)


# --- sending and claiming


async def test_of_many_jobs_that_are_alike_those_are_added_that_are_not_there(broker: Any) -> None:
    needs(broker, "finds_jobs")
    first = [job(f"a{number}", payload=b"1") for number in range(3)]
    assert list(await broker.send(first)) == ["a0", "a1", "a2"]
    again = [job(f"a{number}", payload=b"2") for number in (4, 1, 3, 2, 3)]
    assert list(await broker.send(again)) == ["a4", "a3"]
    payloads = {view.id: view.payload for view in await broker.look([JobId(f"a{number}") for number in range(5)])}
    assert payloads == {"a0": b"1", "a1": b"1", "a2": b"1", "a3": b"2", "a4": b"2"}


async def test_many_jobs_sent_at_once_keep_what_each_has_of_its_own(broker: Any) -> None:
    kinds: list[dict[str, Any]] = [
        {"name": "app:post"},
        {"payload": b"2"},
        {"queue": "mail"},
        {"expires_at": NOW + 500_000},
        {"gate": Gate("g", 1)} if broker.home.traits.gates else {"name": "app:third"},
    ]
    sent: list[Job] = []
    for number, fields in enumerate(kinds):
        # All alike, and then one of them otherwise than the others.
        alike = [job(f"{number}{place}", **fields) for place in "abc"]
        await broker.send(alike)
        mixed = [job(f"{number}d"), *(job(f"{number}{place}", **fields) for place in "ef")]
        await broker.send(mixed)
        sent += alike + mixed
    held = {each.id: each for each in (await claim(broker)).jobs}
    for each in sent:
        for field in ("name", "payload", "queue", "expires_at", "gate"):
            assert getattr(held[each.id], field) == getattr(each, field), (each.id, field)


async def test_a_job_is_sent_once_and_held_by_one_worker(broker: Any) -> None:
    finds_jobs = broker.home.traits.finds_jobs
    assert await broker.send([job("a"), job("b"), job("a")]) == ["a", "b"]
    assert await broker.send([job("b"), job("c")]) == (["c"] if finds_jobs else ["b", "c"])
    assert await broker.send([]) == []
    [a] = (await claim(broker, room=1)).jobs
    assert a._replace(receipt=None) == ClaimedJob(JobId("a"), "app:send", b"payload of a", "default", 1, 1, 0, None)
    assert sorted(ids(await claim(broker, "v"))) == ["b", "c"]
    assert ids(await claim(broker)) == []
    assert await broker.look([JobId("nobody")]) == []
    if finds_jobs:
        assert [(await look(broker, id)).status for id in "abc"] == [JobStatus.RUNNING] * 3
        assert (await look(broker, "a")).owner == "w"


async def test_queues_are_served_apart(broker: Any) -> None:
    await broker.send([job("a"), job("b", queue="mail")])
    assert ids(await claim(broker, queues=["mail", "unheard"])) == ["b"]
    assert ids(await claim(broker, queues=["mail"])) == []
    assert ids(await claim(broker)) == ["a"]


async def test_priority_goes_before_age_and_queues_apart(broker: Any) -> None:
    needs(broker, "ranks")
    await broker.send(
        [
            job("old", due_at=NOW - 5),
            job("urgent", priority=9),
            job("new"),
            job("other", queue="mail", priority=20),
        ]
    )
    assert ids(await claim(broker, room=2, queues=["default"])) == ["urgent", "old"]
    assert ids(await claim(broker, queues=["mail", "unheard"])) == ["other"]
    assert ids(await claim(broker, queues=["mail"])) == []
    assert ids(await claim(broker)) == ["new"]


async def test_a_delayed_job_waits_for_its_moment(broker: Any) -> None:
    await broker.send(
        [
            job("later", due_at=NOW + 500_000),
            job("much-later", due_at=NOW + 900_000),
            job("other", queue="mail", due_at=NOW + 400_000),
        ]
    )
    prompt = broker.home.traits.prompt
    answer = await claim(broker, queues=["default"])
    assert (list(answer.jobs), answer.next_due) == ([], NOW + 500_000 if prompt else None)
    if prompt:
        assert (await claim(broker)).next_due == NOW + 400_000
    answer = await claim(broker, now=NOW + 500_000)
    assert sorted(ids(answer)) == ["later", "other"]
    assert answer.next_due == (NOW + 900_000 if prompt else None)


async def test_many_claim_at_once_and_none_holds_what_another_has(jobs_bench: Bench) -> None:
    brokers = []
    for number in range(3):
        home = await jobs_bench.store()
        await enlist(home, f"w{number}")
        brokers.append(broker_of(home))
    await brokers[0].send([job(f"j{number:03}") for number in range(300)])
    taken: list[str] = []

    async def work(number: int) -> None:
        while found := ids(await claim(brokers[number], f"w{number}", room=7)):
            taken.extend(found)

    await asyncio.gather(*map(work, range(3)))
    assert sorted(taken) == [f"j{number:03}" for number in range(300)]


# --- settling


async def test_what_is_done_leaves_nothing_or_its_result(broker: Any) -> None:
    a, b = await one(broker, "a"), await one(broker, "b")
    answer = await settle(broker, settled(a, Done(b"1", NOW + 1)), settled(b, Done(b"2", NOW + 1, LATER)))
    assert not answer.lost
    assert await broker.look([JobId("a")]) == []
    if not broker.home.traits.finds_jobs:
        assert await broker.count(JobFilter()) == 0
        return
    view = await look(broker, "b")
    assert (view.status, view.outcome, view.ended_at, view.owner) == (JobStatus.DONE, b"2", NOW + 1, None)
    assert await broker.sweep_jobs(now=LATER, batch=10) == 0
    assert await broker.sweep_jobs(now=LATER + 1, batch=10) == 1
    assert await broker.look([JobId("b")]) == []


async def test_another_attempt_comes_at_its_time_and_counts(broker: Any) -> None:
    a = await one(broker)
    await settle(broker, settled(a, Again(NOW + 500_000, b"error 1")))
    view = await look(broker, "a")
    assert (view.status, view.attempt, view.due_at, view.outcome) == (JobStatus.QUEUED, 2, NOW + 500_000, b"error 1")
    assert ids(await claim(broker)) == []
    [again] = (await claim(broker, "v", now=NOW + 500_000)).jobs
    assert (again.attempt, again.claim) == (2, 2)


async def test_what_is_returned_comes_again_as_it_was(broker: Any) -> None:
    a = await one(broker)
    await settle(broker, settled(a, Returned(NOW)))
    [again] = (await claim(broker, "v")).jobs
    assert (again.attempt, again.claim, again.losses) == (1, 2, 0)


async def test_dead_letters_are_read_replayed_and_purged(broker: Any) -> None:
    for number, reason in enumerate((Reason.FAILED, Reason.UNKNOWN, Reason.EXPIRED)):
        unique = f"u{number}" if broker.home.traits.ranks else None
        held = await one(broker, f"j{number}", created_at=NOW + number, unique=unique)
        await settle(broker, settled(held, Failed(reason, b"why", NOW + 5)))
    failed = await one(broker, "gone")
    kept = await one(broker, "kept")
    await settle(
        broker,
        settled(failed, Failed(Reason.FAILED, b"why", NOW, dead=False)),
        settled(kept, Failed(Reason.FAILED, b"why", NOW, dead=False, keep_until=LATER)),
    )
    dead = JobFilter(status=JobStatus.DEAD)
    found = await broker.find(dead)
    assert [(view.id, view.reason, view.outcome) for view in found] == [
        ("j2", "expired", b"why"),
        ("j1", "unknown", b"why"),
        ("j0", "failed", b"why"),
    ]
    assert found[0].payload == b"payload of j2"
    assert await broker.count(dead) == 3
    assert [
        view.id for view in await broker.find(JobFilter(status=JobStatus.DEAD, limit=1, before=(NOW + 2, "j2")))
    ] == ["j1"]
    assert [view.id for view in await broker.find(JobFilter(reason=Reason.UNKNOWN))] == ["j1"]
    if broker.home.traits.finds_jobs:
        assert [view.id for view in await broker.find(JobFilter(status=JobStatus.FAILED))] == ["kept"]
        assert await broker.sweep_jobs(now=LATER * 2, batch=10) == 1

    assert set(await broker.replay([JobId("j0"), JobId("j1"), JobId("nobody")], now=NOW + 6)) == {"j0", "j1"}
    assert await broker.replay([JobId("j0")], now=NOW + 6) == []
    view = await look(broker, "j0")
    assert (view.status, view.attempt, view.reason, view.outcome) == (JobStatus.QUEUED, 1, None, None)
    assert sorted(ids(await claim(broker, now=NOW + 6))) == ["j0", "j1"]
    assert await broker.purge([JobId("j2"), JobId("j0")]) == ["j2"]
    assert await broker.find(dead) == []


async def test_of_a_group_only_what_is_lost_is_not_settled(broker: Any) -> None:
    await broker.send([job(id) for id in "abcd"])
    held = {each.id: each for each in (await claim(broker)).jobs}
    await settle(broker, settled(held[JobId("b")], Returned(LATER)), settled(held[JobId("d")], Done(b"1", NOW, None)))
    answer = await settle(broker, *[settled(each, Done(b"1", NOW, LATER)) for each in held.values()])
    assert answer.lost == {"b", "d"}


async def test_only_the_holder_settles_and_only_by_its_last_claim(broker: Any) -> None:
    a = await one(broker)
    assert (await settle(broker, settled(a, Done(b"1", NOW, LATER)), worker="v")).lost == {"a"}
    await settle(broker, settled(a, Returned(NOW)))
    [again] = (await claim(broker)).jobs
    assert (await settle(broker, settled(a, Done(b"late", NOW, LATER), job("follows")))).lost == {"a"}
    assert await broker.look([JobId("follows")]) == []
    if broker.home.traits.finds_jobs:
        assert (await look(broker, "a")).status is JobStatus.RUNNING
    assert not (await settle(broker, settled(again, Done(b"1", NOW, LATER)))).lost
    # An answer that was lost is asked for again, and changes nothing.
    assert (await settle(broker, settled(again, Done(b"2", NOW, LATER)))).lost == {"a"}
    if broker.home.traits.finds_jobs:
        assert (await look(broker, "a")).outcome == b"1"
    assert not (await settle(broker)).lost


async def test_what_follows_is_sent_with_the_settlement(broker: Any) -> None:
    a, b = await one(broker, "a"), await one(broker, "b")
    await settle(
        broker,
        settled(a, Done(b"1", NOW), job("then"), job("also", queue="mail")),
        settled(b, Failed(Reason.FAILED, b"e", NOW), job("sad"), job("then")),
    )
    assert sorted(ids(await claim(broker))) == ["also", "sad", "then"]


# --- one of a kind


async def test_a_unique_text_admits_one_job_until_that_ends(broker: Any) -> None:
    needs(broker, "ranks")
    assert await broker.send([job("a", unique="u"), job("b", unique="u"), job("c", unique="other")]) == ["a", "c"]
    assert await broker.send([job("d", unique="u"), job("e")]) == ["e"]
    assert await broker.holders(["u", "other", "none"]) == {"u": "a", "other": "c"}
    held = {each.id: each for each in (await claim(broker)).jobs}
    assert await broker.send([job("d", unique="u")]) == []
    await settle(broker, settled(held[JobId("a")], Failed(Reason.FAILED, b"e", NOW)))
    assert await broker.holders(["u"]) == {}
    assert await broker.send([job("d", unique="u")]) == ["d"]
    # The dead one cannot come back while its successor is there.
    assert await broker.replay([JobId("a")], now=NOW) == []
    [d] = (await claim(broker)).jobs
    await settle(broker, settled(d, Failed(Reason.FAILED, b"e", NOW)))
    assert len(await broker.replay([JobId("a"), JobId("d")], now=NOW)) == 1


# --- cancelling


async def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_holder(broker: Any) -> None:
    needs(broker, "finds_jobs")
    held = await one(broker, "runs")
    await broker.send([job("waits")])
    answer = await broker.cancel([JobId("runs"), JobId("waits"), JobId("nobody")], now=NOW, keep_until=LATER)
    assert (list(answer.ended), list(answer.asked)) == (["waits"], ["runs"])
    view = await look(broker, "waits")
    assert (view.status, view.ended_at) == (JobStatus.CANCELLED, NOW)
    assert ids(await claim(broker)) == []
    assert list(await broker.unwanted(WorkerId("w"), [JobId("runs"), JobId("nobody")])) == ["runs", "nobody"]
    await settle(broker, settled(held, Cancelled(NOW + 1, LATER)))
    assert (await look(broker, "runs")).status is JobStatus.CANCELLED
    assert (await broker.cancel([JobId("runs")], now=NOW, keep_until=None)).ended == []


async def test_a_cancelled_job_is_not_tried_again(broker: Any) -> None:
    needs(broker, "finds_jobs")
    a, b = await one(broker, "a"), await one(broker, "b")
    await broker.cancel([JobId("a"), JobId("b")], now=NOW, keep_until=LATER)
    await settle(broker, settled(a, Again(NOW + 1, b"e")), settled(b, Done(b"1", NOW, LATER)))
    assert ids(await claim(broker, now=NOW + 10)) == []
    assert (await look(broker, "a")).status is JobStatus.CANCELLED
    # What was finished before it heard of that is done.
    assert (await look(broker, "b")).status is JobStatus.DONE
    assert await broker.sweep_jobs(now=NOW + 100_000, batch=10) == 2


async def test_nothing_wanted_is_called_unwanted(broker: Any) -> None:
    await one(broker, "a")
    assert list(await broker.unwanted(WorkerId("w"), [JobId("a")])) == []
    assert list(await broker.unwanted(WorkerId("v"), [JobId("a")])) == ["a"]


# --- queues


async def test_nobody_claims_from_a_paused_queue_until_it_is_resumed(home: Any, broker: Any) -> None:
    needs(broker, "pauses")
    await broker.send([job("a", queue="mail"), job("b"), job("c", queue="mail", due_at=NOW + 5)])
    held = (await claim(broker, queues=["mail"])).jobs[0]
    await broker.pause(["mail", "unheard"], now=NOW + 1)
    await broker.pause(["mail"], now=NOW + 2)
    assert await broker.paused() == {"mail": NOW + 1, "unheard": NOW + 1}
    # What runs goes on, and what comes back waits, too.
    assert not (await settle(broker, settled(held, Again(NOW + 1, b"no")))).lost
    answer = await claim(broker, now=NOW + 9)
    assert (ids(answer), answer.next_due) == (["b"], None)
    await broker.send([job("d", queue="mail")])
    assert ids(await claim(broker, "v", queues=["mail"], now=NOW + 9)) == []
    await broker.wait_for_jobs(WorkerId("v"), True)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await home.listen("hf_jobs", lambda channel, _: heard.put_nowait(channel))
    await broker.resume(["mail", "nowhere"])
    if home.traits.notifies:
        async with asyncio.timeout(10):
            assert await heard.get() == "hf_jobs"
    assert await broker.paused() == {"unheard": NOW + 1}
    assert sorted(ids(await claim(broker, "v", now=NOW + 9))) == ["a", "c", "d"]


async def test_queues_tell_how_much_is_in_them(broker: Any) -> None:
    assert await broker.depths(now=NOW, most=100) == []
    dead = await one(broker, "dead", queue="mail")
    await settle(broker, settled(dead, Failed(Reason.FAILED, b"no", NOW)))
    held = await one(broker, "held")
    await broker.send([job("b"), job("c"), job("d", due_at=LATER), job("m", queue="mail")])
    running = broker.home.traits.lists_all
    found = await broker.depths(now=NOW, most=100)
    assert found == [
        QueueDepth("default", 2 if running else 3, 1, 1 if running else None, 0),
        QueueDepth("mail", 1, 0, 0 if running else None, 1),
    ]
    if broker.home.traits.finds_jobs:
        assert (await look(broker, held.id)).status is JobStatus.RUNNING


async def test_counting_ends_where_there_is_much(broker: Any) -> None:
    await broker.send([job(f"j{number}") for number in range(7)])
    [found] = await broker.depths(now=NOW, most=5)
    assert found.waiting >= 5
    assert found.more or found.waiting == 7


# --- progress


async def test_the_holder_says_how_far_a_job_is(broker: Any) -> None:
    needs(broker, "finds_jobs")
    held = await one(broker, "a")
    await broker.send([job("b")])
    assert (await look(broker, "a")).progress is None
    await broker.report(WorkerId("w"), {JobId("a"): b"1", JobId("b"): b"1", JobId("nobody"): b"1"})
    await broker.report(WorkerId("v"), {JobId("a"): b"2"})
    assert (await look(broker, "a")).progress == b"1"
    assert (await look(broker, "b")).progress is None
    await settle(broker, settled(held, Again(NOW, b"no")))
    assert (await look(broker, "a")).progress == b"1"
    held = next(each for each in (await claim(broker)).jobs if each.id == "a")
    await broker.report(WorkerId("w"), {JobId("a"): b"3"})
    await settle(broker, settled(held, Failed(Reason.FAILED, b"no", NOW)))
    assert (await look(broker, "a")).progress == b"3"
    await broker.replay([JobId("a")], now=NOW)
    assert (await look(broker, "a")).progress is None


# --- leases


async def test_workers_are_told_with_what_they_hold(home: Any, broker: Any) -> None:
    held = await one(broker, "a")
    [found] = [view for view in await home.workers(now=NOW) if view.id == "w"]
    # One that takes messages as they come may hold more than it was given.
    assert found.owned == 1
    assert (found.host, found.pid, found.version, found.beat_at) == ("host", 1, "1.2", NOW)
    await settle(broker, settled(held, Done(b"1", NOW)))
    assert [view.owned for view in await home.workers(now=NOW)] == [0, 0]


async def test_what_a_lost_worker_held_goes_to_others(home: Any, broker: Any) -> None:
    needs(broker, "knows_workers", "finds_jobs")
    a, b = await one(broker, "a"), await one(broker, "b")
    await broker.cancel([JobId("b")], now=NOW, keep_until=LATER)
    await home.heartbeat(WorkerId("v"), lease=100, now=NOW + 11)
    [again] = (await claim(broker, "v", now=NOW + 11)).jobs
    assert (again.id, again.attempt, again.losses, again.claim) == ("a", 1, 1, 2)
    assert (await look(broker, "b")).status is JobStatus.CANCELLED
    for work in (
        lambda: claim(broker, "w", now=NOW + 11),
        lambda: settle(broker, settled(a, Done(b"1", NOW)), settled(b, Done(b"1", NOW))),
    ):
        with pytest.raises(LeaseLost):
            await work()
    # What goes back was not tried. An attempt that was judged ends the row of losses.
    await settle(broker, settled(again, Returned(NOW + 11)), worker="v")
    [again] = (await claim(broker, "v", now=NOW + 11)).jobs
    assert again.losses == 1
    await settle(broker, settled(again, Again(NOW + 11, b"e")), worker="v")
    [third] = (await claim(broker, "v", now=NOW + 11)).jobs
    assert (third.attempt, third.losses) == (2, 0)


async def test_a_worker_that_leaves_hands_back_at_once(home: Any, broker: Any) -> None:
    await one(broker, "a")
    await home.retire(WorkerId("w"), now=NOW + 1)
    [again] = (await claim(broker, "v", now=NOW + 1)).jobs
    assert (again.id, again.attempt, again.losses) == ("a", 1, 0)


# --- wake-ups


async def test_who_waits_is_told(home: Any, broker: Any) -> None:
    needs(broker, "finds_jobs")
    heard: asyncio.Queue[str] = asyncio.Queue()
    for channel in ("hf_jobs", "hf_w_w", "mine"):
        await home.listen(channel, lambda channel, _: heard.put_nowait(channel))
    held = await one(broker, "a", waiter="first")
    if not home.traits.embedded:
        assert heard.empty()
    while not heard.empty():
        heard.get_nowait()
    await broker.wait_for_jobs(WorkerId("w"), True)
    async with asyncio.timeout(10):
        await broker.send([job("b")])
        assert await heard.get() == "hf_jobs"
        await broker.cancel([JobId("a")], now=NOW, keep_until=LATER)
        assert await heard.get() == "hf_w_w"
        assert [view.id for view in await broker.look([JobId("a")], waiter="second")] == ["a"]
        await broker.look([JobId("a")], waiter="second")
        answer = await settle(broker, settled(held, Done(b"1", NOW, LATER)))
        assert list(answer.waiters) == [("first", "a"), ("second", "a")]
        await broker.look([JobId("b")], waiter="mine")
        if home.traits.name == "postgres" and home.traits.notifies:
            # A claim may have passed it over while this changed its row.
            assert await heard.get() == "hf_jobs"
        await broker.cancel([JobId("b")], now=NOW, keep_until=LATER)
        assert await heard.get() == "mine"


async def test_counts_are_those_of_what_was_asked(broker: Any) -> None:
    needs(broker, "finds_jobs")
    await broker.send([job("a", name="app:x"), job("b", queue="mail"), job("c", due_at=LATER)])
    await claim(broker, queues=["mail"])
    assert await broker.count(JobFilter()) == 3
    assert await broker.count(JobFilter(name="app:x")) == 1
    assert await broker.count(JobFilter(queue="mail")) == 1
    assert await broker.count(JobFilter(status=JobStatus.RUNNING)) == 1
    assert await broker.count(JobFilter(status=JobStatus.QUEUED)) == 2
    assert await broker.count(JobFilter(ids=[JobId("a"), JobId("z")])) == 1


async def test_jobs_are_found_by_the_whole_names_of_their_tasks_and_by_their_functions(broker: Any) -> None:
    names = {"a": "app.deep:Outer.inner", "b": "app:inner", "c": "own name", "d": "app:thinner"}
    await broker.send([job(id, name=name) for id, name in names.items()])

    async def found(name: str) -> list[str]:
        views = await broker.find(JobFilter(name=name))
        assert await broker.count(JobFilter(name=name)) == len(views)
        return sorted([view.id for view in views])

    assert await found("inner") == ["a", "b"]
    assert await found("Outer.inner") == await found("app.deep:Outer.inner") == ["a"]
    assert await found("own name") == ["c"]
    assert await found("Inner") == await found("name") == await found("app") == await found("") == []


async def test_a_claim_that_fails_late_has_claimed_nothing(bench: Bench) -> None:
    if bench.kind == "postgres":
        pytest.skip("a claim is one statement there")
    store = await bench.store()
    await enlist(store, "w")
    broker = store.broker()
    await broker.send([job("a"), job("b", due_at=LATER)])

    def refuse(action: int, first: str | None, second: str | None, *_: Any) -> int:
        return sqlite3.SQLITE_DENY if second == "min" else sqlite3.SQLITE_OK

    await store._do(lambda session: session._connection.set_authorizer(refuse))
    with pytest.raises(StoreError):
        await claim(broker)
    await store._do(lambda session: session._connection.set_authorizer(None))
    assert ids(await claim(broker)) == ["a"]
