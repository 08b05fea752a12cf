"""Jobs with a key on Service Bus: queues with sessions, their locks as leases, and what becomes of jobs that are put aside."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.backends.making import NOW, job
from tests.backends.test_servicebus import claimed, opened, settle, until, working
from tests.servicebus import ServiceBus, leaks_of_the_client, servicebus_emulator

from holdfast import App, RetryPolicy, TaskCancelled
from holdfast.backends.servicebus import aside, session, session_link, sessions
from holdfast.backends.servicebus.address import parse
from holdfast.backends.servicebus.aside import Aside, Note
from holdfast.backends.servicebus.letters import session_of
from holdfast.cli import main
from holdfast.errors import ConfigurationError, StoreUnavailable
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import Again, ClaimedJob, Done, Failed, Gate, JobFilter, Reason, Returned, Settlement
from holdfast.task import ACTIONS

_numbers = itertools.count()
ONE = Gate("key:one", limit=1)
TWO = Gate("key:two", limit=1)

# The real client never closes the socket of a connection that broke; it goes when it is collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _leaks() -> Iterator[None]:
    before = dict(ACTIONS)
    with leaks_of_the_client():
        yield
    ACTIONS.clear()
    ACTIONS.update(before)


@pytest.fixture
def place(servicebus: ServiceBus) -> Callable[..., str]:
    """Makes a queue, and one with sessions and these options; the URL of a broker whose default queue these are."""

    def make(**options: Any) -> str:
        name = f"keys-{os.getpid()}-{next(_numbers)}"
        servicebus.do("queue", name=name, options={"lock": 60})
        keyed = {"lock": 60, "sessions": True, "max_delivery_count": 2000, **options}
        servicebus.do("queue", name=f"{name}.keyed", options=keyed)
        return servicebus.url(queues=f"default:{name}")

    return make


def left(servicebus: ServiceBus, url: str) -> dict[str, int]:
    return servicebus.counts(parse(url).keyed("default"))


def held_sessions(servicebus: ServiceBus, url: str) -> dict[str, int]:
    return servicebus.do("sessions")["queues"][parse(url).keyed("default")]


def sessions_of(broker: Any) -> Any:
    """What accepts the sessions of the default queue."""
    return broker._intake._sources["default"][1]


# --- where they lie


def test_a_url_says_where_jobs_with_a_key_lie():
    found = parse("servicebus://shop?queues=default,mail:shop-mail&keyed=mail:shop-sessions&prefix=x-&sessions=3")
    assert [found.keyed(queue) for queue in ("default", "mail", "other")] == [
        "x-default.keyed",
        "shop-sessions",
        "x-other.keyed",
    ]
    assert [found.has_sessions(name) for name in ("x-default.keyed", "shop-sessions", "shop-mail")] == [
        True,
        True,
        False,
    ]
    assert found.sessions == 3
    for wrong in (
        "keyed=mail",
        "keyed=mail:",
        "keyed=:x",
        "keyed=a:b%20d",
        "sessions=0",
        "sessions=many",
        "sessions=2000",
    ):
        with pytest.raises(ConfigurationError):
            parse(f"servicebus://shop?{wrong}")


def test_a_key_of_any_length_is_a_session():
    assert session_of("key:customer:7") == "key:customer:7"
    assert len(session_of("key:" + "k" * 400)) <= 128
    assert session_of("key:" + "k" * 400) != session_of("key:" + "k" * 401)
    assert session_of("nul \0").isprintable()


async def test_a_missing_queue_is_told_to_those_who_send_and_keeps_no_other_jobs_back(tmp_path: Path):
    with servicebus_emulator("--queue", "default", "--queue", "plain.keyed", "--no-auto-create") as own:
        async with opened(own.url()) as broker:
            with pytest.raises(ConfigurationError, match=r"no queue 'default.keyed'.*--enable-session true.*keyed="):
                await broker.send([job("a", gate=ONE)])
            await broker.send([job("b")])
            [held] = await claimed(broker)
            assert held.id == "b"
            assert await settle(broker, held, Done(b"1", NOW)) == 0
            assert await broker.find(JobFilter()) == []
            [missing] = await broker.lacks(keyed=["default"])
            assert "no queue 'default.keyed'" in missing
            [no_sessions] = await broker.lacks(keyed=["plain"])
            assert "'plain.keyed' has none" in no_sessions
        (tmp_path / "keyed_shop.py").write_text(
            f"from holdfast import App\napp = App('shop', url={own.url()!r})\n"
            "@app.task(key='{n}')\nasync def charge(n: int) -> None: ...\n"
        )
        said = await asyncio.to_thread(doctor, tmp_path)
        assert (said["ok"], said["checks"]["keys"]["ok"]) == (False, False)
        assert "az servicebus queue create --name default.keyed" in said["checks"]["keys"]["says"]
        own.do("queue", name="default.keyed", options={"sessions": True})
        assert "keys" not in (await asyncio.to_thread(doctor, tmp_path))["checks"]


def doctor(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "holdfast", "doctor", "--app", "keyed_shop:app", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)
    return {"ok": found["ok"], "checks": {check["check"]: check for check in found["checks"]}}


async def test_a_queue_without_sessions_cannot_be_used_for_keys_nor_one_with_them_for_others(servicebus: ServiceBus):
    for name, other in (("with", {"sessions": True}), ("with.keyed", {})):
        servicebus.do("queue", name=name, options=other)
    async with opened(servicebus.url(queues="default:with")) as broker:
        with pytest.raises(ConfigurationError, match="with sessions it takes jobs with a key alone"):
            async with asyncio.timeout(20):
                while True:
                    await broker.claim(WorkerId("w"), queues=["*"], room=1, now=NOW)
                    await asyncio.sleep(0.01)


# --- locks


async def test_who_lost_a_session_can_settle_nothing(place: Any, servicebus: ServiceBus):
    url = place(lock=60)
    async with opened(url) as slow, opened(url, "v") as quick:
        await slow.send([job("a", gate=ONE), job("b", gate=ONE)])
        [lost] = await claimed(slow)
        servicebus.move(60)
        [again] = await claimed(quick, worker="v")
        assert (again.id, again.attempt, again.claim, again.losses) == ("a", 1, 2, 1)
        for outcome in (Done(b"1", NOW), Again(NOW, b"{}"), Failed(Reason.FAILED, b"{}", NOW), Returned(NOW)):
            assert await settle(slow, lost, outcome) == 1
        assert left(servicebus, url) == {"locked": 1, "active": 1}
        assert await settle(quick, again, Done(b"1", NOW), worker="v") == 0
        [b] = await claimed(quick, worker="v")
        assert (b.id, b.losses) == ("b", 0)


async def test_a_worker_hears_that_its_session_is_lost(place: Any, servicebus: ServiceBus):
    url = place(lock=3)
    async with opened(url) as broker:
        heard = asyncio.Event()
        await broker.listen("hf_w_w", lambda *_: heard.set())
        await broker.send([job("a", gate=ONE)])
        [held] = await claimed(broker)
        assert await broker.unwanted(WorkerId("w"), [held.id]) == []
        servicebus.move(3)
        async with asyncio.timeout(20):
            await heard.wait()
        assert await broker.unwanted(WorkerId("w"), [held.id]) == ["a"]
        assert await settle(broker, held, Done(b"1", NOW)) == 1
        [again] = await claimed(broker)
        assert (again.id, again.losses) == ("a", 1)


async def test_a_session_is_kept_for_as_long_as_its_job_runs(place: Any, servicebus: ServiceBus):
    url = place(lock=2)
    async with opened(url) as broker:
        await broker.send([job("a", gate=ONE)])
        [held] = await claimed(broker)
        [serving] = sessions_of(broker)._serving
        since, times = serving._link._renewed, 0
        while times < 4:
            await until(lambda since=since: serving._link._renewed != since)
            since, times = serving._link._renewed, times + 1
        # By now the first lock would have ended.
        assert await settle(broker, held, Done(b"1", NOW)) == 0
        assert left(servicebus, url) == {}


async def test_a_session_that_cannot_be_renewed_is_lost_in_time(place: Any):
    with servicebus_emulator("--queue", "default", "--queue", "default.keyed:lock=5,sessions=true") as own:
        async with opened(own.url(timeout="1")) as broker:
            await broker.send([job("a", gate=ONE)])
            [held] = await claimed(broker)
            own.do("bounce", refuse=30)
            async with asyncio.timeout(20):
                while not await broker.unwanted(WorkerId("w"), [held.id]):
                    await asyncio.sleep(0.02)


async def test_an_empty_session_is_left_and_forgotten(place: Any, servicebus: ServiceBus):
    url = place()
    async with opened(url) as broker:
        await broker.send([job("a", gate=ONE)])
        [held] = await claimed(broker)
        assert await settle(broker, held, Again(NOW + 1, b"{}")) == 0
        [held] = await claimed(broker)
        assert held.attempt == 2
        assert await settle(broker, held, Done(b"1", NOW)) == 0
        await broker.claim(WorkerId("w"), queues=["*"], room=1, now=NOW)
        await until(lambda: held_sessions(servicebus, url) == {"free": 0, "held": 0})
        assert left(servicebus, url) == {}


async def test_a_drain_gives_sessions_back_at_once_and_counts_nothing(place: Any, servicebus: ServiceBus):
    url = place(lock=300)
    async with opened(url) as broker, opened(url, "v") as other:
        await broker.send([job("a", gate=ONE), job("b", gate=ONE), job("x", gate=TWO)])
        held = {each.id: each for each in await claimed(broker, 2)}
        assert await settle(broker, held["a"], Again(NOW, b"{}")) == 0
        # It has kept its place, and is in hand again.
        [again] = await claimed(broker)
        assert (again.id, again.attempt) == ("a", 2)
        await broker.retire(WorkerId("w"), now=NOW)
        found = {each.id: each for each in await claimed(other, 2, worker="v")}
        assert {id: (each.attempt, each.losses) for id, each in found.items()} == {"a": (2, 0), "x": (1, 0)}


async def test_a_job_that_nobody_claims_is_given_back(
    place: Any, servicebus: ServiceBus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session, "UNCLAIMED", 0.2)
    url = place(lock=300)
    async with opened(url) as broker:
        await broker.send([job("a", gate=ONE)])
        await broker.claim(WorkerId("w"), queues=["*"], room=1, now=NOW)
        await until(lambda: bool(sessions_of(broker).waiting))
        await until(lambda: held_sessions(servicebus, url) == {"free": 1, "held": 0})
        assert sessions_of(broker).waiting == []
        [held] = await claimed(broker)
        assert (held.id, held.losses) == ("a", 0)


async def test_a_suspect_waits_for_a_moment_in_its_place(place: Any):
    url = place(lock=300)
    async with opened(url) as broker:

        async def claim() -> ClaimedJob:
            while not (found := (await broker.claim(WorkerId("w"), queues=["*"], room=1, now=time.time())).jobs):
                await asyncio.sleep(0.01)
            return found[0]

        await broker.send([job("a", gate=ONE), job("b", gate=ONE)])
        held = await claim()
        until_then = time.time() + 0.5
        assert await settle(broker, held, Returned(until_then)) == 0
        again = await claim()
        assert (again.id, again.attempt, again.losses) == ("a", 1, 0)
        assert time.time() >= until_then


async def test_sessions_are_left_before_the_client_waits_for_ever(place: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session_link, "REQUESTS", 4)
    # The client gives the replies over a link so much credit, once.
    monkeypatch.setattr("azure.servicebus._pyamqp.aio._link_async.DEFAULT_LINK_CREDIT", 6)
    async with opened(place()) as broker:
        await broker.send([job(f"j{n:02}", gate=ONE) for n in range(12)])
        seen: set[Any] = set()
        for n in range(12):
            [held] = await claimed(broker)
            assert held.id == f"j{n:02}"
            seen |= sessions_of(broker)._serving
            assert await settle(broker, held, Done(b"1", NOW)) == 0
        assert len(seen) >= 4


async def test_a_job_that_outlives_its_link_loses_its_session(place: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session_link, "LAST_REQUESTS", 2)
    async with opened(place(lock=2)) as broker:
        await broker.send([job("a", gate=ONE)])
        [held] = await claimed(broker)
        async with asyncio.timeout(20):
            while not await broker.unwanted(WorkerId("w"), [held.id]):
                await asyncio.sleep(0.02)


async def test_an_idle_queue_is_waited_for_again_and_again(
    place: Any, servicebus: ServiceBus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sessions, "LONG", 0.3)
    async with opened(place()) as broker:
        times = 0
        accept = sessions.Sessions._accept

        async def counted(self: Any) -> Any:
            nonlocal times
            times += 1
            return await accept(self)

        monkeypatch.setattr(sessions.Sessions, "_accept", counted)
        await broker.claim(WorkerId("w"), queues=["*"], room=5, now=NOW)
        await until(lambda: times > 2)
        await broker.send([job("a", gate=ONE)])
        assert [held.id for held in await claimed(broker)] == ["a"]


# --- beside others


async def test_no_more_sessions_are_held_than_the_url_says(place: Any, servicebus: ServiceBus):
    url = place() + "&sessions=2"
    async with opened(url) as broker:
        await broker.send([job(f"j{n}", gate=Gate(f"key:{n}", limit=1)) for n in range(5)])
        done: list[str] = []
        while len(done) < 5:
            for held in await claimed(broker, min(2, 5 - len(done))):
                assert held_sessions(servicebus, url)["held"] <= 2
                done.append(held.id)
                assert await settle(broker, held, Done(b"1", NOW)) == 0
        assert sorted(done) == [f"j{n}" for n in range(5)]


async def test_a_session_with_much_to_do_makes_room_for_others(place: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "TURN", 0.0)
    async with opened(place() + "&sessions=1") as broker:
        await broker.send([job(f"a{n}", gate=ONE) for n in range(5)])
        await broker.send([job("b", gate=TWO)])
        done: list[str] = []
        while "b" not in done:
            [held] = await claimed(broker)
            done.append(held.id)
            assert await settle(broker, held, Done(b"1", NOW)) == 0
        assert done[:-1] == [f"a{n}" for n in range(len(done) - 1)]
        assert len(done) < 6


async def test_jobs_with_a_key_and_those_without_do_not_starve_each_other(place: Any):
    """A worker with room for one job at a time, and more to do of both kinds than it can."""
    async with opened(place()) as broker:
        await broker.send([job(f"free{n}", payload=b"") for n in range(4000)])
        await broker.send([job(f"key{n}", gate=Gate(f"key:{n % 40}", limit=1)) for n in range(400)])
        done = {"free": 0, "key": 0}
        async with asyncio.timeout(60):
            while min(done.values()) < 10:
                [held] = await claimed(broker)
                done["key" if held.gate else "free"] += 1
                assert await settle(broker, held, Done(b"1", NOW)) == 0
        assert done["free"] < 4000
        assert done["key"] < 400


# --- put aside


def test_what_is_put_aside_is_read_as_it_was_written():
    notes = Aside({})
    notes.put(7, Note(10.0, 2, 1, 0, '{"é":1}'))
    notes.put(3, Note(20.0, 4, 3, 1, None))
    again = Aside.read(notes.written())
    assert [(number, again.get(number)) for number in again] == [(number, notes.get(number)) for number in notes]
    assert (again.due(5.0), again.due(10.0), again.due(20.0)) == ([], [7], [3, 7])
    assert [again.drop(3), again.drop(3), again.drop(7)] == [True, False, True]
    assert again.written() is None
    for strange in (
        None,
        b"",
        b"\xff",
        b"[]",
        b'{"mark": "other", "notes": 1}',
        b'{"mark": "hf1", "notes": {"a": []}}',
    ):
        assert list(Aside.read(strange)) == []


def test_a_state_stays_within_what_service_bus_takes():
    notes = Aside(
        {number: Note(1e9, 9, 9, 2, "e" * aside.ERROR_LIMIT) for number in range(10**15, 10**15 + aside.MOST)}
    )
    state = notes.written()
    assert state is not None
    assert len(state) < 200_000
    assert not notes.has_room(1)
    assert notes.has_room(10**15)


async def test_beyond_so_many_another_attempt_is_another_message(
    place: Any, servicebus: ServiceBus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(aside, "MOST", 1)
    url = place(duplicate_window=600)
    async with opened(url) as broker:
        await broker.send([job("a", gate=ONE), job("b", gate=ONE)])
        later = servicebus.moment(900).timestamp()
        for id in "ab":
            [held] = await claimed(broker)
            assert held.id == id
            assert await settle(broker, held, Again(later, b"{}")) == 0
        assert left(servicebus, url) == {"deferred": 1, "scheduled": 2}
        servicebus.move(901)
        for id in "ab":
            [held] = await claimed(broker)
            assert (held.id, held.attempt, held.losses) == (id, 2, 0)
            assert await settle(broker, held, Done(b"1", NOW)) == 0
        await until(lambda: left(servicebus, url) == {})


async def test_a_settlement_is_asked_for_again_while_what_wakes_it_cannot_be_sent(place: Any, servicebus: ServiceBus):
    url = place()
    async with opened(url) as broker:
        await broker.send([job("a", gate=ONE)])
        [held] = await claimed(broker)
        outbox = broker._links.outbox(parse(url).keyed("default"))
        send, refused = outbox.send, []

        async def refuse(messages: Any) -> None:
            if not refused:
                refused.append(messages)
                raise StoreUnavailable("not now")
            await send(messages)

        outbox.send = refuse
        later = servicebus.moment(900).timestamp()
        with pytest.raises(StoreUnavailable):
            await settle(broker, held, Again(later, b"{}"))
        assert await settle(broker, held, Again(later, b"{}")) == 0
        assert left(servicebus, url) == {"deferred": 1, "scheduled": 1}


# --- tasks


class Crowd:
    """Counts who is inside at once."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.order: list[Any] = []

    async def pass_through(self, what: Any) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.order.append(what)
        await asyncio.sleep(0.001)
        self.inside -= 1


