"""Service Bus where it breaks: cut connections, restarts, settlements that get lost, workers that are killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backends.making import NOW, job
from tests.backends.test_servicebus import claimed, opened, settle, until, working
from tests.servicebus import ServiceBus, free_port, leaks_of_the_client, servicebus_emulator

from holdfast.errors import StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.model.job import Again, Done

# The real client never closes the socket of a connection that broke; it goes when it is collected.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _leaks() -> Iterator[None]:
    with leaks_of_the_client():
        yield


@pytest.fixture
def own() -> Iterator[ServiceBus]:
    """An emulator of the test's own, whose locks are short and which looks for duplicates."""
    with servicebus_emulator("--queue", "default:lock=5,duplicate-window=600") as running:
        yield running


async def patiently(act: Callable[[], Any]) -> Any:
    """What a worker does: ask again while the service is out of reach."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await act()
            except StoreUnavailable:
                await asyncio.sleep(0.05)


# --- what gets lost on the way


async def test_a_settlement_that_was_not_done_is_asked_for_again(own: ServiceBus):
    async with opened(own.url(timeout="1")) as broker:
        await broker.send([job("a")])
        [held] = await claimed(broker)
        own.do("swallow", what="settlements", count=2)
        with pytest.raises(StoreUnavailable):
            await settle(broker, held, Again(NOW, b"e"))
        assert await patiently(lambda: settle(broker, held, Again(NOW, b"e"))) == 0
        assert own.counts("default") == {"active": 1}


async def test_a_settlement_whose_answer_got_lost_happens_once(own: ServiceBus):
    async with opened(own.url(timeout="1")) as broker:
        await broker.send([job("a")])
        [held] = await claimed(broker)
        own.do("swallow", what="outcomes", count=2)
        # Asked again, it is not there any more; nobody can tell that from a lost lock.
        assert await patiently(lambda: settle(broker, held, Done(b"1", NOW), follow=[job("then")])) == 1
        assert own.counts("default") == {"active": 1}


async def test_a_message_whose_receipt_got_lost_is_sent_again_and_there_once(own: ServiceBus):
    async with opened(own.url(timeout="1")) as broker:
        own.do("swallow", what="receipts", count=1)
        assert await patiently(lambda: broker.send([job("a"), job("b")])) == ["a", "b"]
        assert own.counts("default") == {"active": 2}


# --- outages


async def test_everything_goes_on_after_cut_connections(own: ServiceBus):
    ran: list[int] = []
    async with working(own.url()) as app:

        @app.task(result_ttl=0)
        async def note(n: int) -> None:
            ran.append(n)

        await app.start_worker().ready.wait()
        for number in range(6):
            await patiently(lambda number=number: note.options(id=f"j{number}").delay(number))
            await until(lambda number=number: number in ran)
            if number % 2:
                own.do("bounce", refuse=0.3)
        await until(lambda: own.counts("default") == {}, 60)
        assert set(ran) == set(range(6))


async def test_work_goes_on_after_a_restart():
    port = free_port()
    arguments = ("--queue", "default:lock=5")
    ran: list[int] = []
    with servicebus_emulator(*arguments, port=port) as first:
        url = first.url()
        async with working(url) as app:

            @app.task(result_ttl=0)
            async def note(n: int) -> None:
                ran.append(n)

            await app.start_worker().ready.wait()
            await note.delay(1)
            await until(lambda: ran == [1])
            first.process.kill()
            first.process.wait()
            with pytest.raises(StoreUnavailable):
                await note.delay(2)
            with servicebus_emulator(*arguments, port=port) as second:
                await patiently(lambda: note.delay(3))
                await until(lambda: ran == [1, 3], 60)
                await until(lambda: second.counts("default") == {})


async def test_a_namespace_that_is_not_there_is_out_of_reach():
    with pytest.raises(StoreUnavailable, match="cannot be reached now"):
        async with opened(f"servicebus://127.0.0.1:{free_port()}?emulator=true&timeout=2"):
            pass


async def test_locks_that_cannot_be_renewed_are_lost_in_time(own: ServiceBus):
    async with opened(own.url(timeout="1")) as broker:
        await broker.send([job("a")])
        [held] = await claimed(broker)
        [its] = broker._holdings.of(WorkerId("w"))
        own.do("bounce", refuse=30)
        its.renewed -= its.lasts
        async with asyncio.timeout(20):
            while not await broker.unwanted(WorkerId("w"), [held.id]):
                await asyncio.sleep(0.02)


# --- workers that are killed

WORKER = """
import asyncio, os, signal, sys
from holdfast import App
from holdfast.backends.servicebus.broker import ServiceBusBroker
from holdfast.backends.servicebus.inbox import Inbox
from holdfast.backends.servicebus.settling import Settling
from holdfast.tasks import RESULT

point, url, audit = sys.argv[1:]
app = App("killed", url=url, log_level="error")

def note(word):
    with open(audit, "a") as file:
        file.write(word + "\\n")

def dies(*_, **__):
    note(f"killed {point}")
    os.kill(os.getpid(), signal.SIGKILL)

async def dies_later(*_, **__):
    dies()

@app.task(result_ttl=0, name="killed:then")
async def then(n):
    note(f"then {n}")

@app.task(result_ttl=0, name="killed:work")
async def work(n):
    note(f"begin {n}")
    if point == "run":
        dies()
    note(f"end {n}")
    return n

if point == "claim":
    Inbox.take = dies
if point == "before what follows is sent":
    Settling._send_after = dies_later
if point == "before the settlement":
    Settling._settle = dies_later
if point == "after the settlement":
    settle = ServiceBusBroker.settle
    async def settle_and_die(*args):
        await settle(*args)
        dies()
    ServiceBusBroker.settle = settle_and_die

async def main():
    async with app:
        if point == "send":
            await (work.s(1) >> then.s(RESULT)).delay()
            return
        worker = app.start_worker()
        while True:
            await asyncio.sleep(0.05)
            if point == "none" and os.path.exists(audit + ".enough"):
                return

asyncio.run(main())
"""


def start(point: str, url: str, audit: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, point, url, str(audit)])


@pytest.mark.parametrize(
    "point", ["claim", "run", "before what follows is sent", "before the settlement", "after the settlement"]
)
async def test_a_job_of_a_killed_worker_is_done_by_another(own: ServiceBus, tmp_path: Path, point: str):
    audit = tmp_path / "audit"
    audit.touch()
    assert start("send", own.url(), audit).wait(30) == 0
    killed = start(point, own.url(), audit)
    await until(lambda: killed.poll() is not None, 60)
    assert killed.returncode == -9
    other = start("none", own.url(), audit)
    try:
        await until(lambda: "then 1" in audit.read_text() and own.counts("default") == {}, 60)
    finally:
        Path(f"{audit}.enough").touch()
        other.wait(30)
    lines = audit.read_text().splitlines()
    # Until its message is removed, a job may run again; what follows it has one id, and is there once.
    assert lines.count("begin 1") == (1 if point in ("claim", "after the settlement") else 2)
    died = lines.index(f"killed {point}")
    early, after = lines[:died].count("then 1"), lines[died:].count("then 1")
    # The killed one may have begun with that itself, once it was sent; if it had not settled it, it comes again.
    assert (early, after) in [(0, 1), *([(1, 0), (1, 1)] if point.endswith("the settlement") else [])]
