"""What is asked for outside of a workflow, and never awaited, is warned of as coroutines are."""

from __future__ import annotations

import asyncio
import warnings

import pytest

from holdfast import Workflow, action, start_many, workflow
from holdfast.codec import encode
from holdfast.model.instance import InstanceFilter
from holdfast.testing import workflow_app


@action
async def double(n: int) -> int:
    return 2 * n


def call_of(n: int) -> object:
    """Plain code that a workflow calls."""
    return double(n)


@workflow
class Doubles(Workflow):
    async def run(self, n: int) -> int:
        made = [call_of(n), double(n)]
        spare = made[0]
        return await double(n) if spare is made[0] else 0


@pytest.mark.parametrize(
    ("forget", "told"),
    [
        (lambda: Doubles().run(3), r"^Doubles\(\)\.run\(…\) was never awaited$"),
        (lambda: Doubles().start(3), r"^Doubles\(\)\.start\(…\) was never awaited$"),
        (lambda: double(3), r"^double\(…\) was never awaited$"),
    ],
)
def test_what_is_never_awaited_is_warned_of_where_it_was_dropped(forget, told):
    with pytest.warns(RuntimeWarning, match=told) as warned:
        forget()
    assert [one.filename for one in warned] == [__file__]


async def test_what_is_awaited_started_gathered_or_passed_on_is_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with workflow_app() as app:
            assert await Doubles().run(3) == 6
            await (await Doubles().start(3)).result()
            await start_many(Doubles().start(n) for n in range(3))
            assert await asyncio.gather(Doubles().run(1), double(2)) == [2, 4]
            assert await asyncio.wait_for(Doubles().run(1), 20) + await asyncio.wait_for(double(2), 20) == 6
            await app.schedule(Doubles().start(3), id="s", every=60)
            Doubles().run_action(double(1))
            encode([double(3)])


async def test_asyncio_takes_runs_and_calls_for_coroutines():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with workflow_app():
            run, call = asyncio.create_task(Doubles().run(1)), asyncio.create_task(double(2))
            handle = asyncio.create_task(Doubles().start(3))
            assert (await run, await call, await (await handle).result()) == (2, 4, 6)
            async with asyncio.TaskGroup() as group:
                both = [group.create_task(Doubles().run(4)), group.create_task(double(5))]
            assert [task.result() for task in both] == [8, 10]


@pytest.mark.parametrize("ask", [lambda: Doubles().run(3), lambda: double(3)])
async def test_what_is_cancelled_or_closed_before_its_first_step_has_not_begun_and_is_no_longer_warned_of(ask):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with workflow_app() as app:
            task = asyncio.create_task(ask())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            closed = ask()
            closed.close()
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                closed.send(None)
            assert not await app.store.find(InstanceFilter())


def test_asyncio_run_takes_a_run_as_it_takes_a_coroutine_that_awaits_one(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", f"sqlite:///{tmp_path}/holdfast.db")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(Doubles().run(3)) == 6
        assert asyncio.run(double(4)) == 8


def test_a_run_that_is_tested_says_that_its_await_is_missing():
    run = Doubles().run(3)
    with pytest.raises(TypeError, match=r"write `await Doubles\(\)\.run\(…\)`"):
        assert run
    run.unused = False
    assert run


MADE_AT_IMPORT = double(7)


@workflow
class UsesWhatAllShare(Workflow):
    made_by_the_class = double(8)

    async def run(self) -> list[int]:
        return [await MADE_AT_IMPORT, await self.made_by_the_class]


@workflow
class DrivesByHand(Workflow):
    async def run(self) -> int:
        calls = [double(3)]
        try:
            calls[0].send(None)
        except RuntimeError as error:
            return await calls[0] if "can only be awaited" in str(error) else 0
        return 0


@pytest.mark.parametrize("crash", [False, True])
async def test_a_call_that_no_instance_has_made_serves_all_of_them(crash: bool) -> None:
    async with workflow_app(crash=crash):
        for _ in range(3):
            assert await UsesWhatAllShare().run() == [14, 16]
        assert await DrivesByHand().run() == 6
    MADE_AT_IMPORT.used()
    UsesWhatAllShare.made_by_the_class.used()
