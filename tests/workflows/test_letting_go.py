"""What a worker lets go of goes on elsewhere: nobody sleeps for ever, nobody runs twice, and one's trouble is one's own."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from holdfast import App, Status, Workflow, WorkflowParked, action, workflow
from holdfast.errors import ConfigurationError, StoreError, StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.model.instance import Claims, Commit, Committed, Park, Release
from holdfast.runtime import claiming, turns
from holdfast.runtime.worker import Worker

begun: Counter[str] = Counter()
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


@pytest.fixture(autouse=True)
def fresh_gates():
    begun.clear()
    gates.clear()


@action
async def pass_gate(name: str) -> str:
    begun[name] += 1
    await gates[name].wait()
    return name


@workflow
class TwoAndOne(Workflow):
    async def left(self) -> str:
        first = await pass_gate("first")
        return first + " " + await pass_gate("second")

    async def run(self) -> list[str]:
        return await asyncio.gather(self.left(), pass_gate("beside"))


@workflow
class OneAfterAnother(Workflow):
    async def run(self) -> str:
        first = await pass_gate("first")
        return first + " " + await pass_gate("second")


@workflow
class Busy(Workflow):
    async def run(self) -> str:
        return await pass_gate("busy")


@workflow
class SleepsAndActs(Workflow):
    async def run(self) -> str:
        await asyncio.sleep(2)
        return await pass_gate("after")


@workflow
class Adds(Workflow):
    async def run(self, n: int) -> int:
        await pass_gate("add")
        return n + 1


@workflow
class Listens(Workflow):
    async def run(self) -> str:
        return await self.receive("word")


@workflow
class Mumbles(Workflow):
    async def run(self) -> str:
        listener = await Listens().start()
        try:
            await listener.send("wo\0rd", "?")
        except ValueError as error:
            await listener.send("word", "refused")
            return f"{await listener.result()}: {error}"
        return "?"


@workflow
class Misnames(Workflow):
    async def run(self) -> str:
        try:
            await Listens().start(id="listens\0")
        except ConfigurationError as error:
            return str(error)
        return "?"


# --- draining


async def test_what_a_draining_worker_may_not_begin_another_goes_on_with(url: str):
    async with working(url) as leaving, asyncio.timeout(20):
        handle = await leaving_alone(leaving, TwoAndOne())
        await until(lambda: begun["first"] == begun["beside"] == 1)
        worker = leaving.worker
        worker.stop()
        await until(lambda: worker.owner._draining)
        before = len(await handle.history())
        gates["first"].set()
        # The second call is committed, and must not begin here any more.
        while len(await handle.history()) == before:
            await asyncio.sleep(0.005)
        gates["beside"].set()
        await gone(worker)
    assert begun["second"] == 0
    gates["second"].set()
    async with working(url) as other:
        assert await other.handle(handle.id).result(timeout=10) == ["first second", "beside"]


async def test_what_is_claimed_as_draining_begins_another_goes_on_with(url: str):
    async with working(url, queues="near") as first, working(url, queues="far") as second, asyncio.timeout(20):
        worker, claim = second.worker, second.store.claim
        await leaving_alone(second, Busy(), queue="far")
        handle = await leaving_alone(first, OneAfterAnother(), queue="near")
        gates["first"].set()
        await until(lambda: begun["busy"] == begun["second"] == 1)

        async def claim_and_drain(id: WorkerId, *, queues: Sequence[str], **rest: Any) -> Claims:
            claims = await claim(id, queues=["far", "near"], **rest)
            if claims.instances:
                worker.stop()
                await until(lambda: worker.owner._draining)
            return claims

        first.worker.stop(at_once=True)
        await gone(first.worker)
        second.store.claim = claim_and_drain
        await until(lambda: handle.id in worker.owner.residents)
        gates["busy"].set()
        await gone(worker)
    gates["second"].set()
    async with working(url) as third:
        assert await third.handle(handle.id).result(timeout=10) == "first second"
    assert begun["second"] == 2


# --- releasing


async def test_a_release_repeated_after_the_next_claim_gives_the_instance_to_nobody_else(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    """The answer to a release is lost, and its worker claims the instance again before it repeats that."""
    monkeypatch.setattr(turns, "EVICT_AFTER", 60.0)
    async with working(url) as before:
        handle = await leaving_alone(before, SleepsAndActs())
        await until(lambda: handle.id in before.worker.owner.residents)
        while len(await handle.history()) < 2:
            await asyncio.sleep(0.005)
    # Whoever takes it over has nothing to write but that it lets go of it.
    monkeypatch.setattr(turns, "EVICT_AFTER", 0.1)
    answers: list[Committed] = []
    async with (
        App("test", url=url, embedded_worker=False) as keeping,
        App("test", url=url, embedded_worker=False) as other,
        asyncio.timeout(20),
    ):
        commit, claim = keeping.store.commit, other.store.claim
        claims = 0

        async def commit_and_lose_the_answer(id: WorkerId, commits: Sequence[Commit]) -> Committed:
            answer = await commit(id, commits)
            if not any(each.instance == handle.id and isinstance(each.close, Release) for each in commits):
                return answer
            answers.append(answer)
            if len(answers) == 1:
                while (await handle.view()).owner != id:
                    await asyncio.sleep(0.005)
                await other.start_worker().ready.wait()
                raise StoreUnavailable("the answer is lost")
            # Who would take it now if it were free, has looked.
            before = claims
            while claims < before + 2:
                other.worker.owner.look()
                await asyncio.sleep(0.005)
            return answer

        async def claim_and_count(id: WorkerId, **rest: Any) -> Claims:
            nonlocal claims
            claimed = await claim(id, **rest)
            claims += 1
            return claimed

        keeping.store.commit, other.store.claim = commit_and_lose_the_answer, claim_and_count
        await keeping.start_worker().ready.wait()
        handle = keeping.handle(handle.id)
        await until(lambda: begun["after"] > 0)
        assert len(answers) == 2
        assert handle.id in keeping.worker.owner.residents
        assert handle.id not in other.worker.owner.residents
        assert (await handle.view()).owner == keeping.worker.owner.worker
        gates["after"].set()
        assert await handle.result() == "after"
        assert begun["after"] == 1


# --- being refused


@pytest.mark.parametrize("others", [0, 20])
async def test_an_instance_whose_commit_is_refused_is_parked_and_the_others_go_on(url: str, others: int):
    async with working(url, concurrent_per_worker=50) as app, asyncio.timeout(20):
        worker, commit = app.worker, app.store.commit
        handle, *rest = await app.client.start([Adds().start(n) for n in range(1 + others)], waiting=False)
        await until(lambda: begun["add"] == 1 + others)

        async def refuse_it(id: WorkerId, commits: Sequence[Commit]) -> Committed:
            if any(each.instance == handle.id and not isinstance(each.close, Park) for each in commits):
                raise StoreError("a row of it is too long")
            return await commit(id, commits)

        app.store.commit = refuse_it
        owner = worker.owner
        gates["add"].set()
        with pytest.raises(WorkflowParked, match="the store refuses what it did: a row of it is too long"):
            await handle.result()
        assert [await each.result() for each in rest] == [n + 2 for n in range(others)]
        assert await (await Adds().start(100)).result() == 101
        assert worker.owner is owner
        app.store.commit = commit
        await app.store.resume([handle.id], now=app.clock.now())
        assert await handle.result() == 1


async def test_a_message_under_a_name_no_store_could_keep_is_refused_where_it_is_sent(url: str):
    async with working(url) as app, asyncio.timeout(20):
        assert await Mumbles().run() == (
            "refused: a message's name is a text of 1 to 1000 characters, none of them for control, not 'wo\\x00rd'"
        )
        assert "text without control characters" in await Misnames().run()
        handle = await Listens().start()
        for name in ("wo\0rd", "", "x" * 1001):
            with pytest.raises(ValueError, match="a message's name is a text of 1 to 1000 characters"):
                await handle.send(name, 1)
        await handle.cancel()
        assert await handle.wait() is Status.CANCELLED
        assert app.worker.owner is not None


# --- having room


@pytest.mark.parametrize("how", ["ends", "waits"])
async def test_a_full_worker_that_gets_room_takes_at_once_what_waited(
    postgres_url: str, how: str, monkeypatch: pytest.MonkeyPatch
):
    @workflow
    class Leaves(Workflow):
        async def run(self) -> None:
            while await self.receive_or_tick():
                pass
            if how == "waits":
                await self.receive("leave")

        async def receive_or_tick(self) -> bool:
            try:
                await self.receive("leave", timeout=0.5)
            except TimeoutError:
                return True
            return False

    monkeypatch.setattr(claiming, "FULL_POLL", 60.0)
    # Of actions too there are as many as it may run: none of them ends.
    settings = {"max_instances": 20, "concurrent_per_worker": 1, "poll_interval_ms": 60_000}
    async with (
        App("elsewhere", url=postgres_url, embedded_worker=False) as elsewhere,
        working(postgres_url, **settings) as full,
        asyncio.timeout(20),
    ):
        busy = await leaving_alone(full, Busy())
        await until(lambda: begun["busy"] == 1)
        leaving = await full.client.start([Leaves().start() for _ in range(17)], waiting=False)
        await until(lambda: len(full.worker.owner.residents) == 18)
        waiting = await leaving_alone(elsewhere, TwoAndOne())
        # It has heard of that, and goes on waiting for room.
        await until(lambda: full.worker.owner.claiming._hungry)
        assert (await waiting.view()).owner is None
        for each in leaving:
            await full.handle(each.id).send("leave", True)
        while (await waiting.view()).owner is None:
            await asyncio.sleep(0.005)
        assert begun["busy"] == 1
        for gate in ("busy", "first", "second", "beside"):
            gates[gate].set()
        assert await busy.result() == "busy"
        assert await full.handle(waiting.id).result() == ["first second", "beside"]


@asynccontextmanager
async def working(url: str, **settings: Any):
    app = App("test", url=url, embedded_worker=False, **settings)
    async with app:
        await app.start_worker().ready.wait()
        yield app


async def leaving_alone(app: App, run: Workflow, **options: Any) -> Any:
    """A handle of a new instance, without waiting for its end."""
    (handle,) = await app.client.start([run.start(**options)], waiting=False)
    return handle


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.005)


async def gone(worker: Worker) -> None:
    """Return once a worker that was told to stop has done so."""
    await until(lambda: worker.owner is None)
