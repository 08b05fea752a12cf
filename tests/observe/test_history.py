"""A history says in words what happened at each step, and shows what changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from holdfast import App, RetryPolicy, Workflow, action, workflow
from holdfast.codec import describe, dumps, to_json
from holdfast.ids import WorkerId
from holdfast.model.instance import Step
from holdfast.observe.history import StepView, read_history, variables_at
from holdfast.ports import Enlistment
from holdfast.testing import workflow_app


@dataclass
class Approval:
    by: str


@action
async def echo(first: object, second: object = None) -> object:
    return first


@action
async def fails(n: int) -> int:
    raise ValueError(f"cannot {n}")


@workflow
class Waits(Workflow):
    async def run(self) -> str:
        await asyncio.sleep(5)
        word = await self.receive("word")
        approval = await self.receive(Approval, timeout=60)
        try:
            await self.receive("never", timeout=60)
        except TimeoutError:
            return f"{word} {approval.by}"
        return ""


@workflow
class Shares(Workflow):
    async def run(self) -> int:
        first = [1]
        second = {"inside": first}
        await echo(first, first)
        first.append(2)
        await asyncio.sleep(1)
        return len(first) + len(second)


@workflow
class Fails(Workflow):
    async def run(self, n: int) -> int:
        policy = RetryPolicy(attempts=2, delay=timedelta(seconds=10))
        return await self.run_action(fails(n), retry=policy)


@workflow
class Child(Workflow):
    async def run(self) -> str:
        return await self.receive("word")


@workflow
class Parent(Workflow):
    async def run(self) -> str:
        child = await Child().start(id="kid")
        return await child.result()


@workflow
class Naps(Workflow):
    async def run(self) -> None:
        while True:
            await asyncio.sleep(60)


async def views(app: App, id: str) -> list[StepView]:
    return read_history(await app.client.history(id), None)


async def events(app: App, id: str) -> list[list[str]]:
    return [list(view.events) for view in await views(app, id)]


async def steps(app: App, id: str, number: int) -> None:
    while len(await app.handle(id).history()) < number:
        await asyncio.sleep(0.001)


async def test_sleeps_and_messages_are_told_where_they_begin_and_end():
    async with workflow_app(move_time=False) as app, asyncio.timeout(20):
        handle = await Waits().start(id="a")
        await steps(app, "a", 2)
        app.clock.move(5)
        await steps(app, "a", 3)
        await handle.send("word", "hi")
        await steps(app, "a", 4)
        await handle.send(Approval("Ada"))
        await steps(app, "a", 5)
        app.clock.move(60)
        assert await handle.result() == "hi Ada"
        key = f"{__name__}:Approval"
        told = await events(app, "a")
        assert told[0] == ["started"]
        assert told[1] == ["sleeps until 2030-01-01 00:00:05Z"]
        assert told[2] == ["slept", "waits for message 'word'"]
        assert told[3][0] == "received word: 'hi'"
        assert told[3][1].startswith(f"waits for message '{key}' until 2030-01-01 00:0")
        assert told[4][0] == f"received {key}: Approval(by='Ada')"
        assert told[5] == ["no message 'never' came in time", "ended: done"]


async def test_an_instance_that_fails_says_with_what():
    async with workflow_app() as app, asyncio.timeout(20):
        handle = await Fails().start(3, id="a")
        await handle.wait()
        told = [event for step in await events(app, "a") for event in step]
        assert told == [
            "started",
            "calls fails(3)",
            "fails failed, to be tried again: ValueError: cannot 3",
            "calls fails(3) (attempt 2)",
            "fails failed: ValueError: cannot 3",
            "ended: failed with ValueError: cannot 3",
        ]


async def test_what_variables_and_arguments_share_is_shown_in_each():
    async with workflow_app() as app, asyncio.timeout(20):
        await Shares().start(id="a")
        await app.handle("a").wait()
        told = await views(app, "a")
        assert "calls echo([1], [1])" in told[1].events
        shown = {name: describe(tree) for view in told for name, tree in view.changed.items()}
        assert shown["second"] == "{'inside': [1, 2]}"
        (last,) = [view for view in told if "second" in view.changed][-1:]
        assert to_json(last.changed["second"]) == {"inside": [1, 2]}
        kept = variables_at(await app.client.history("a"), last.seq)
        assert {name: describe(tree) for name, tree in kept.items()} == {
            "first": "[1, 2]",
            "second": "{'inside': [1, 2]}",
        }


async def test_what_stays_as_it_is_among_shared_objects_has_not_changed():
    @workflow
    class Grows(Workflow):
        async def run(self) -> int:
            first = [1]
            second = [first]
            third: list[object] = []
            fourth = [third]
            await asyncio.sleep(1)
            both = [first, third]
            await asyncio.sleep(1)
            return len(first) + len(second) + len(third) + len(fourth) + len(both)

    async with workflow_app() as app, asyncio.timeout(20):
        await (await Grows().start(id="a")).wait()
        assert [sorted(view.changed) for view in await views(app, "a")][1:3] == [
            ["first", "fourth", "second", "third"],
            ["both"],
        ]


async def test_a_child_that_is_waited_for_is_named():
    async with workflow_app() as app, asyncio.timeout(20):
        handle = await Parent().start(id="a")
        await steps(app, "kid", 2)
        await app.handle("kid").send("word", "hi")
        assert await handle.result() == "hi"
        assert ["starts workflow Child as kid", "waits for kid"] in await events(app, "a")


async def test_a_fork_says_where_it_comes_from():
    async with workflow_app() as app, asyncio.timeout(20):
        await (await Shares().start(id="a")).wait()
        made = await app.fork("a", at=1)
        await app.handle(made).wait()
        assert (await events(app, made))[0][0] == "forked from a at step 1"


async def test_a_takeover_is_told_with_the_next_step_and_makes_none(tmp_path):
    async with App("test", url=f"sqlite:///{tmp_path}/x.db", embedded_worker=False) as app, asyncio.timeout(20):
        await Naps().start(id="a")
        now = app.clock.now()
        for name in ("first", "second"):
            lost = WorkerId(name)
            await app.store.enlist(Enlistment(id=lost, host="h", pid=1, queues=["*"], lease=0.001, now=now - 9))
            taken = await app.store.claim(lost, queues=["*"], room=9, call_room=0, now=now)
            assert len(taken.instances) == 1
            await app.store.heartbeat(WorkerId("nobody"), lease=0, now=now)
        await app.start_worker().ready.wait()
        await steps(app, "a", 2)
        assert (await events(app, "a"))[1][0] == "taken over from another worker"


def test_a_step_is_given_as_json_with_its_moment_in_iso():
    step = Step(seq=0, at=1893456000.25, payload=dumps({"start": [{}, {"n": 1}]}), full=True)
    assert [view.as_json() for view in read_history([step], None)] == [
        {"seq": 0, "at": "2030-01-01T00:00:00.250Z", "events": ["started"], "changed": {"n": 1}, "line": None}
    ]


@workflow
class Adds(Workflow):
    async def run(self, items: list[int], more: int) -> list[int]:
        await echo(0)
        items.append(more)
        await echo(items)
        return items


async def test_arguments_are_told_once_until_they_change():
    async with workflow_app(move_time=False):
        adds = await Adds().start([1], 2)
        assert await adds.result() == [1, 2]
        told = [step.as_json()["changed"] for step in read_history(await adds.history(), None)]
        assert [changed for changed in told if changed] == [{"items": [1], "more": 2}, {"items": [1, 2]}]
