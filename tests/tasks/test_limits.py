"""Keys, limits and rates of tasks: what a person writes, and how it then runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import pytest

from holdfast import App, Depend, TaskCancelled
from holdfast.errors import ConfigurationError
from holdfast.model.job import Gate
from holdfast.runtime.messages import Link, Message, read, write
from holdfast.task import ACTIONS
from holdfast.tasks import RESULT, pause_queues, resume_queues


def give() -> str:
    return "given"


@pytest.fixture
async def app(tmp_path: Path) -> Any:
    before = dict(ACTIONS)
    app = App("test", url=f"sqlite:///{tmp_path}/limits.db")
    async with app:
        yield app
    ACTIONS.clear()
    ACTIONS.update(before)


class Crowd:
    """Counts who is inside at once."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.order: list[Any] = []

    async def pass_through(self, what: Any) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.order.append(what)
        await asyncio.sleep(0.001)
        self.inside -= 1


async def test_jobs_of_one_key_run_one_by_one_in_order_and_those_of_others_beside_them(app: App) -> None:
    crowds: dict[str, Crowd] = {"a": Crowd(), "b": Crowd()}
    both = Crowd()

    @app.task(key="customer:{customer}")
    async def charge(n: int, customer: str = "a") -> None:
        await asyncio.gather(both.pass_through(n), crowds[customer].pass_through(n))

    handles = await charge.starmap([(n, "ab"[n % 2]) for n in range(60)])
    for handle in handles:
        await handle.get()
    assert (crowds["a"].most, crowds["b"].most, both.most) == (1, 1, 2)
    assert crowds["a"].order == list(range(0, 60, 2))
    assert crowds["b"].order == list(range(1, 60, 2))


async def test_a_call_has_a_key_of_its_own(app: App) -> None:
    crowd = Crowd()

    @app.task(key=lambda n: f"number:{n}")
    async def one(n: int) -> None:
        await crowd.pass_through(n)

    @app.task
    async def other(n: int) -> None:
        await crowd.pass_through(n)

    # Keys are shared by all tasks.
    for n in range(10):
        await (one if n % 2 else other).options(key="{literal}").delay(n)
    last = await other.options(key="{literal}").delay(10)
    await last.get()
    assert crowd.most == 1
    assert crowd.order == list(range(11))


async def test_no_more_jobs_of_a_task_run_at_once_than_it_allows(app: App) -> None:
    crowd = Crowd()

    @app.task(concurrency=3)
    async def convert(n: int) -> None:
        await crowd.pass_through(n)

    for handle in await convert.map(range(60)):
        await handle.get()
    assert crowd.most == 3
    assert sorted(crowd.order) == list(range(60))


async def test_no_more_begin_than_the_rate_allows(app: App) -> None:
    began: list[float] = []

    @app.task(rate="50/s", burst=3)
    async def call() -> None:
        began.append(asyncio.get_running_loop().time())

    for handle in await call.delay_many([()] * 9):
        await handle.get()
    # Three at once, six more within 0.02 seconds each; they may come late, and then in clusters.
    assert len(began) == 9
    assert began[-1] - began[0] >= 6 * 0.02 - 0.01


async def test_what_fails_lets_the_next_one_in(app: App) -> None:
    tries: list[int] = []

    @app.task(key="one", retries=0)
    async def fail(n: int) -> None:
        tries.append(n)
        raise ValueError(n)

    handles = await fail.map([1, 2, 3])
    for handle in handles:
        with pytest.raises(Exception, match="failed for good"):
            await handle.get()
    assert tries == [1, 2, 3]