async def test_tasks_of_one_key_run_one_by_one_in_order_beside_those_of_others(place: Any, servicebus: ServiceBus):
    url = place()
    crowds = {"a": Crowd(), "b": Crowd()}
    free = Crowd()
    async with working(url) as app:

        @app.task(key="customer:{customer}", result_ttl=0)
        async def charge(n: int, customer: str) -> None:
            await crowds[customer].pass_through(n)

        @app.task(result_ttl=0)
        async def other(n: int) -> None:
            await free.pass_through(n)

        await app.start_worker().ready.wait()
        await charge.starmap([(n, "ab"[n % 2]) for n in range(60)])
        await other.map(range(30))
        await other.options(key="customer:a").delay(99)
        await until(lambda: sum(len(each.order) for each in (*crowds.values(), free)) == 91)
        # Whatever runs when its App closes would come again.
        await until(lambda: left(servicebus, url) == {})
    assert (crowds["a"].most, crowds["b"].most) == (1, 1)
    assert crowds["a"].order == list(range(0, 60, 2))
    assert crowds["b"].order == list(range(1, 60, 2))


async def test_a_task_that_fails_gives_way_and_then_comes_before_the_others(place: Any, servicebus: ServiceBus):
    url = place()
    ran: list[str] = []
    gate = asyncio.Event()
    async with working(url) as app:

        @app.task(key="one", retry=RetryPolicy(attempts=2, delay=0.3), result_ttl=0)
        async def run(name: str) -> None:
            ran.append(name)
            if ran == ["first"]:
                raise ValueError("not yet")
            if name == "second":
                await gate.wait()

        await app.start_worker().ready.wait()
        await run.map(["first", "second", "third"])
        await until(lambda: ran == ["first", "second"])
        # It is due long before this one ends.
        due = asyncio.get_running_loop().time() + 1.0
        await until(lambda: asyncio.get_running_loop().time() > due)
        gate.set()
        await until(lambda: len(ran) == 4)
    assert ran == ["first", "second", "first", "third"]


