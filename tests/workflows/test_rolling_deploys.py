"""Workers of two releases beside each other: what one of them cannot run is left to the others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from holdfast import App, Status, Workflow, WorkflowParked, action, workflow
from holdfast.errors import ProgramError
from holdfast.runtime import owner
from holdfast.task import ACTIONS, Action
from holdfast.workflow import WORKFLOWS


@action
async def noted(n: int) -> int:
    return n + 1


@workflow
class Fresh(Workflow):
    """A workflow of the new release."""

    async def run(self, n: int) -> int:
        return await noted(n)


def of_old_release(app: App) -> App:
    """The App, as if its code did not have the new workflow yet."""

    def link(program: object) -> None:
        raise ProgramError("there is no tests:Fresh here")

    app.registry.link = link  # type: ignore[method-assign, assignment]
    app.registry.get = lambda hash: None  # type: ignore[method-assign, assignment]
    return app


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return request.getfixturevalue("postgres_url")


async def test_instances_of_new_code_end_up_with_the_workers_that_have_it(url: str):
    old = of_old_release(App("old", url=url))
    new = App("new", url=url)
    async with old, new:
        await old.start_worker().ready.wait()
        await new.start_worker().ready.wait()
        handles = await new.start_many(Fresh().start(n) for n in range(8))
        async with asyncio.timeout(60):
            assert [await handle.result() for handle in handles] == [n + 1 for n in range(8)]


async def test_what_no_worker_can_run_is_parked_in_the_end(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(owner, "DECLINES", 2)
    old, older = of_old_release(App("old", url=url)), of_old_release(App("older", url=url))
    async with old, older, App("client", url=url, embedded_worker=False) as client:
        await old.start_worker().ready.wait()
        await older.start_worker().ready.wait()
        [handle] = await client.start_many([Fresh().start(1)])
        with pytest.raises(WorkflowParked, match="no tests:Fresh here"):
            async with asyncio.timeout(60):
                await handle.result()


async def test_a_worker_alone_parks_it_at_once(url: str):
    async with of_old_release(App("old", url=url)) as old, App("client", url=url, embedded_worker=False) as client:
        await old.start_worker().ready.wait()
        [handle] = await client.start_many([Fresh().start(1)])
        with pytest.raises(WorkflowParked, match="no tests:Fresh here"):
            await handle.result()
        assert await handle.status() is Status.PARKED


async def test_one_that_has_mail_is_parked_so_that_nobody_sleeps_on_it(url: str):
    old, older = of_old_release(App("old", url=url)), of_old_release(App("older", url=url))
    async with old, older, App("client", url=url, embedded_worker=False) as client:
        [handle] = await client.start_many([Fresh().start(1, id="mailed")])
        await handle.send("hello", 1)
        await old.start_worker().ready.wait()
        await older.start_worker().ready.wait()
        with pytest.raises(WorkflowParked, match="no tests:Fresh here"):
            async with asyncio.timeout(100):
                await handle.result()


@action(name="deploys:charge", queue="payments")
async def charge(n: int) -> int:
    return n


@action(name="deploys:here")
async def here(n: int) -> int:
    return n


@workflow(name="deploys:Pays")
class Pays(Workflow):
    """Calls an action elsewhere, or here."""

    async def run(self, n: int, elsewhere: bool) -> int:
        try:
            return await charge(n) if elsewhere else await here(n)
        except TypeError:
            return 0


class PaysLater(Workflow):
    """The workflow of the next release."""

    async def run(self, n: int, elsewhere: bool) -> int:
        return await charge(n, "EUR") if elsewhere else await here(n, "EUR")  # type: ignore[call-arg]


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_call_that_an_action_does_not_take_any_more_waits_for_one_that_does(
    url: str, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
):
    async def changed(n: int, currency: str) -> int:
        raise AssertionError("nobody calls it")

    before = charge if elsewhere else here
    name = before.name
    async with App("pays", url=url, queues="default", embedded_worker=False) as app:
        if elsewhere:
            await app.start_worker().ready.wait()
        [handle] = await app.start_many([Pays().start(7, elsewhere)])
        if elsewhere:
            # Its call lies in the store.
            async with asyncio.timeout(20):
                while not any("slept" not in str(step) and step.seq > 0 for step in await handle.history()):
                    await asyncio.sleep(0)
        monkeypatch.setitem(WORKFLOWS, "deploys:Pays", Pays)
        workflow(name="deploys:Pays")(PaysLater)
        monkeypatch.setitem(ACTIONS, name, before)
        Action(changed, name=name, queue=before.defaults.queue)
        async with App("later", url=url, embedded_worker=False) as later:
            await later.start_worker().ready.wait()
            with pytest.raises(WorkflowParked, match=f"action {name} takes other arguments .*'currency'.*, then retry"):
                async with asyncio.timeout(20):
                    await handle.result()
        ACTIONS[name] = before
        async with App("mended", url=url, embedded_worker=False) as mended:
            await mended.start_worker().ready.wait()
            assert await mended.client.store.resume([handle.id], now=mended.clock.now())
            async with asyncio.timeout(20):
                assert await handle.result() == 7


@pytest.mark.parametrize("taken_by", ["payments", "*"])
async def test_a_call_that_a_worker_declines_is_asked_for_once(
    url: str, monkeypatch: pytest.MonkeyPatch, taken_by: str
):
    """Also where its instance had left memory when the answer came, and is taken up by whoever asked."""
    monkeypatch.setitem(ACTIONS, charge.name, charge)
    async with App("owner", url=url, queues="default", embedded_worker=False) as app:
        await app.start_worker().ready.wait()
        handles = await app.start_many([Pays().start(n, True) for n in range(3)])
        async with asyncio.timeout(20):
            while not all([len(await handle.history()) > 1 for handle in handles]):
                await asyncio.sleep(0.01)
        del ACTIONS[charge.name]
        async with App("lacks", url=url, queues=taken_by, embedded_worker=False) as lacks:
            await lacks.start_worker().ready.wait()
            for handle in handles:
                with pytest.raises(WorkflowParked, match="no action 'deploys:charge' is defined"):
                    async with asyncio.timeout(20):
                        await handle.result()
        assert [len(await handle.history()) <= 5 for handle in handles] == [True] * 3
        monkeypatch.setitem(ACTIONS, charge.name, charge)
        async with App("has", url=url, embedded_worker=False) as has:
            await has.start_worker().ready.wait()
            for handle in handles:
                # Where it parked for want of the action itself, it has yet to read that its call was declined.
                for _ in range(2 if taken_by == "*" else 1):
                    await has.client.store.resume([handle.id], now=has.clock.now())
                    with suppress(WorkflowParked):
                        async with asyncio.timeout(20):
                            await handle.wait()
            assert [await handle.result() for handle in handles] == [0, 1, 2]


@workflow(name="deploys:Kept")
class Kept(Workflow):
    async def run(self, n: int) -> int:
        return await here(n)


class Broken(Workflow):
    """What has become of it: nothing that can be compiled."""

    __holdfast_workflow__ = "deploys:Kept"

    async def run(self, n: int) -> int:
        return await here(n) + await open(str(n))  # type: ignore[misc]


async def test_instances_of_a_good_program_go_on_where_todays_class_is_none(url: str, monkeypatch: pytest.MonkeyPatch):
    async with App("before", url=url, embedded_worker=False) as before:
        [handle] = await before.start_many([Kept().start(3)])
    monkeypatch.setitem(WORKFLOWS, "deploys:Kept", Broken)
    async with App("after", url=url, embedded_worker=False) as after:
        await after.start_worker().ready.wait()
        async with asyncio.timeout(20):
            assert await after.handle(handle.id).result() == 3
