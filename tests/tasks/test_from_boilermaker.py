"""The examples of boilermaker's readme, with our imports, and with pauses that take no time.

Where its readme makes a Service Bus client, an App takes a URL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast import JobStatus, TaskFailed
from holdfast.app import App as HoldfastApp
from holdfast.clock import ManualClock
from holdfast.compat import retries
from holdfast.compat.boilermaker import Boilermaker, Task, TaskFailureResult
from holdfast.errors import ConfigurationError
from holdfast.testing import at_work, drain


# This represents our "App" object which will be passed as `state` to our handlers
class App:
    def __init__(self, data: Any) -> None:
        self.data = data
        self.printed: list[Any] = []


@pytest.fixture
async def worker() -> AsyncIterator[Boilermaker]:
    made = Boilermaker(App({"key": "value"}), url="sqlite://:memory:", clock=ManualClock())
    async with at_work(made):
        yield made


async def test_the_complete_example(worker: Boilermaker):
    # This is a background task that we'll register
    async def background_task1(state: App, somearg, somekwarg=True):
        """`state` must be first argument."""
        state.printed += [state.data.get("key"), somearg, somekwarg]

    worker.register_async(background_task1, policy=retries.RetryPolicy.default())

    # Finally, this will schedule the task
    async def publish_task():
        await worker.apply_async(background_task1, "first-arg", somekwarg=False)

    await publish_task()
    await drain(worker)
    assert worker.state.printed == ["value", "first-arg", False]


async def test_a_worker_is_run(tmp_path):
    import asyncio

    worker = Boilermaker(App({}), url=f"sqlite:///{tmp_path}/tasks.db", embedded_worker=False)

    async def done(state: App) -> str:
        return "done"

    worker.register_async(done, policy=retries.NoRetry())

    async def run_worker():
        await worker.run()

    running = asyncio.create_task(run_worker())
    async with HoldfastApp("other", url=f"sqlite:///{tmp_path}/tasks.db", embedded_worker=False) as other:
        sent = await worker.apply_async(done)
        assert await other.job(sent.id).get(timeout=30) == "done"
    assert worker.worker is not None
    worker.worker.stop()
    await running
    await worker.close()


async def a_background_task(state: App, param: str):
    if param == "success":
        state.printed.append("Things seem to be going really well")
        return None
    elif param == "fail":
        return TaskFailureResult
    raise ValueError("Exceptions are a bummer!")


async def happy_path(state: App):
    state.printed.append("Everything is great!")


async def sad_path(state: App):
    state.printed.append("Everything is sad")


@pytest.fixture
def registered(worker: Boilermaker) -> Boilermaker:
    # We need to be sure our tasks are registered
    worker.register_async(a_background_task, policy=retries.NoRetry())
    worker.register_async(happy_path, policy=retries.NoRetry())
    worker.register_async(sad_path, policy=retries.NoRetry())
    return worker


async def test_callbacks(registered: Boilermaker):
    worker = registered
    # Now we can create a happy task and add callbacks
    happy_task = worker.create_task(a_background_task, "success")

    # For good measure, we'll create a sad task too
    sad_task = worker.create_task(a_background_task, "uh oh!")

    # This callback should get scheduled on success
    happy_task >> worker.create_task(happy_path)

    # It's also possible to assign tasks directly to `on_success` and `on_failure`.
    # This callback should not get scheduled
    sad_task.on_success = worker.create_task(happy_path)
    # This callback should get scheduled
    sad_task.on_failure = worker.create_task(sad_path)

    # Finally, this will schedule the tasks
    async def publish_task():
        await worker.publish_task(happy_task)
        await drain(worker)
        await worker.publish_task(sad_task)

    await publish_task()
    await drain(worker)
    assert worker.state.printed == ["Things seem to be going really well", "Everything is great!", "Everything is sad"]


async def test_chains(registered: Boilermaker):
    app = registered

    async def publish_chain():
        fail = Task.si(sad_path)
        workflow = app.chain(
            Task.si(a_background_task, "success"),
            Task.si(happy_path),
            Task.si(a_background_task, "fail"),
            on_failure=fail,
        )
        return await app.publish_task(workflow)

    handle = await publish_chain()
    await drain(app)
    assert app.state.printed == ["Things seem to be going really well", "Everything is great!", "Everything is sad"]
    with pytest.raises(TaskFailed) as caught:
        await handle.get()
    assert caught.value.original_type == "TaskFailureResult"


async def attempts_of(worker: Boilermaker, param: str, **options: Any) -> tuple[int, list[int]]:
    """How often it is attempted, and after which pauses."""
    worker.state.printed.clear()
    handle = await worker.apply_async(a_retried_task, param, **options)
    await drain(worker)
    assert await handle.status() is (JobStatus.DONE if param == "ok" else JobStatus.DEAD)
    moments = worker.state.printed
    return len(moments), [round(b - a) for a, b in zip(moments, moments[1:], strict=False)]


async def a_retried_task(state: App, param: str):
    state.printed.append(state.data.now())
    if param == "throwing":
        # This will retry using the *default policy* set when the task was registered
        raise retries.RetryException("We are thrown")
    if param == "its own":
        # This will retry using *THIS* RetryPolicy
        raise retries.RetryExceptionDefaultExponential("We are thrown", max_tries=4)
    if param == "broken":
        raise ValueError("not what it asked for")
    return "OK"


async def test_retries_when_registered_when_published_and_when_raised(worker: Boilermaker):
    worker.state.data = worker.clock
    worker.register_async(a_retried_task, policy=retries.RetryPolicy.default())
    assert (await attempts_of(worker, "ok"))[0] == 1
    assert (await attempts_of(worker, "throwing"))[0] == 5
    # Only what asks for it is tried again.
    assert (await attempts_of(worker, "broken"))[0] == 1

    new_policy = retries.RetryPolicy(max_tries=100, delay=2, delay_max=1000, retry_mode=retries.RetryMode.Exponential)
    count, pauses = await attempts_of(worker, "throwing", policy=new_policy)
    assert (count, pauses[:10]) == (100, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1000])
    assert (await attempts_of(worker, "broken", policy=new_policy))[0] == 1

    # Because the task raises a different policy, this one will get dropped in face of `RetryExceptionDefaultExponential`
    linear = retries.RetryPolicy(max_tries=10, delay=20, delay_max=100, retry_mode=retries.RetryMode.Linear)
    assert await attempts_of(worker, "its own", policy=linear) == (4, [30, 60, 120])
    assert await attempts_of(worker, "throwing", policy=linear) == (10, [20, 40, 60, 80, 100, 100, 100, 100, 100])


async def test_the_other_exceptions_that_ask_for_another_attempt():
    assert retries.RetryExceptionDefault("later").policy == retries.RetryPolicy.default()
    linear = retries.RetryExceptionDefaultLinear("later", delay=5).policy
    assert linear is not None
    assert [linear.delay_after(n) for n in (1, 2)] == [5, 10]


async def test_sync_functions_get_the_state_too(worker: Boilermaker):
    def sometask(state: App, *, reason: str):
        state.printed.append(reason)
        return TaskFailureResult("for a reason")

    worker.register_async(sometask, policy=retries.NoRetry())
    handle = await worker.apply_async(sometask, reason="sync")
    with pytest.raises(TaskFailed, match="for a reason"):
        await handle.get()
    assert worker.state.printed == ["sync"]


async def test_a_function_that_is_not_registered_is_named(worker: Boilermaker):
    async def forgotten(state: App): ...

    with pytest.raises(ConfigurationError, match=r"forgotten is not registered; call register_async"):
        await worker.apply_async(forgotten)