async def test_a_task_whose_session_is_lost_is_stopped_and_run_again(place: Any, servicebus: ServiceBus):
    url = place(lock=3)
    ran: list[str] = []
    async with working(url) as app:

        @app.task(key="one", result_ttl=0)
        async def run() -> None:
            ran.append("begun")
            if len(ran) > 1:
                return
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ran.append("stopped")
                raise

        await app.start_worker().ready.wait()
        await run.delay()
        await until(lambda: ran == ["begun"])
        servicebus.move(3)
        await until(lambda: len(ran) == 3)
        assert ran.count("stopped") == 1
        await until(lambda: left(servicebus, url) == {})


async def test_one_that_is_cancelled_behind_others_does_not_run(place: Any, tmp_path: Path):
    ran: list[int] = []
    gate = asyncio.Event()
    async with App("test", url=f"sqlite:///{tmp_path}/keys.db", tasks_url=place(), concurrent_per_worker=20) as app:

        @app.task(key="one")
        async def run(n: int) -> int:
            ran.append(n)
            await gate.wait()
            return n

        await app.start_worker().ready.wait()
        handles = await run.map([0, 1, 2])
        await until(lambda: ran == [0])
        await handles[1].cancel()
        gate.set()
        assert await handles[2].get(timeout=20) == 2
        with pytest.raises(TaskCancelled):
            await handles[1].get(timeout=20)
    assert ran == [0, 2]