async def test_what_is_cancelled_before_its_gate_does_not_run_later(app: App) -> None:
    ran: list[int] = []
    claim = app.broker.claim

    async def cancelling(*arguments: Any, **named: Any) -> Any:
        claimed = await claim(*arguments, **named)
        now = app.clock.now()
        await app.broker.cancel([job.id for job in claimed.jobs if job.id == "b"], now=now, keep_until=now + 3600)
        return claimed

    app.broker.claim = cancelling  # type: ignore[method-assign]

    @app.task(key="one")
    async def run(n: int) -> None:
        ran.append(n)

    await pause_queues(app, "default")
    handles = [await run.options(id="abc"[n]).delay(n) for n in range(3)]
    await resume_queues(app, "default")
    for handle in (handles[0], handles[2]):
        await handle.get()
    with pytest.raises(TaskCancelled):
        await handles[1].get()
    assert ran == [0, 2]


async def test_calls_that_follow_have_their_gates(app: App) -> None:
    crowd = Crowd()

    @app.task
    async def first(n: int) -> int:
        return n

    @app.task(concurrency=1)
    async def then(n: int) -> None:
        await crowd.pass_through(n)

    @app.task(key="{n}")
    async def keyed(n: int) -> None:
        await crowd.pass_through(n)

    lines = [await (first.s(n) >> then.s(RESULT)).delay() for n in range(10)]
    for line in lines:
        await line.get()
    assert crowd.most == 1
    with pytest.raises(ConfigurationError, match="not all of them are known yet"):
        await (first.s(1) >> keyed.s(RESULT)).delay()
    await (await (first.s(1) >> keyed.options(key="k").s(RESULT)).delay()).get()
    chain = (Link("app:b", Message([[], {}]), "default", gate=Gate("g", 1, 0.5, 2)),)
    message = Message([[], {}], then=(chain,))
    assert read(write(message)) == message


async def test_what_is_injected_is_no_part_of_a_key(app: App) -> None:
    @app.task(key="customer:{customer}")
    async def bill(what: Annotated[str, Depend(give)], *, customer: int = 7) -> str:
        return f"{what} {customer}"

    assert bill.job((), {}, bill.jobs).gate_name == "key:customer:7"
    assert await (await bill.delay(customer=8)).get() == "given 8"  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="names 'what', and the parameters of .*bill are: customer"):
        app.task(key="{what}")(bill.function)


async def test_what_cannot_be_is_refused_where_it_is_written(app: App) -> None:
    async def call(n: int) -> None: ...

    for options, words in (
        ({"key": "{m}"}, "names 'm', and the parameters of .*call are: n"),
        ({"key": "{n"}, "cannot be read"),
        ({"key": "{n.__class__}"}, "names 'n.__class__'"),
        ({"key": 7}, "key= is a text such as"),
        ({"concurrency": 0}, "concurrency= is a whole number from 1 on"),
        ({"concurrency": True}, "concurrency= is a whole number"),
        ({"rate": "fast"}, 'such as "10/s"'),
        ({"rate": "0/s"}, 'such as "10/s"'),
        ({"rate": 5}, 'such as "10/s"'),
        ({"burst": 2}, "goes with a rate="),
        ({"acks": "early", "key": "{n}"}, "it can have no key="),
        ({"acks": "early", "concurrency": 1}, "it can have no key="),
    ):
        with pytest.raises(ConfigurationError, match=words):
            app.task(**options)(call)  # type: ignore[arg-type]
    task = app.task(key=lambda n: n, name="limits:number")(call)
    with pytest.raises(ConfigurationError, match="gives a text, and gave 7"):
        await task.delay(7)
    with pytest.raises(ConfigurationError, match="key= of a call is a text"):
        task.options(key=7)  # type: ignore[arg-type]


async def test_a_key_of_any_length_is_a_gate(app: App) -> None:
    @app.task
    async def call() -> str:
        return "done"

    assert await (await call.options(key="k" * 10_000).delay()).get() == "done"
    assert await (await call.options(key="nul \0").delay()).get() == "done"
    job = call.job((), {}, call.chosen({"key": "x", "rate": "30/m", "burst": 2}))
    assert job.gate == Gate("key:x", None, 2.0, 2)
