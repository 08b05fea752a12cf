"""Sync functions in threads and processes: stuck, too slow, dying; and what becomes of their neighbours."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
from pathlib import Path

import pytest
from tests.workflows import slow_to_import, sync_actions

from holdfast import ActionTimeout, App, Workflow, workflow


@workflow
class Calls(Workflow):
    """Runs one action."""

    async def run(self, name: str, arguments: list[object]) -> object:
        if name == "stuck":
            return await sync_actions.stuck()
        if name == "quick":
            return await sync_actions.quick(*arguments)
        if name == "pid_when":
            return await sync_actions.pid_when(*arguments)
        if name == "endless":
            return await sync_actions.endless(*arguments)
        if name == "stubborn":
            return await sync_actions.stubborn(*arguments)
        if name == "die":
            return await sync_actions.die()
        if name == "fail":
            return await sync_actions.fail(*arguments)
        if name == "unpicklable":
            return await sync_actions.unpicklable()
        return await slow_to_import.prompt()


@pytest.fixture(params=[2])
async def app(request: pytest.FixtureRequest):
    """An App on real time, with room for two actions."""
    sync_actions.release.clear()
    made = App("test", url="sqlite://:memory:", concurrent_per_worker=request.param)
    async with made:
        await made.start_worker().ready.wait()
        try:
            yield made
        finally:
            sync_actions.release.set()
    # Nobody is left behind, not even as a zombie.
    assert multiprocessing.active_children() == []


async def run(name: str, *arguments: object) -> object:
    return await Calls().run(name, list(arguments))


async def gone(pid: int) -> None:
    """Return once there is no such process any more."""
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.005)


async def written(path: Path) -> str:
    while not path.exists() or not path.read_text():
        await asyncio.sleep(0.005)
    return path.read_text()


async def test_a_stuck_thread_takes_no_room_from_others(app: App):
    for _ in range(2):
        with pytest.raises(ActionTimeout, match="its thread goes on"):
            await run("stuck")
    assert await asyncio.gather(*[run("quick", n) for n in range(4)]) == [1, 2, 3, 4]


@pytest.mark.parametrize("app", [1], indirect=True)
async def test_too_many_stuck_threads_take_room_until_they_end(app: App, caplog: pytest.LogCaptureFixture):
    executor = app.worker.owner.executor
    with caplog.at_level(logging.WARNING, "holdfast"):
        with pytest.raises(ActionTimeout):
            await run("stuck")
        assert executor.room == 1
        assert "take room" not in caplog.text
        with pytest.raises(ActionTimeout):
            await run("stuck")
    assert executor.room == 0
    assert "take room actions=['tests.workflows.sync_actions:stuck']" in caplog.text
    late = await Calls().start("quick", [1])
    sync_actions.release.set()
    assert await late.result() == 2
    assert executor.room == 1


async def test_a_process_that_runs_too_long_is_ended_alone(app: App, tmp_path: Path):
    neighbour = asyncio.create_task(run("pid_when", str(tmp_path / "go")))
    with pytest.raises(ActionTimeout, match="ran longer than its 0.3 seconds$"):
        await run("endless", str(tmp_path / "pid"))
    await gone(int(await written(tmp_path / "pid")))
    (tmp_path / "go").touch()
    assert isinstance(await neighbour, int)


async def test_a_process_that_dies_takes_only_its_own_call_with_it(app: App, tmp_path: Path):
    neighbour = asyncio.create_task(run("pid_when", str(tmp_path / "go")))
    with pytest.raises(ActionTimeout, match="the process that ran action .*die died"):
        await run("die")
    (tmp_path / "go").touch()
    assert await neighbour == await run("pid_when", str(tmp_path / "go"))


async def test_a_cancelled_call_ends_its_process(app: App, tmp_path: Path):
    handle = await Calls().start("stubborn", [str(tmp_path / "pid")])
    pid = int(await written(tmp_path / "pid"))
    await handle.cancel()
    await gone(pid)


async def test_a_worker_that_stops_ends_its_processes(tmp_path: Path):
    async with App("test", url="sqlite://:memory:", drain_seconds=0) as app:
        await app.start_worker().ready.wait()
        await Calls().start("stubborn", [str(tmp_path / "pid")])
        pid = int(await written(tmp_path / "pid"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert multiprocessing.active_children() == []


async def test_processes_are_made_when_needed_and_used_again(app: App, tmp_path: Path):
    assert multiprocessing.active_children() == []
    (tmp_path / "go").touch()
    one = [await run("pid_when", str(tmp_path / "go")) for _ in range(3)]
    assert len(set(one)) == 1
    many = await asyncio.gather(*[run("pid_when", str(tmp_path / "go")) for _ in range(8)])
    assert len({*one, *many}) <= 2


async def test_the_time_of_a_function_begins_when_its_process_is_ready(app: App):
    assert await run("prompt") == "in time"


async def test_what_a_process_raises_arrives_with_its_traceback(app: App):
    with pytest.raises(LookupError, match="nowhere") as caught:
        await run("fail", "nowhere")
    assert "raise LookupError(how)" in caught.value.__holdfast_traceback__
    with pytest.raises(sync_actions.Peculiar, match="code 7") as peculiar:
        await run("fail", "peculiar")
    assert peculiar.value.hint == "look elsewhere"
    with pytest.raises(TypeError, match="pickle"):
        await run("unpicklable")
    assert len(multiprocessing.active_children()) == 1