async def test_dead_letters_of_a_key_are_listed_and_replayed(place: Any, servicebus: ServiceBus):
    url = place()
    async with opened(url) as broker:
        await broker.send([job("a", gate=ONE), job("b")])
        for held in await claimed(broker, 2):
            await settle(broker, held, Failed(Reason.FAILED, b"{}", NOW))
        assert left(servicebus, url) == {"dead": 1}
        await broker.claim(WorkerId("w"), queues=["*"], room=0, now=NOW)
    runner = CliRunner()
    listed = await asyncio.to_thread(runner.invoke, main, ["dlq", "list", "--url", url, "--json"])
    assert {row["id"] for row in json.loads(listed.output)} == {"a", "b"}
    async with opened(url) as broker:
        assert await broker.replay([JobId("a"), JobId("b")], now=NOW) == ["a", "b"]
        found: dict[str, ClaimedJob] = {held.id: held for held in await claimed(broker, 2)}
        assert found["a"].gate == ONE
        assert found["b"].gate is None
        settled = [Settlement(held.id, held.claim, Done(b"1", NOW)) for held in found.values()]
        assert not (await broker.settle(WorkerId("w"), settled)).lost
        assert left(servicebus, url) == {}


async def test_keys_keep_their_order_over_cut_connections():
    with servicebus_emulator("--queue", "default:lock=5", "--queue", "default.keyed:lock=5,sessions=true") as own:
        ran: dict[str, list[int]] = {"a": [], "b": []}
        async with working(own.url()) as app:

            @app.task(key="{name}", result_ttl=0)
            async def note(name: str, n: int) -> None:
                ran[name].append(n)
                await asyncio.sleep(0.01)

            await app.start_worker().ready.wait()
            await note.starmap([("ab"[n % 2], n) for n in range(40)])
            for least in (8, 24):
                await until(lambda least=least: sum(map(len, ran.values())) >= least, 60)
                own.do("bounce", refuse=0.2)
            await until(lambda: own.counts("default.keyed") == {}, 60)
        for name, numbers in ran.items():
            # What was in hand when the link broke ran twice; nothing was overtaken.
            assert numbers == sorted(numbers)
            assert set(numbers) == set(range("ab".index(name), 40, 2))


