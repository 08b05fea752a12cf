"""What is Service Bus's own: URLs, locks as leases, dead letters in its sub-queue, what it cannot do, how links are kept."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from tests.backends.making import NOW, enlist, job
from tests.servicebus import ServiceBus, leaks_of_the_client, servicebus_emulator

from holdfast import App, RetryPolicy
from holdfast.backends import keeps_workflows, open_broker, open_store
from holdfast.backends.servicebus import desk, letters
from holdfast.backends.servicebus.address import parse
from holdfast.backends.servicebus.deaths import shortened
from holdfast.codec import dumps, encode_exception, loads
from holdfast.errors import ConfigurationError, LeaseLost, StoreError, UnsupportedError
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Again, ClaimedJob, Done, Failed, Gate, JobFilter, JobStatus, Reason, Settlement
from holdfast.tasks import RESULT
from holdfast.tasks.dead import purge_dead, read_dead, replay_dead

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _leaks() -> Iterator[None]:
    with leaks_of_the_client():
        yield


@pytest.fixture
def place(servicebus: ServiceBus) -> Callable[..., str]:
    """Makes a queue with these options; the URL of a broker whose default queue that is."""

    def make(**options: Any) -> str:
        name = f"jobs-{os.getpid()}-{next(_numbers)}"
        servicebus.do("queue", name=name, options=options)
        return servicebus.url(queues=f"default:{name}")

    return make


@contextlib.asynccontextmanager
async def opened(url: str, worker: str | None = "w") -> AsyncIterator[Any]:
    broker: Any = open_broker(url)
    await broker.open()
    try:
        if worker is not None:
            await enlist(broker, worker)
        yield broker
    finally:
        await broker.close()


async def claimed(broker: Any, count: int = 1, worker: str = "w") -> list[ClaimedJob]:
    """So many jobs, once they are there."""
    found: list[ClaimedJob] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            answer = await broker.claim(WorkerId(worker), queues=["*"], room=count - len(found), now=NOW)
            found += answer.jobs
            await asyncio.sleep(0.01)
    return found


async def settle(broker: Any, held: ClaimedJob, outcome: Any, worker: str = "w", follow: Any = ()) -> int:
    answer = await broker.settle(WorkerId(worker), [Settlement(held.id, held.claim, outcome, follow)])
    return len(answer.lost)


async def until(there: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not there():
            await asyncio.sleep(0.02)


def entity_of(url: str) -> str:
    return parse(url).queues["default"]


# --- URLs


def test_a_url_says_where_and_as_whom():
    found = parse("servicebus://Root:a%2Bb%2Fc%3D@shop.servicebus.windows.net?queues=default,mail:shop-mail&prefix=x-")
    assert found.connection_string == (
        "Endpoint=sb://shop.servicebus.windows.net;SharedAccessKeyName=Root;SharedAccessKey=a+b/c="
    )
    assert [found.entity(queue) for queue in ("default", "mail", "other")] == ["x-default", "shop-mail", "x-other"]
    assert "a+b" not in repr(found)
    assert parse("servicebus://shop.servicebus.windows.net").connection_string is None
    local = parse("servicebus://127.0.0.1:5672?emulator=true").connection_string
    assert local is not None
    assert local.endswith("UseDevelopmentEmulator=true")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("servicebus://", "names no namespace"),
        ("servicebus://host/queue", "queues as"),
        ("servicebus://name@host", "a colon and its key"),
        ("servicebus://host?queues=", "names no queue"),
        ("servicebus://host?queues=a:", "write queues="),
        ("servicebus://host?queues=b%20d", "no queue of Service Bus"),
        ("servicebus://host?emulator=maybe", "emulator is true or false"),
        ("servicebus://host?timeout=soon", "no number of seconds"),
        ("servicebus://host?database=1", "no option database"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, says: str):
    with pytest.raises(ConfigurationError, match=says):
        parse(url)


def test_service_bus_keeps_no_workflows():
    url = "servicebus://shop.servicebus.windows.net"
    assert not keeps_workflows(url)
    with pytest.raises(ConfigurationError, match=r"Service Bus keeps no workflows.*tasks_url=servicebus://"):
        open_store(url)
    assert App("x", url="servicebus://root:secret@shop.servicebus.windows.net").place == (
        "servicebus://root@shop.servicebus.windows.net"
    )


async def test_a_missing_queue_is_named_with_who_makes_queues():
    with servicebus_emulator("--queue", "here", "--no-auto-create") as own:
        with pytest.raises(ConfigurationError, match=r"no queue 'gone'.*administers.*queues="):
            async with opened(own.url(queues="gone")):
                pass
        async with opened(own.url(queues="here")) as broker:
            with pytest.raises(ConfigurationError, match="no queue 'gone'"):
                await broker.send([job("a", queue="gone")])
            with pytest.raises(ConfigurationError, match="no queue 'gone'"):
                async with asyncio.timeout(20):
                    while True:
                        await broker.claim(WorkerId("w"), queues=["gone"], room=1, now=NOW)
                        await asyncio.sleep(0.01)


# --- locks


async def test_a_lost_lock_cannot_settle(place: Any, servicebus: ServiceBus):
    url = place(lock=60)
    async with opened(url) as slow, opened(url, "v") as quick:
        await slow.send([job("a")])
        [lost] = await claimed(slow)
        servicebus.move(60)
        [again] = await claimed(quick, worker="v")
        assert (again.attempt, again.claim, again.losses) == (1, 2, 1)
        assert await settle(slow, lost, Done(b"1", NOW)) == 1
        assert servicebus.counts(entity_of(url)) == {"locked": 1}
        assert await settle(quick, again, Done(b"1", NOW), worker="v") == 0
        assert servicebus.counts(entity_of(url)) == {}


async def test_a_worker_hears_that_its_lock_is_lost(place: Any, servicebus: ServiceBus):
    url = place(lock=3)
    async with opened(url) as broker:
        heard = asyncio.Event()
        await broker.listen("hf_w_w", lambda *_: heard.set())
        await broker.send([job("a")])
        [held] = await claimed(broker)
        assert await broker.unwanted(WorkerId("w"), [held.id]) == []
        servicebus.move(3)
        async with asyncio.timeout(20):
            await heard.wait()
        assert await broker.unwanted(WorkerId("w"), [held.id]) == ["a"]
        assert await settle(broker, held, Done(b"1", NOW)) == 1


async def test_a_lock_is_renewed_for_as_long_as_the_job_runs(place: Any, servicebus: ServiceBus):
    url = place(lock=2)
    async with opened(url) as broker:
        await broker.send([job("a")])
        [held] = await claimed(broker)
        [its] = broker._holdings.of(WorkerId("w"))
        since, times = its.renewed, 0
        while times < 4:
            await until(lambda since=since: its.renewed != since)
            since, times = its.renewed, times + 1
        # By now the first lock would have ended.
        assert await settle(broker, held, Done(b"1", NOW)) == 0
        assert servicebus.counts(entity_of(url)) == {}


async def test_a_blocked_event_loop_costs_no_lock(place: Any):
    url = place(lock=60)
    async with opened(url) as broker:
        await broker.send([job("a")])
        [held] = await claimed(broker)
        [its] = broker._holdings.of(WorkerId("w"))
        broker._left.set()
        its.renewed -= its.lasts / 2
        before = its.renewed

        def beat() -> None:
            async def once() -> None:
                beat = await broker.heartbeat(WorkerId("w"), lease=15, now=NOW)
                assert beat.alive
                await broker.close_thread()

            asyncio.run(once())

        await asyncio.to_thread(beat)
        assert its.renewed > before
        assert held.claim == 1


async def test_who_left_can_do_nothing(place: Any):
    async with opened(place()) as broker:
        await broker.retire(WorkerId("w"), now=NOW)
        assert not (await broker.heartbeat(WorkerId("w"), lease=1, now=NOW)).alive
        with pytest.raises(LeaseLost):
            await broker.claim(WorkerId("w"), queues=["*"], room=1, now=NOW)
        assert await broker.workers(now=NOW) == []


async def test_what_nobody_claimed_goes_back_with_the_last_worker(place: Any, servicebus: ServiceBus):
    url = place(lock=300)
    async with opened(url) as broker:
        await broker.send([job("a"), job("b"), job("c")])
        await broker.claim(WorkerId("w"), queues=["*"], room=3, now=NOW)
        await until(lambda: servicebus.counts(entity_of(url)) == {"locked": 3})
        await broker.retire(WorkerId("w"), now=NOW)
        await until(lambda: servicebus.counts(entity_of(url)) == {"active": 3})


async def test_two_messages_of_one_job_are_run_one_after_the_other(place: Any):
    async with opened(place()) as broker:
        await broker.send([job("a")])
        await broker.send([job("a")])
        [first] = await claimed(broker)
        for _ in range(20):
            assert (await broker.claim(WorkerId("w"), queues=["*"], room=5, now=NOW)).jobs == []
            await asyncio.sleep(0.01)
        assert await settle(broker, first, Done(b"1", NOW)) == 0
        [second] = await claimed(broker)
        assert second.id == "a"


# --- messages


async def test_sent_twice_it_is_there_once_where_the_queue_looks_for_duplicates(place: Any, servicebus: ServiceBus):
    url = place(duplicate_window=600)
    async with opened(url) as broker:
        await broker.send([job("a"), job("x" * 400)])
        await broker.send([job("a"), job("x" * 400)])
        first, long = await claimed(broker, 2)
        assert await settle(broker, first, Again(NOW, b"e"), follow=[job("then")]) == 0
        assert await settle(broker, long, Done(b"1", NOW), follow=[job("then")]) == 0
        assert sorted((held.id, held.attempt) for held in await claimed(broker, 2)) == [("a", 2), ("then", 1)]
        assert servicebus.counts(entity_of(url)) == {"locked": 2}


async def test_many_jobs_go_in_batches_of_the_allowed_size(place: Any, servicebus: ServiceBus):
    url = place()
    async with opened(url) as broker:
        await broker.send([job(f"j{number}", payload=bytes(100_000)) for number in range(30)])
        assert servicebus.counts(entity_of(url)) == {"active": 30}


async def test_what_is_too_large_is_refused_and_keeps_nobody_back(place: Any, servicebus: ServiceBus):
    url = place()
    async with opened(url) as broker:
        sends = [
            broker.send([job("a")]),
            broker.send([job("small"), job("huge", payload=bytes(1_100_000))]),
            broker.send([job("b")]),
        ]
        found = await asyncio.gather(*sends, return_exceptions=True)
        assert [found[0], found[2]] == [["a"], ["b"]]
        assert isinstance(found[1], StoreError)
        assert "keep it elsewhere, and send its name" in str(found[1])
        assert sorted(held.id for held in await claimed(broker, 2)) == ["a", "b"]
        assert servicebus.counts(entity_of(url)) == {"locked": 2}


async def test_names_that_are_no_text_are_refused(place: Any):
    async with opened(place()) as broker:
        with pytest.raises(StoreError, match="no text"):
            await broker.send([job("a", name="\ud800")])


def test_a_large_error_is_cut_and_stays_one():
    error = ValueError("boom")
    tree: Any = encode_exception(error)
    tree["traceback"] = "é\n" * 10_000 + "the last line"
    short: Any = loads(shortened(dumps(tree), 4000))
    assert (short["$"], short["args"]) == ("builtins:ValueError", ["boom"])
    assert short["traceback"].endswith("the last line")
    assert "too large" in json.dumps(loads(shortened(dumps(encode_exception(ValueError("x" * 9000))), 4000)))
    assert b"cannot be read" in shortened(b"\xff" * 9000, 4000)


# --- dead letters


async def test_a_dead_letter_says_why_in_the_brokers_own_queue(place: Any, servicebus: ServiceBus):
    url = place()
    error = dumps(encode_exception(ValueError("boom")))
    async with opened(url) as broker:
        await broker.send([job("a")])
        [held] = await claimed(broker)
        await settle(broker, held, Failed(Reason.FAILED, error, NOW + 1))
        [view] = await broker.find(JobFilter(status=JobStatus.DEAD))
        assert (view.reason, view.outcome, view.ended_at, view.attempt) == ("failed", error, NOW + 1, 1)
        assert [each.id for each in await broker.look([JobId("a"), JobId("b")])] == ["a"]
    async with ServiceBusClient.from_connection_string(servicebus.connection_string) as client:
        async with client.get_queue_receiver(entity_of(url), sub_queue="deadletter") as receiver:
            [message] = await receiver.receive_messages(max_wait_time=5)
            assert message.dead_letter_reason == "failed"
            assert "boom" in message.dead_letter_error_description
            assert (message.message_id, message.subject) == ("a", "app:send")


async def test_those_that_service_bus_buried_are_read_and_replayed(place: Any, servicebus: ServiceBus):
    url = place(lock=30, max_delivery_count=1)
    async with opened(url) as broker:
        await broker.send([job("a", expires_at=NOW - 5)])
        await claimed(broker)
        servicebus.move(30)
        await until(lambda: servicebus.counts(entity_of(url)) == {"dead": 1})
        [view] = await broker.find(JobFilter(reason=Reason.LOST))
        assert (view.id, view.ended_at) == ("a", None)
        assert "MaxDeliveryCountExceeded" in (view.outcome or b"").decode()
        assert await broker.replay([JobId("a")], now=NOW) == ["a"]
    async with opened(url, "v") as broker:
        [again] = await claimed(broker, worker="v")
        assert (again.id, again.attempt, again.losses, again.expires_at) == ("a", 1, 0, None)


async def test_dead_letters_are_taken_from_among_others(place: Any, servicebus: ServiceBus):
    url = place(lock=300)
    async with opened(url) as broker:
        await broker.send([job(f"j{number:02}") for number in range(30)])
        for held in await claimed(broker, 30):
            await settle(broker, held, Failed(Reason.FAILED, b"e", NOW))
        assert await broker.purge([JobId("j29"), JobId("j07"), JobId("none")]) == ["j29", "j07"]
        assert servicebus.counts(entity_of(url)) == {"dead": 28}
        assert len(await broker.replay([JobId(f"j{number:02}") for number in range(5)], now=NOW)) == 5
        assert servicebus.counts(entity_of(url)) == {"active": 5, "dead": 23}
        assert await broker.count(JobFilter(status=JobStatus.QUEUED)) == 5
        assert await broker.count(JobFilter()) == 28


# --- what it cannot do


async def test_what_service_bus_cannot_do_is_refused_with_what_to_do(place: Any):
    async with opened(place()) as broker:
        many, paced = {"gate": Gate("key:k", limit=2)}, {"gate": Gate("key:k", limit=1, interval=1.0)}
        for fields, words in (
            ({"priority": 3}, "queue of its own"),
            ({"unique": "u"}, "give id="),
            (many, "counts nothing.*a key= alone can"),
            (paced, "counts nothing"),
        ):
            with pytest.raises(UnsupportedError, match=words):
                await broker.send([job("a", **fields)])
        with pytest.raises(UnsupportedError, match="keeps no results"):
            await broker.look([JobId("a")], waiter="hf_c_1")
        with pytest.raises(UnsupportedError, match="expires="):
            await broker.cancel([JobId("a")], now=NOW, keep_until=None)
        with pytest.raises(UnsupportedError, match="ReceiveDisabled"):
            await broker.pause(["default"], now=NOW)
        with pytest.raises(UnsupportedError, match="Active"):
            await broker.resume(["default"])
        assert await broker.paused() == {}
        await broker.report(WorkerId("w"), {JobId("a"): b"1"})
        with pytest.raises(UnsupportedError, match="after the commit"):
            await broker.send_through(object(), [job("a")])
        with pytest.raises(UnsupportedError, match="does not tell which jobs are running"):
            await broker.find(JobFilter(status=JobStatus.RUNNING))
        await broker.send([job("a")])
        [held] = await claimed(broker)
        with pytest.raises(StoreError, match="what follows cannot be sent"):
            await settle(broker, held, Done(b"1", NOW), follow=[job("b", priority=1)])


# --- links


async def test_links_are_changed_before_the_client_waits_for_ever(place: Any, monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []
    monkeypatch.setattr(desk, "REQUESTS", 4)
    # The client gives the replies over a link so much credit, once.
    monkeypatch.setattr("azure.servicebus._pyamqp.aio._link_async.DEFAULT_LINK_CREDIT", 5)
    url = place()
    async with opened(url) as broker:
        links = broker._links
        connect = links.receiver
        monkeypatch.setattr(links, "receiver", lambda *args, **kwargs: made.append(args) or connect(*args, **kwargs))
        async with asyncio.timeout(30):
            for _ in range(11):
                assert await broker.count(JobFilter(status=JobStatus.QUEUED)) == 0
        assert made.count((entity_of(url),)) == 3


# --- tasks


@contextlib.asynccontextmanager
async def working(url: str, **options: Any) -> AsyncIterator[App]:
    app = App("test", url=url, concurrent_per_worker=20, **options)
    async with app:
        yield app


async def test_tasks_run_are_retried_and_followed(place: Any, servicebus: ServiceBus):
    url = place()
    ran: list[str] = []
    async with working(url) as app:

        @app.task(retry=RetryPolicy(attempts=3, delay=0.01), result_ttl=0)
        async def shaky(n: int) -> int:
            ran.append(f"shaky {n}")
            if len(ran) < 3:
                raise ValueError("not yet")
            return n + 1

        @app.task(result_ttl=0)
        async def then(n: int) -> None:
            ran.append(f"then {n}")

        await app.start_worker().ready.wait()
        await (shaky.s(1) >> then.s(RESULT)).delay()
        await until(lambda: "then 2" in ran)
        assert ran == ["shaky 1"] * 3 + ["then 2"]
        await until(lambda: servicebus.counts(entity_of(url)) == {})


async def test_what_cannot_run_is_dead_under_its_reason(place: Any, servicebus: ServiceBus):
    url = place()
    async with ServiceBusClient.from_connection_string(servicebus.connection_string) as client:
        async with client.get_queue_sender(entity_of(url)) as sender:
            await sender.send_messages([ServiceBusMessage(b"\x00 none of ours"), ServiceBusMessage(b'["hf1", 1]\n{}')])
    async with working(url, unknown_task_seconds=0) as app:

        @app.task(retries=0, result_ttl=0)
        async def fails() -> None:
            raise ValueError("boom")

        @app.task(result_ttl=0)
        async def late() -> None: ...

        await fails.delay()
        await late.options(expires=0.001).delay()
        await app.broker.send([job("u", name="nobody:knows", payload=b'{"args": [[], {}]}')])
        await app.start_worker().ready.wait()
        await until(lambda: servicebus.counts(entity_of(url)) == {"dead": 5})
        found = await read_dead(app)
        assert sorted(view.reason or "" for view in found) == [
            "expired",
            "failed",
            "unknown",
            "unreadable",
            "unreadable",
        ]
        assert await purge_dead(app, lambda view: view.reason == "unreadable") == 2
        [again] = await replay_dead(app, lambda view: view.reason == "failed")
        assert (await again.view()).name.endswith("fails")
        with pytest.raises(UnsupportedError, match="keeps no results"):
            await again.get()


async def test_a_letter_is_read_as_it_was_written(place: Any):
    written = letters.letter_of(job("é", name="x:y", due_at=NOW + 1, expires_at=NOW + 2))._replace(
        attempt=3, claims=5, losses=1, error=b'{"a"}\n', queue="default"
    )
    message: Any = letters.as_message(written._replace(due_at=NOW - 1))
    assert letters.read(message, "default") == written._replace(due_at=NOW - 1)
    assert message.message_id == "é~5"
