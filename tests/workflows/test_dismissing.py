"""Instances that cannot go on are cancelled and deleted all the same, whether anybody works or not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.workflows.test_running import overwrite

from holdfast import (
    App,
    HoldfastError,
    InstanceNotFound,
    Overlap,
    Status,
    Workflow,
    WorkflowCancelled,
    action,
    workflow,
)
from holdfast.codec import dumps
from holdfast.ids import WorkerId
from holdfast.ports import Enlistment
from holdfast.runtime import dismissing
from holdfast.runtime.resident import entries_of

NONSENSE = b'{"full": {"m": {"n": 1, "cancel": false, "root": 1}, "b1": 5}, "notes": []}'


@action
async def lingering() -> None:
    await asyncio.sleep(600)


@workflow
class Waits(Workflow):
    async def run(self) -> str:
        try:
            return await self.receive("word")
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise


@workflow
class Parent(Workflow):
    async def run(self, child: str) -> str:
        try:
            handle = await Waits().start(id=child)
            return await handle.result()
        except asyncio.CancelledError as error:
            return f"heard {error!r}"


@workflow
class Awaits(Workflow):
    async def run(self) -> str:
        return await Waits().run()


@workflow
class Starts(Workflow):
    async def run(self, child: str) -> str:
        handle = await Waits().start(id=child)
        return handle.id


@workflow
class Stubborn(Workflow):
    async def run(self, how: str) -> None:
        while True:
            try:
                await self.receive("never")
            except asyncio.CancelledError:
                if how == "acts":
                    await lingering()


@asynccontextmanager
async def working(url: str):
    async with App("test", url=url, embedded_worker=False) as app, asyncio.timeout(20):
        await app.start_worker().ready.wait()
        yield app


async def until(app: App, id: str, status: Status) -> None:
    while await app.handle(id).status() is not status:
        await asyncio.sleep(0.01)


async def asleep(app: App, id: str) -> None:
    """Return once it waits in the store, and nobody holds it."""
    while len(await app.handle(id).history()) < 2 or (await app.handle(id).view()).owner is not None:
        await asyncio.sleep(0.01)


async def parked(app: App, id: str, payload: bytes = NONSENSE) -> None:
    """Damage an instance that sleeps, and wake it."""
    await asleep(app, id)
    await overwrite(app, id, payload)
    await app.handle(id).send("other")
    await until(app, id, Status.PARKED)


async def test_a_parked_instance_that_is_cancelled_ends_at_once(url: str):
    async with working(url) as app:
        handle = await Waits().start(id="a")
        await parked(app, "a")
        assert await handle.cancel() is True
        view = await handle.view()
        assert (view.status, view.owner, view.due_at) == (Status.CANCELLED, None, None)
        assert view.reason.startswith("cancelled while parked: its state cannot be read here")
        with pytest.raises(WorkflowCancelled, match="a was cancelled while parked: its state cannot be read here"):
            await handle.result()
        assert await handle.cancel() is False
        assert await app.store.resume(["a"], now=app.clock.now()) == []


async def test_cancelling_a_parked_instance_needs_no_worker(url: str):
    async with working(url) as app:
        await Waits().start(id="a")
        await Waits().start(id="b")
        await asleep(app, "b")
        await parked(app, "a")
        app.worker.stop()
        await app._working
        assert await app.client.cancel(["a", "b", "nobody"]) == {"a": True, "b": False}
        steps = await app.handle("a").history()
        assert [step.seq for step in steps] == list(range(len(steps)))


async def test_an_instance_that_is_cancelled_and_then_found_unreadable_ends_too(url: str):
    async with working(url) as app:
        handle = await Waits().start(id="a")
        await asleep(app, "a")
        await overwrite(app, "a", NONSENSE)
        waiting = asyncio.create_task(handle.wait())
        await asyncio.sleep(0.1)
        assert await handle.cancel() is True
        assert await waiting is Status.CANCELLED
        with pytest.raises(WorkflowCancelled, match="while parked: its state cannot be read here"):
            await handle.result()


async def test_a_parent_hears_that_its_parked_child_was_cancelled(url: str):
    async with working(url) as app:
        parent = await Parent().start("kid", id="parent")
        while (await app.client.store.view(["kid"])) == []:
            await asyncio.sleep(0.01)
        await asleep(app, "parent")
        await parked(app, "kid")
        assert await app.handle("kid").cancel()
        assert (await parent.result()).startswith("heard")


async def test_a_parked_instance_that_is_cancelled_gives_up_its_children(url: str):
    async with working(url) as app:
        await Awaits().start(id="a")
        await asleep(app, "a")
        (child,) = [view.id for view in await app.store.family(["a"]) if view.id != "a"]
        await asleep(app, child)
        # Its state is as it was, but for a wait that no release knows.
        state = entries_of(await app.handle("a").history())
        for key in [key for key in state if key[0] == "b"]:
            state[key] = {**state[key], "wait": ["nothing"]}
        await parked(app, "a", dumps({"full": state, "notes": []}))
        assert await app.handle("a").cancel()
        assert await app.handle(child).wait() is Status.CANCELLED


async def test_a_parked_child_that_its_parent_gives_up_ends(url: str):
    async with working(url) as app:
        parent = await Awaits().start(id="parent")
        await asleep(app, "parent")
        (child,) = [view.id for view in await app.store.family(["parent"]) if view.id != "parent"]
        await parked(app, child)
        assert await parent.cancel()
        assert await parent.wait() is Status.CANCELLED
        await until(app, child, Status.CANCELLED)


async def test_a_tick_that_replaces_the_one_before_ends_it_where_it_is_parked(url: str):
    async with working(url) as app:
        handle = await app.schedule(Waits, id="often", every=0.5, overlap=Overlap.CANCEL)
        while (first := await handle.last_instance()) is None:
            await asyncio.sleep(0.01)
        await handle.pause()
        if (first := await handle.last_instance()) is not None:
            await parked(app, first)
            await handle.resume()
            await until(app, first, Status.CANCELLED)


# --- deleting


async def test_an_ended_instance_is_deleted_with_its_family_and_its_id_is_free(url: str):
    async with working(url) as app:
        for _ in range(2):
            parent = await Parent().start("kid", id="parent")
            while not await app.store.view(["kid"]):
                await asyncio.sleep(0.01)
            await app.handle("kid").send("word", "hello")
            assert await parent.result() == "hello"
            await parent.delete()
            assert await app.store.view(["parent", "kid"]) == []
            assert await app.handle("parent").history() == []
        with pytest.raises(InstanceNotFound, match="parent"):
            await parent.delete()


async def test_a_living_instance_is_deleted_only_by_force_which_lets_it_end_first(url: str):
    async with working(url) as app:
        handle = await Waits().start(id="a")
        await asleep(app, "a")
        with pytest.raises(HoldfastError, match="instance a is not deleted: a lives"):
            await handle.delete()
        assert await handle.status() is Status.PENDING
        await handle.delete(force=True)
        with pytest.raises(InstanceNotFound):
            await handle.status()


async def test_a_family_of_which_one_lives_stays(url: str):
    async with working(url) as app:
        starts = await Starts().start("kid", id="a")
        await starts.wait()
        with pytest.raises(HoldfastError, match="instance a is not deleted: kid lives"):
            await starts.delete()
        assert {view.id for view in await app.store.view(["a", "kid"])} == {"a", "kid"}
        (done,) = await app.client.delete(["a"], force=True)
        assert (done.gone, list(done.living)) == (2, [])


async def test_a_parked_instance_is_deleted_and_whoever_waits_for_it_hears_of_it(url: str):
    async with working(url) as app:
        parent = await Parent().start("kid", id="parent")
        while not await app.store.view(["kid"]):
            await asyncio.sleep(0.01)
        await asleep(app, "parent")
        await parked(app, "kid")
        await app.handle("kid").delete()
        assert (await parent.result()).startswith("heard")
        assert await app.store.view(["kid"]) == []


async def test_what_nobody_works_on_is_deleted_by_force_without_a_worker(url: str):
    async with App("test", url=url, embedded_worker=False) as app:
        await Waits().start(id="new")
        done = {each.id: each.gone for each in await app.client.delete(["new", "ghost"], force=True)}
        assert done == {"new": 1}


async def test_force_ends_what_only_waits_and_leaves_what_a_worker_runs(url: str):
    async with working(url) as app:
        await Stubborn().start("waits", id="waits")
        await Stubborn().start("acts", id="acts")
        await asleep(app, "waits")
        await asleep(app, "acts")
        done = await dismissing.delete(app.store, ["waits", "acts"], clock=app.clock, force=True, patience=0.3)
        assert [(each.id, each.gone, [view.id for view in each.living]) for each in done] == [
            ("waits", 1, []),
            ("acts", 0, ["acts"]),
        ]


async def test_force_takes_what_a_dead_worker_held(url: str):
    async with App("test", url=url, embedded_worker=False) as app:
        await Waits().start(id="a")
        now = app.clock.now()
        await app.store.enlist(Enlistment(id=WorkerId("dead"), host="h", pid=1, queues=["*"], lease=0.01, now=now - 9))
        claims = await app.store.claim(WorkerId("dead"), queues=["*"], room=9, call_room=0, now=now)
        assert [one.id for one in claims.instances] == ["a"]
        await app.handle("a").delete(force=True)
        assert await app.store.view(["a"]) == []


@pytest.mark.parametrize("act", [lambda handle: handle.send("word", "x"), lambda handle: handle.cancel()])
async def test_an_id_that_never_was_is_not_taken_for_one_that_has_ended(url: str, act):
    async with working(url) as app:
        ended = await Waits().start(id="a")
        assert await ended.send("word", "enough")
        await ended.wait()
        assert await act(ended) is False
        with pytest.raises(InstanceNotFound, match="there is no instance 'A'"):
            await act(app.handle("A"))


async def test_a_message_that_arrives_costs_one_statement(postgres_url: str):
    async with App("test", url=postgres_url) as app:
        handle = await Waits().start(id="a")
        before = app.store.statements
        assert await handle.send("other")
        assert app.store.statements == before + 1