# --- workers that are killed

WORKER = """
import asyncio, os, signal, sys
from holdfast import App, RetryPolicy, current_job
from holdfast.backends.servicebus.line import Line
from holdfast.backends.servicebus.session_link import SessionLink
from holdfast.backends.servicebus.sessions import Sessions

point, url, audit = sys.argv[1:]
app = App("killed", url=url, log_level="error")

def note(word):
    with open(audit, "a") as file:
        file.write(word + "\\n")

def dies():
    note(f"killed {point}")
    os.kill(os.getpid(), signal.SIGKILL)

@app.task(key="one", retry=RetryPolicy(attempts=9, delay=1.0), result_ttl=0, name="killed:work")
async def work(n):
    attempt = current_job().attempt
    note(f"begin {n} {attempt}")
    if point == "run" or point == "run again" and attempt == 2:
        dies()
    if n == 1 and attempt == 1:
        raise ValueError("not yet")
    note(f"end {n}")

def die_around(kind, verb, before=None, after=None):
    done = getattr(kind, verb)
    async def act(self, *args):
        if point == before:
            dies()
        result = await done(self, *args)
        if point == after:
            dies()
        return result
    setattr(kind, verb, act)

if point == "claim":
    Sessions.take = lambda *_: dies()
die_around(Line, "put_aside", before="before it is put aside", after="after it was put aside")
die_around(SessionLink, "write", after="noted")
die_around(SessionLink, "send_wake_up", after="woken")
if point == "gone":
    # The message of an attempt that was put aside goes, and nobody can say so any more.
    async def die(self, number):
        if self._aside.get(number):
            dies()
    Line._forget = die

async def main():
    async with app:
        if point == "send":
            await work.map([1, 2, 3])
            return
        app.start_worker()
        while True:
            await asyncio.sleep(0.05)
            if point == "none" and os.path.exists(audit + ".enough"):
                return

asyncio.run(main())
"""


