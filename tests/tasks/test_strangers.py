"""Jobs of tasks that the worker which takes them does not know: another release may, and comes to them in time."""

import pytest

from holdfast import App, TaskFailed
from holdfast.ids import JobId
from holdfast.model.job import ClaimedJob
from holdfast.runtime.strangers import NAMES_LIMIT, Strangers
from holdfast.testing import workflow_app


async def stranger(app: App, name: str):
    @app.task
    async def known() -> None: ...

    [handle] = await app.send([known.job((), {}, known.jobs)._replace(name=name)])
    return handle


async def test_a_job_waits_for_a_worker_that_knows_its_task(app: App):
    handle = await stranger(app, "late:comer")

    @app.task
    async def deploy() -> None:
        @app.task(name="late:comer")
        async def comer() -> float:
            return app.now()

    begun = app.now()
    await deploy.options(delay=100).delay()
    assert 100 <= await handle.get() - begun <= 130


async def test_what_nobody_knows_for_long_is_dead(app: App):
    begun = app.now()
    handle = await stranger(app, "nobody:ever")
    with pytest.raises(TaskFailed, match="no task 'nobody:ever' is defined on the worker that took it"):
        await handle.get()
    assert 300 <= app.now() - begun <= 331
    # The next one is not waited for again: this worker has seen that nobody knows the name.
    begun = app.now()
    with pytest.raises(TaskFailed):
        await (await stranger(app, "nobody:ever")).get()
    assert app.now() - begun < 10


async def test_without_patience_it_is_dead_at_once():
    async with workflow_app(unknown_task_seconds=0) as app:
        begun = app.now()
        with pytest.raises(TaskFailed):
            await (await stranger(app, "nobody:ever")).get()
        assert app.now() - begun < 10


async def test_of_a_task_of_a_script_it_is_said_that_no_worker_can_know_it():
    async with workflow_app(unknown_task_seconds=0) as app:
        with pytest.raises(TaskFailed, match=r"'__main__:add' was defined in a script .* move the task into a module"):
            await (await stranger(app, "__main__:add")).get()


def test_pauses_grow_and_names_are_not_remembered_without_end():
    def job(name: str) -> ClaimedJob:
        return ClaimedJob(JobId("j"), name, b"", "default", 1, 1)

    strangers = Strangers(300.0)
    assert [strangers.pause(job("a"), now=100.0 + t) for t in (0, 8, 40, 200, 299.9, 300)] == [
        1.0,
        2.0,
        10.0,
        30.0,
        30.0,
        None,
    ]
    for number in range(NAMES_LIMIT - 1):
        assert strangers.pause(job(f"n{number}"), now=0.0) == 1.0
    assert strangers.pause(job("one more"), now=0.0) is None
