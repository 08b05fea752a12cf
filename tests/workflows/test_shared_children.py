"""Children under ids that exist already: every parent gets the one instance's outcome, and only its own may be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from holdfast import Status, Workflow, workflow
from holdfast.errors import ConfigurationError, StoreUnavailable
from holdfast.model.instance import InstanceFilter
from holdfast.testing import workflow_app


@workflow
class Kid(Workflow):
    async def run(self, n: int, *, fail: bool = False) -> int:
        answer = await self.receive("go")
        if fail:
            raise ValueError(f"no {n}")
        return n * answer


@workflow
class Other(Workflow):
    async def run(self) -> str:
        return "another workflow"


@workflow
class Waits(Workflow):
    async def run(self, id: str, *, fail: bool = False) -> Any:
        child = await Kid().start(3, fail=fail, id=id)
        try:
            return await child.result()
        except ValueError as error:
            return f"failed: {error}"


@workflow
class Runs(Workflow):
    async def run(self, id: str) -> Any:
        child = await Kid().start(3, id=id)
        return await child.result()


@workflow
class Impatient(Workflow):
    async def run(self, id: str) -> str:
        child = await Kid().start(3, id=id)
        try:
            return str(await asyncio.wait_for(child.result(), 60))
        except TimeoutError:
            return "gave up"


async def running(app: Any, id: str) -> None:
    async with asyncio.timeout(20):
        while not await app.store.view([id]):
            await asyncio.sleep(0.002)


async def test_two_parents_of_one_running_child_both_get_its_result(app):
    first = await Waits().start("kid")
    await running(app, "kid")
    second = await Waits().start("kid")
    third = await Runs().start("kid")
    await asyncio.sleep(0)
    await app.handle("kid").send("go", 5)
    results = await asyncio.gather(*(handle.result(timeout=20) for handle in (first, second, third)))
    assert results == [15, 15, 15]
    assert (await app.handle("kid").view()).parent == first.id


async def test_a_child_that_ended_before_gives_its_result_at_once(app):
    await Kid().start(3, id="kid")
    await app.handle("kid").send("go", 5)
    assert await app.handle("kid").result(timeout=20) == 15
    assert await Waits().run("kid") == 15
    assert await Runs().run("kid") == 15


async def test_the_error_of_a_shared_child_reaches_every_parent(app):
    first = await Waits().start("kid", fail=True)
    await running(app, "kid")
    second = await Waits().start("kid", fail=True)
    await app.handle("kid").send("go", 5)
    assert [await handle.result(timeout=20) for handle in (first, second)] == ["failed: no 3"] * 2


async def test_one_parent_may_ask_for_one_child_twice(app):
    @workflow
    class Twice(Workflow):
        async def run(self) -> list[int]:
            child = await Kid().start(3, id="kid")
            again = await Kid().start(3, id="kid")
            both = await asyncio.gather(child.result(), again.result())
            later = await Kid().start(3, id="kid")
            return [*both, await later.result()]

    parent = await Twice().start()
    await running(app, "kid")
    await app.handle("kid").send("go", 2)
    assert await parent.result(timeout=20) == [6, 6, 6]


async def test_a_parent_that_gives_up_cancels_only_a_child_it_started(app):
    """The id of a child that was not given one follows from its parent; somebody else may have had the same idea."""

    @workflow
    class Hasty(Workflow):
        async def run(self) -> str:
            try:
                return str(await asyncio.wait_for(Kid().run(3), 60))
            except TimeoutError:
                return "gave up"

    assert await Hasty().run() == "gave up"
    (own,) = [view for view in await app.store.find(InstanceFilter(name=Kid.__holdfast_workflow__))]
    assert await app.handle(own.id).wait(timeout=20) is Status.CANCELLED
    number = own.id.rpartition(".")[2]
    await Kid().start(3, id=f"hasty.{number}")
    hasty = await Hasty().start(id="hasty")
    assert await hasty.result(timeout=20) == "gave up"
    await app.handle(f"hasty.{number}").send("go", 2)
    assert await app.handle(f"hasty.{number}").result(timeout=20) == 6


async def test_an_id_of_another_workflow_is_refused_where_it_is_awaited(app):
    @workflow
    class Mistaken(Workflow):
        async def run(self) -> str:
            child = await Kid().start(3, id="taken")
            try:
                await child.result()
            except ConfigurationError as error:
                return str(error)
            return "?"

    await Other().start(id="taken")
    assert await app.handle("taken").result(timeout=20) == "another workflow"
    assert "belongs to" in await Mistaken().run()


async def test_a_shared_child_may_be_waited_for_with_a_limit(app):
    await Kid().start(3, id="kid")
    assert await Impatient().run("kid") == "gave up"
    assert await app.handle("kid").status() is Status.PENDING


async def test_an_own_started_child_may_be_waited_for_with_a_limit(app):
    @workflow
    class Limited(Workflow):
        async def run(self) -> str:
            child = await Kid().start(3)
            try:
                return str(await asyncio.wait_for(child.result(), 60))
            except TimeoutError:
                await child.send("go", 4)
                return f"late, {await child.result()}"

    assert await Limited().run() == "late, 12"


async def test_an_ending_nobody_could_tell_of_is_found_by_looking(app):
    """The worker that ended the child may die before it tells: the parent looks again by itself."""
    await Kid().start(3, id="kid")
    await running(app, "kid")
    owner = app.worker.owner

    async def dead(*_: object) -> None:
        pass

    owner.joiner.tell = dead
    parent = await Runs().start("kid")
    async with asyncio.timeout(20):
        while len(await parent.history()) < 2:
            await asyncio.sleep(0.002)
    await app.handle("kid").send("go", 2)
    with contextlib.suppress(TimeoutError):
        await app.handle("kid").wait(timeout=20)
    assert await parent.result(timeout=20) == 6


async def test_a_worker_that_ends_looks_for_nobodys_children_any_more():
    async with workflow_app() as app:
        await Kid().start(3, id="kid")
        await running(app, "kid")
        joiner, look = app.worker.owner.joiner, app.store.view

        async def away(*_: object, **__: object) -> None:
            raise StoreUnavailable("away")

        app.store.view = away
        await Runs().start("kid")
        async with asyncio.timeout(20):
            while not joiner.busy:
                await asyncio.sleep(0.002)
        app.worker.stop(at_once=True)
        async with asyncio.timeout(20):
            while app.worker.owner is not None:
                await asyncio.sleep(0.002)
        app.store.view = look
        assert not joiner.busy