def start(point: str, url: str, audit: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, point, url, str(audit)])


@pytest.mark.parametrize(
    "point",
    ["claim", "run", "before it is put aside", "noted", "woken", "after it was put aside", "run again", "gone"],
)
async def test_a_killed_workers_session_goes_on_where_it_was(tmp_path: Path, point: str):
    audit = tmp_path / "audit"
    audit.touch()
    keyed = "lock=4,sessions=true,duplicate-window=600,max-delivery-count=2000"
    with servicebus_emulator("--queue", "default:lock=4", "--queue", f"default.keyed:{keyed}") as own:
        assert start("send", own.url(), audit).wait(30) == 0
        killed = start(point, own.url(), audit)
        await until(lambda: killed.poll() is not None, 60)
        assert killed.returncode == -9
        other = start("none", own.url(), audit)
        try:
            await until(lambda: own.counts("default.keyed") == {}, 60)
            # Nothing is left of the session's state either.
            await until(lambda: own.do("sessions")["queues"]["default.keyed"] == {"free": 0, "held": 0}, 60)
        finally:
            Path(f"{audit}.enough").touch()
            other.wait(30)
    lines = audit.read_text().splitlines()
    assert [lines.count(f"end {n}") for n in (1, 2, 3)] == [1, 1, 1]
    assert lines.index("end 2") < lines.index("end 3")
    # The attempts go on where they were, whatever was lost.
    assert "begin 1 2" in lines
    assert not any(line.startswith("begin 1 ") and int(line.split()[2]) > 2 for line in lines)
    assert lines.count("begin 1 2") == (2 if point == "run again" else 1)


