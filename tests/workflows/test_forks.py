"""A fork's calls begin anew: it waits for nothing that was asked for by the instance it comes from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast import App, Status, Workflow, action, workflow
from holdfast.errors import HoldfastError, InstanceNotFound, ValidationError
from holdfast.model.instance import InstanceFilter
from holdfast.observe.history import variables_at

ran: list[str] = []


@action(name="forks:render", queue="gpu")
async def render(what: str) -> str:
    ran.append(what)
    return f"{what} rendered"


@workflow
class Kid(Workflow):
    async def run(self, n: int) -> int:
        return n * await self.receive("go")


@workflow
class Parent(Workflow):
    async def run(self, n: int) -> int:
        return 1 + await Kid().run(n)


@workflow
class Starter(Workflow):
    async def run(self) -> str:
        child = await Kid().start(4)
        try:
            return f"{child.id} gave {await child.result()}"
        except InstanceNotFound:
            return "gone"


@workflow
class Film(Workflow):
    async def run(self, name: str) -> str:
        return await render(name)


@workflow
class Sums(Workflow):
    async def run(self, n: int) -> int:
        total = 100
        for _ in range(n):
            total += await self.receive("add")
        return total


@workflow
class Gathers(Workflow):
    async def part(self, seconds: list[int]) -> list[int]:
        await asyncio.sleep(0, seconds)
        return seconds

    async def run(self, rest: list[int]) -> list[int]:
        parts = [asyncio.create_task(self.part(rest)), asyncio.create_task(self.part([2]))]
        await asyncio.wait(parts)
        await asyncio.sleep(0.001, rest)
        word = await self.receive("word")
        return [word, rest, *(task.result() for task in parts)]


async def steps(handle: Any, count: int) -> None:
    async with asyncio.timeout(20):
        while len(await handle.history()) < count:
            await asyncio.sleep(0.002)


async def test_a_running_child_is_started_anew_for_the_fork(app):
    parent = await Parent().start(3, id="one")
    await steps(parent, 2)
    fork = app.handle(await app.fork("one", at=1, new_id="two"))
    number = (await children_of(app, "two"))[0].rpartition(".")[2]
    await app.handle(f"two.{number}").send("go", 5)
    assert await fork.result(timeout=20) == 16
    assert await parent.status() is Status.PENDING
    await app.handle(f"one.{number}").send("go", 2)
    assert await parent.result(timeout=20) == 7


async def test_a_child_that_has_ended_since_is_run_again_for_the_fork(app):
    parent = await Parent().start(3, id="one")
    await steps(parent, 2)
    (child,) = await children_of(app, "one")
    await app.handle(child).send("go", 2)
    assert await parent.result(timeout=20) == 7
    fork = app.handle(await app.fork("one", at=1, new_id="two"))
    await steps(fork, 2)
    (again,) = await children_of(app, "two")
    await app.handle(again).send("go", 3)
    assert await fork.result(timeout=20) == 10


async def test_a_child_that_was_only_started_is_the_forks_as_well(app):
    parent = await Starter().start(id="one")
    await steps(parent, 2)
    fork = app.handle(await app.fork("one", at=1, new_id="two"))
    (child,) = await children_of(app, "one")
    await app.handle(child).send("go", 2)
    assert await parent.result(timeout=20) == f"{child} gave 8"
    assert await fork.result(timeout=20) == f"{child} gave 8"
    later = app.handle(await app.fork("one", at=1))
    assert await later.result(timeout=20) == f"{child} gave 8"
    await app.store.delete([child])
    latest = app.handle(await app.fork("one", at=1))
    assert await latest.result(timeout=20) == "gone"


async def test_a_call_handed_to_other_workers_is_handed_to_them_again(url):
    ran.clear()
    here = App("test", url=url, queues="default", lease_seconds=2.0)
    there = App("test", url=url, queues="gpu", lease_seconds=2.0)
    async with there, here:
        await here.start_worker().ready.wait()
        film = await here.launch(Film().start("lamp", id="film"))
        await steps(film, 2)
        fork = here.handle(await here.fork("film", at=1))
        await steps(fork, 2)
        await there.start_worker().ready.wait()
        assert await film.result(timeout=20) == "lamp rendered"
        assert await fork.result(timeout=20) == "lamp rendered"
        assert ran == ["lamp", "lamp"]


async def test_what_an_await_is_added_to_is_seen_and_changed_under_its_name(app):
    sums = await Sums().start(2, id="one")
    await steps(sums, 1)
    await sums.send("add", 1)
    await steps(sums, 3)
    history = await sums.history()
    seen = [variables_at(history, step.seq).get("total") for step in history]
    assert {100, 101} <= set(seen)
    fork = app.handle(await app.fork("one", at=history[-1].seq, changes={"total": 7}))
    await fork.send("add", 3)
    assert await fork.result(timeout=20) == 10
    await sums.send("add", 2)
    assert await sums.result(timeout=20) == 103


async def test_only_variables_are_listed_and_changed_by_a_fork(app):
    gathers = await Gathers().start([1], id="one")
    await gathers.send("word", "hi")
    assert await gathers.result(timeout=20) == ["hi", [1], [1], [2]]
    for step in (await gathers.history())[:-1]:
        for name in ("value", "at", "_hf1", "replaced", "self"):
            with pytest.raises(HoldfastError, match=r"^there is no (variable|argument) '\w+'.*; there are: ") as caught:
                await app.fork("one", at=step.seq, changes={name: 5})
            known = str(caught.value).partition("there are: ")[2].split(", ")
            assert set(known) <= {"rest", "parts", "seconds", "word", "none"}


@workflow
class Tidy(Workflow):
    async def run(self) -> list[Any]:
        try:
            first = await self.receive("first")
        except asyncio.CancelledError:
            await self.receive("tidied")
            raise
        return [first]


@workflow
class Stubborn(Workflow):
    async def run(self) -> str:
        try:
            await self.receive("first")
        except asyncio.CancelledError:
            async with asyncio.timeout(None):
                await self.receive("second")
        return await self.receive("third")


@workflow
class Family(Workflow):
    async def run(self) -> list[Any]:
        return await Tidy().run()


async def test_a_fork_of_a_cancelled_instance_goes_on_from_before_the_cancel(app):
    tidy = await Tidy().start(id="one")
    await steps(tidy, 2)
    await tidy.cancel()
    await steps(tidy, 3)
    await tidy.send("tidied")
    assert await tidy.wait(timeout=20) is Status.CANCELLED
    for at in (None, 0, 1):
        fork = app.handle(await app.fork("one", at=at))
        await fork.send("first", "x")
        assert await fork.result(timeout=20) == ["x"]


async def test_a_fork_from_after_a_cancel_can_be_cancelled_anew(app):
    stubborn = await Stubborn().start(id="one")
    await steps(stubborn, 2)
    await stubborn.cancel()
    await steps(stubborn, 3)
    fork = app.handle(await app.fork("one", at=2))
    assert await fork.cancel()
    assert await fork.wait(timeout=20) is Status.CANCELLED
    other = app.handle(await app.fork("one", at=2))
    await other.send("second")
    await other.send("third", "x")
    assert await other.result(timeout=20) == "x"


async def test_a_fork_from_after_a_cancel_waits_again_for_the_child_that_was_given_up(app):
    family = await Family().start(id="one")
    await steps(family, 2)
    await family.cancel()
    await steps(family, 3)
    fork = app.handle(await app.fork("one", at=2, new_id="two"))
    (child,) = await children_of(app, "two")
    await app.handle(child).send("first", "x")
    assert await fork.result(timeout=20) == ["x"]


@dataclass
class Size:
    width: int


@workflow
class Sized(Workflow):
    async def run(self, size: Size, count: int, first: Any, again: Any, *more: int) -> list[Any]:
        word = await self.receive("word")
        again.append(9)
        return [word, size, count, first, again, more]


async def test_values_of_a_fork_fit_the_annotations_of_the_parameters(app):
    same = [1]
    sized = await Sized().start(Size(3), 2, same, same, 5, id="one")
    await steps(sized, 2)
    for at in (0, 1):
        fork = app.handle(await app.fork("one", at=at, changes={"size": {"width": "4"}, "more": ["7"], "count": 3}))
        await fork.send("word", "x")
        assert await fork.result(timeout=20) == ["x", Size(4), 3, [1, 9], [1, 9], (7,)]
        told = r"^Sized cannot go on with these arguments:\n  size\['width'\]: Input should be"
        with pytest.raises(ValidationError, match=told) as wrong:
            await app.fork("one", at=at, changes={"size": {"width": "wide"}, "count": "x", "first": [1]})
        assert "\n  count: Input should be a valid integer" in str(wrong.value)
        with pytest.raises(
            HoldfastError, match="^there is no (argument|variable) 'sizes'.*; there are: again, count, "
        ):
            await app.fork("one", at=at, changes={"sizes": 3})


async def test_values_of_a_fork_share_nothing_with_those_beside_them(app):
    same = [1]
    sized = await Sized().start(Size(3), 2, same, same, id="one")
    await steps(sized, 2)
    for at in (0, 1):
        changes = {"size": Size(5), "first": [8]}
        fork = app.handle(await app.fork("one", at=at, changes=changes))
        await fork.send("word", "x")
        assert await fork.result(timeout=20) == ["x", Size(5), 2, [8], [1, 9], ()]


async def children_of(app: Any, parent: str) -> list[str]:
    async with asyncio.timeout(20):
        while not (found := await app.store.find(InstanceFilter(parent=parent))):
            await asyncio.sleep(0.002)
    return [view.id for view in found]
