"""What programs cannot show about themselves: tracebacks, errors of saving, cancellation from outside, the size of states."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.engine import world
from tests.engine.harness import Driven, always, compare, driven
from tests.engine.test_against_python import program
from tests.engine.world import Oops, act, fail, note

from holdfast.codec import decode, dumps, encode, encode_exception
from holdfast.engine import GiveUpChild
from holdfast.errors import EncodeError
from holdfast.workflow import Workflow


@pytest.fixture(autouse=True)
def effects() -> Iterator[list[tuple[Any, ...]]]:
    world.EFFECTS.clear()
    yield world.EFFECTS
    world.EFFECTS.clear()


def notes() -> list[str]:
    return [effect[1] for effect in world.EFFECTS if effect[0] == "note"]


def until_it_waits(cls: type[Workflow], *args: Any, steps: int = 0) -> Driven:
    """Turned, saved and crashed once, then this many steps."""
    run = driven(cls, *args)
    run.turn()
    run.save()
    run.crash()
    for _ in range(steps):
        run.step()
        run.turn()
        run.save()
        run.crash()
    return run


# --- tracebacks and errors of saving


class Failing(Workflow):
    async def helper(self, x: int) -> int:
        await act(x)
        return 1 // x

    async def run(self, x: int) -> int:
        return await self.helper(x)


@pytest.mark.parametrize("crash", [always, lambda step: False])
def test_a_traceback_shows_the_users_file_and_line(crash: Any) -> None:
    ended = driven(Failing, 0).finish(crash)
    assert ended.kind == "failed"
    line = Failing.helper.__code__.co_firstlineno + 2
    assert f'File "{__file__}", line {line}, in helper' in ended.tree["traceback"]
    assert "return 1 // x" in ended.tree["traceback"]
    assert "src/holdfast" not in ended.tree["traceback"]


class Unsavable(Workflow):
    async def run(self) -> Any:
        items = (x for x in [1, 2])
        await act(1)
        return list(items)


def test_a_variable_that_cannot_be_saved_is_named_with_its_line_and_a_way_out() -> None:
    run = driven(Unsavable)
    run.turn()
    with pytest.raises(EncodeError) as caught:
        run.save()
    line = Unsavable.__dict__["run"].__holdfast_original__.__code__.co_firstlineno + 2
    assert f"the variable 'items' is still needed after the await in line {line} of \"{__file__}\"" in str(caught.value)
    assert "list" in str(caught.value)


class Dropped(Workflow):
    async def run(self) -> int:
        items = (x for x in [1, 2])
        total = sum(items)
        await act(1)
        return total


def test_a_variable_that_is_not_needed_may_be_anything() -> None:
    ended = driven(Dropped).finish(always)
    assert (ended.kind, ended.tree) == ("done", 3)


# --- iterators in the middle

ITERATED = {
    "list": "[1, 2, 3]",
    "tuple": "(1, 2, 3)",
    "text": "'äbc'",
    "bytes": "b'abc'",
    "range": "range(2, 9, 3)",
    "dict": "{'a': 1, 'b': 2}",
    "items": "{'a': 1, 'b': [2]}.items()",
    "values": "{'a': 1, 'b': [2]}.values()",
    "set": "{1, 2, 3}",
    "frozenset": "frozenset([1, 2])",
    "enumerate": "enumerate(['a', 'b'], 5)",
    "zip": "zip([1, 2, 3], 'abc')",
    "reversed": "reversed([1, 2, 3])",
    "reversed range": "reversed(range(4))",
    "enumerated zip": "enumerate(zip([1, 2], {'a': 1, 'b': 2}.items()))",
    "an iterator": "iter([1, 2, 3])",
}


@pytest.mark.parametrize("name", ITERATED)
def test_a_loop_goes_on_in_the_middle(name: str) -> None:
    compare(program(f"for x in {ITERATED[name]}:\n    note(x, await act(x))\nelse:\n    note('else')"), 1)


@pytest.mark.parametrize("change", ["d['z'] = 1", "d.pop('b')", "d.pop('b'); d['z'] = 1", "d['b'] = 7"])
@pytest.mark.parametrize("over", ["d", "d.items()", "d.keys()"])
def test_a_dict_changed_meanwhile_is_noticed_as_in_python(change: str, over: str) -> None:
    body = f"""
        d = {{'a': 1, 'b': 2, 'c': 3}}
        changed = False
        for x in {over}:
            note(x, await act(1))
            if not changed:
                changed = True
                {change}
            await act(2)
    """
    compare(program(body), 1)


@pytest.mark.parametrize("change", ["s.add(9)", "s.discard(2)"])
def test_a_set_changed_meanwhile_is_noticed_as_in_python(change: str) -> None:
    compare(program(f"s = {{1, 2, 3}}\nfor x in s:\n    note(x, await act(1))\n    {change}\n"), 1)


def test_a_list_changed_meanwhile_shows_in_the_loop() -> None:
    compare(program("for x in xs:\n    if len(xs) < 5:\n        xs.append(await act(x))\n    note(x)\n"), 1)


# --- cancelling from outside


class Waiting(Workflow):
    async def forever(self) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            note("inner")

    async def run(self, kind: str) -> None:
        try:
            match kind:
                case "call":
                    await act(1)
                case "sleep":
                    await asyncio.sleep(100)
                case "gather":
                    await asyncio.gather(act(1), self.forever())
                case "task":
                    await asyncio.create_task(self.forever())
                case "wait":
                    await asyncio.wait([asyncio.create_task(self.forever())], timeout=50)
                case "wait_for":
                    await asyncio.wait_for(self.forever(), 50)
                case "timeout":
                    async with asyncio.timeout(50):
                        await self.forever()
                case "group":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self.forever())
                case "completed":
                    for one in asyncio.as_completed([asyncio.create_task(self.forever())]):
                        await one
                case "shield":
                    await asyncio.shield(self.forever())
                case "message":
                    await self.receive("news")
                case _:
                    await self.receive("news", timeout=50)
        finally:
            note("finally")
            await act("cleaned up")
            note("cleaned")


KINDS = "call sleep gather task wait wait_for timeout group completed shield message late_message".split()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_instance_runs_its_finally_and_ends_cancelled(kind: str) -> None:
    run = until_it_waits(Waiting, kind)
    run.machine.cancel()
    run.turn()
    run.save()
    run.crash()
    assert notes()[-1] == "'finally'"
    ended = run.finish(always)
    assert ended.kind == "cancelled"
    assert "'cleaned'" in notes()
    if kind not in ("call", "sleep", "message", "late_message"):
        assert notes().count("'inner'") == 1
    assert not run.machine.branches
    assert not run.machine.calls


def test_a_second_cancellation_changes_nothing() -> None:
    run = until_it_waits(Waiting, "sleep")
    run.machine.cancel()
    run.machine.cancel()
    assert run.finish(always).kind == "cancelled"


class Kid(Workflow):
    async def run(self) -> str:
        return "kid"


class Parent(Workflow):
    async def run(self) -> str:
        try:
            return await Kid().run()
        finally:
            note("finally")


def given_up() -> tuple[Driven, int]:
    """A parent that was cancelled while it waits for its child, and the call of that."""
    run = until_it_waits(Parent)
    for _ in range(2):
        run.machine.cancel()
        run.turn()
    assert [type(command) for command in run.machine.commands] == [GiveUpChild]
    run.save()
    run.crash()
    (call,) = run.machine.calls.values()
    assert call.given_up
    assert notes() == []
    return run, call.id


def test_a_parent_that_is_cancelled_waits_for_the_end_of_its_child() -> None:
    run, call = given_up()
    error = asyncio.CancelledError()
    run.machine.call_failed(call, error, encode_exception(error))
    run.turn()
    assert run.ended is not None
    assert run.ended.kind == "cancelled"
    assert notes() == ["'finally'"]


def test_a_child_that_has_heard_and_returns_has_refused_to_be_cancelled() -> None:
    run, call = given_up()
    run.machine.call_done(call, "kid", "kid", asked=True)
    run.turn()
    assert run.ended is not None
    assert (run.ended.kind, run.ended.tree) == ("done", "kid")


def test_a_child_that_returned_before_it_heard_does_not_undo_the_cancellation() -> None:
    run, call = given_up()
    run.machine.call_done(call, "kid", "kid")
    run.turn()
    assert run.ended is not None
    assert run.ended.kind == "cancelled"


def test_an_instance_that_ends_says_whether_it_was_asked_to() -> None:
    run = until_it_waits(Waiting, "sleep")
    run.machine.cancel()
    assert run.finish().asked
    assert not driven(Kid).finish().asked


class Stubborn(Workflow):
    async def run(self, where: str) -> str:
        for number in range(3):
            try:
                match where:
                    case "sleep":
                        await asyncio.sleep(1000)
                    case _:
                        await asyncio.gather(asyncio.sleep(1000), asyncio.sleep(1000))
            except asyncio.CancelledError:
                note(number)
        return "went on"


class Cleaning(Workflow):
    async def clean(self) -> None:
        await asyncio.sleep(5)
        note("cleaned")

    async def part(self) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await self.clean()

    async def run(self, where: str) -> None:
        match where:
            case "here":
                try:
                    await asyncio.sleep(1000)
                finally:
                    await self.clean()
            case "gather":
                await asyncio.gather(self.part(), self.part())
            case "task":
                await asyncio.create_task(self.part())
            case "limit":
                await asyncio.wait_for(self.part(), 5000)
            case _:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.part())


def cancelled_once_more(run: Driven) -> None:
    run.machine.cancel()
    run.turn()
    if run.ended is None:
        run.save()
        run.crash()


@pytest.mark.parametrize("where", ["sleep", "gather"])
def test_who_has_refused_to_be_cancelled_can_be_asked_again(where: str) -> None:
    run = until_it_waits(Stubborn, where)
    for _ in range(3):
        cancelled_once_more(run)
    assert notes() == ["0", "1", "2"]
    assert run.ended is not None
    assert (run.ended.kind, run.ended.tree) == ("done", "went on")


@pytest.mark.parametrize(("where", "parts"), [("here", 1), ("gather", 2), ("task", 1), ("limit", 1), ("group", 1)])
def test_who_cleans_up_after_a_cancellation_is_not_disturbed_by_another(where: str, parts: int) -> None:
    run = until_it_waits(Cleaning, where)
    for _ in range(3):
        cancelled_once_more(run)
    assert notes() == []
    assert run.finish().kind == "cancelled"
    assert notes() == ["'cleaned'"] * parts


# --- messages


class Receiving(Workflow):
    async def run(self, wait: float | None) -> Any:
        try:
            first = await self.receive("news", timeout=wait)
        except TimeoutError:
            first = "late"
        return [first, await self.receive("news")]


def test_messages_are_taken_in_order_also_when_they_came_early() -> None:
    run = until_it_waits(Receiving, None)
    for number in (1, 2):
        run.machine.message("news", encode(number))
    run.machine.message("other", encode(3))
    assert run.finish(always).tree == [1, 2]


def test_receive_gives_up_after_its_timeout() -> None:
    run = until_it_waits(Receiving, 5.0, steps=1)
    assert run.now == 5.0
    run.machine.message("news", encode(2))
    assert run.finish(always).tree == ["late", 2]


# --- timeouts and groups, one in another


def test_the_outer_of_two_timeouts_strikes_through_the_inner_one() -> None:
    compare(
        program("""
            try:
                async with asyncio.timeout(2):
                    try:
                        async with asyncio.timeout(5) as inner:
                            await asyncio.sleep(10)
                    finally:
                        note("inner", inner.expired())
            except TimeoutError as e:
                note(seen(e))
        """),
        1,
    )


def test_a_group_gathers_the_errors_of_its_tasks_and_of_its_body() -> None:
    compare(
        program("""
            try:
                async with asyncio.TaskGroup() as g:
                    t = g.create_task(fail("Oops", 1))
                    u = g.create_task(asyncio.sleep(9))
                    async with asyncio.TaskGroup() as h:
                        h.create_task(fail("Worse", 2))
                        try:
                            await asyncio.sleep(5)
                        except asyncio.CancelledError:
                            raise ValueError(3)
            except* ValueError as e:
                note("value", seen(e))
            except* Oops as e:
                note("oops", seen(e))
            note(t.done(), u.cancelled())
        """),
        1,
    )


# --- states


class Looping(Workflow):
    def __init__(self) -> None:
        self.count = 0

    async def helper(self, x: int) -> list[int]:
        return [x, await act(x)]

    async def run(self, turns: int) -> int:
        kept = [0]
        for i in range(turns):
            self.count += 1
            try:
                both = await asyncio.gather(self.helper(i), act(i))
                task = asyncio.create_task(self.helper(i))
                async with asyncio.timeout(50):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(asyncio.sleep(1))
                await task
                if i % 2:
                    await fail("Oops", i)
                kept[0] += len(both)
            except Oops as error:
                await act(str(error))
        return kept[0]


@pytest.mark.parametrize("crash", [True, False])
def test_a_state_does_not_grow_in_a_loop(crash: bool) -> None:
    run = driven(Looping, 40)
    run.turn()
    sizes: list[int] = []
    while run.ended is None:
        run.save()
        if crash:
            run.crash()
        sizes.append(len(run.entries))
        run.step()
        run.turn()
    assert run.ended.kind == "done"
    third = len(sizes) // 3
    assert max(sizes[-third:]) <= max(sizes[:third]) + 1


class Writing(Workflow):
    def __init__(self) -> None:
        self.big = list(range(50))

    async def run(self) -> Any:
        first, second, number = [1], [2], 1
        await act(0)
        number += 1
        await act(1)
        second.append(3)
        await act(2)
        alias = first
        await act(3)
        alias.append(4)
        await act(4)
        del number
        await act(5)
        return first, second, alias


def test_a_save_writes_only_what_changed() -> None:
    run = driven(Writing)
    run.turn()
    run.save()
    for _ in range(5):
        run.step()
        run.turn()
        run.save()
    variables = [{k for k in put["put"] if k[0].isdigit() or k[0] == "=" or k == "self"} for put in run.puts]
    assert variables[0] == {"2.first", "2.second", "2.number", "self"}
    assert variables[1] == {"2.number"} or variables[1] == set()
    assert variables[2] == {"2.second"}
    assert variables[3] == {"=2.alias"}
    assert variables[4] == {"=2.alias"}
    assert variables[5] == set()
    assert decode(run.finish(always).tree) == ([1, 4], [2, 3], [1, 4])


class Spinning(Workflow):
    async def run(self) -> None:
        while True:
            await asyncio.sleep(0)


class Growing(Workflow):
    def __init__(self) -> None:
        self.log: list[str] = []

    async def run(self, turns: int) -> tuple[list[int], dict[str, str], list[str]]:
        numbers: list[int] = []
        names: dict[str, str] = {}
        for n in range(turns):
            numbers.append(await act(n))
            names[f"n{n}"] = "ü" * (n % 3)
            self.log.append(f"turn {n}")
        return numbers, names, self.log


@pytest.mark.parametrize("crash", [False, True])
def test_what_grows_is_written_by_what_was_added(crash: bool) -> None:
    run = driven(Growing, 300)
    sizes: list[int] = []
    run.turn()
    while run.ended is None:
        run.save()
        sizes.append(len(dumps(run.puts[-1])))
        if crash:
            run.crash()
        run.step()
        run.turn()
    # From where the entries are larger than what is written whole in any case.
    assert max(sizes[200:]) < 600
    assert decode(run.ended.tree)[0][-1] == 299
    assert decode(run.ended.tree)[1]["n299"] == "üü"
    assert decode(run.ended.tree)[2][-1] == "turn 299"


def test_a_spinning_loop_comes_to_rest_so_that_it_can_be_saved() -> None:
    run = driven(Spinning)
    run.turn()
    assert run.ended is None
    assert run.machine.next_timer is not None
    assert run.machine.next_timer > run.now


class Sharing(Workflow):
    async def run(self) -> Any:
        first = [1]
        second = first
        apart = [1]
        task = asyncio.create_task(asyncio.sleep(50, first))
        await act(1)
        second.append(2)
        await act(2)
        return first is second, apart is first, first, await task is first


def test_two_names_for_one_list_stay_one_list() -> None:
    assert decode(driven(Sharing).finish(always).tree) == (True, False, [1, 2], True)


def test_an_error_that_no_one_catches_keeps_its_type_arguments_and_cause() -> None:
    ended = driven(Raising).finish(always)
    error = decode(ended.tree)
    assert (type(error), error.args, type(error.__cause__)) == (ValueError, (1, [2]), Oops)


class Raising(Workflow):
    async def run(self) -> None:
        try:
            await fail("Oops", 1)
        except Oops as error:
            await act(2)
            raise ValueError(1, [2]) from error