RACER = """
import asyncio, os, sys
from holdfast import App

url, audit = sys.argv[1:]
app = App("racing", url=url, log_level="error", concurrent_per_worker=4)

@app.task(key="{key}", result_ttl=0, name="racing:work")
async def work(key, n):
    with open(audit, "a") as file:
        file.write(f"begin {key} {n}\\n")
    await asyncio.sleep(0.03)
    with open(audit, "a") as file:
        file.write(f"end {key} {n}\\n")

async def main():
    async with app:
        app.start_worker()
        while not os.path.exists(audit + ".enough"):
            await asyncio.sleep(0.05)

asyncio.run(main())
"""


async def test_no_key_is_overtaken_while_workers_are_killed(tmp_path: Path):
    audit = tmp_path / "audit"
    audit.touch()

    def begin(url: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", RACER, url, str(audit)])

    def lines() -> list[str]:
        return audit.read_text().splitlines()

    keyed = "default.keyed:lock=3,sessions=true,max-delivery-count=2000"
    with servicebus_emulator("--queue", "default:lock=3", "--queue", keyed) as own:
        app = App("racing", url=own.url(), embedded_worker=False)
        async with app:

            @app.task(key="{key}", result_ttl=0, name="racing:work")
            async def work(key: str, n: int) -> None: ...

            await work.starmap([("abc"[n % 3], n) for n in range(150)])
        workers = [begin(own.url()) for _ in range(2)]
        try:
            for enough in (40, 140):
                await until(lambda enough=enough: len(lines()) >= enough, 60)
                victim = workers.pop(0)
                victim.kill()
                victim.wait()
                workers.append(begin(own.url()))
            await until(lambda: own.counts("default.keyed") == {}, 60)
        finally:
            Path(f"{audit}.enough").touch()
            for each in workers:
                each.wait(30)
    said = [line.split() for line in lines()]
    for key in "abc":
        course = [(word, int(n)) for word, name, n in said if name == key]
        numbers = [n for _, n in course]
        assert numbers == sorted(numbers)
        # What was killed before its message went ran again, before all that was sent after it, and beside nothing of its key.
        assert list(dict.fromkeys(n for word, n in course if word == "end")) == list(range("abc".index(key), 150, 3))
        for (before, earlier), (word, n) in itertools.pairwise(course):
            assert word == "end" or before == "end" or earlier == n
