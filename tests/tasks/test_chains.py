"""Calls that follow others: on success, on failure, in chains and in groups."""

from __future__ import annotations

import pytest

from holdfast import App, JobStatus, TaskFailed
from holdfast.errors import ConfigurationError, JobNotFound
from holdfast.model.job import JobFilter
from holdfast.tasks import ERROR, RESULT, chain, gather, group, pause_queues
from holdfast.testing import drain

pytestmark = pytest.mark.asyncio


class Declined(Exception):
    """Of this test's own."""


class Shop:
    """Tasks that note what they were called with."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.heard: list[object] = []

        @app.task(name="shop:add", retries=0)
        async def add(a: int, b: int = 1) -> int:
            self.heard.append(("add", a, b))
            return a + b

        @app.task(name="shop:fail", retries=1)
        async def fail(*args: object) -> None:
            self.heard.append(("fail", *args))
            raise Declined("no funds", 7)

        @app.task(name="shop:tell", retries=0)
        async def tell(said: object = None, *, to: str = "all") -> object:
            self.heard.append(("tell", said, to))
            return said

        self.add, self.fail, self.tell = add, fail, tell


@pytest.fixture
def shop(app: App) -> Shop:
    return Shop(app)


async def test_a_chain_passes_results_on_and_gives_the_last_one(shop: Shop):
    handle = await (shop.add.s(1) >> shop.add.s(RESULT, b=10) >> shop.tell.s(RESULT, to="ada")).delay()
    assert await handle.get(timeout=30) == 12
    assert shop.heard == [("add", 1, 1), ("add", 2, 10), ("tell", 12, "ada")]
    assert await handle.status() is JobStatus.DONE


async def test_an_immutable_call_takes_nothing_from_the_one_before(shop: Shop):
    assert await (await (shop.add.s(1) >> shop.tell.si("done")).delay()).get() == "done"
    with pytest.raises(ConfigurationError, match=r"write s\(RESULT\)"):
        shop.tell.si(RESULT)


async def test_a_placeholder_has_no_meaning_in_a_call_that_follows_none(shop: Shop):
    with pytest.raises(ConfigurationError, match="shop:tell follows none"):
        await shop.tell.delay(RESULT)
    with pytest.raises(ConfigurationError, match="shop:tell follows none"):
        await shop.tell.s(RESULT).delay()


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(app: App, shop: Shop):
    with pytest.raises(TypeError, match="unexpected keyword"):
        await (shop.add.s(1) >> shop.add.s(RESULT, c=3)).delay()
    assert await app.tasks.broker.count(JobFilter()) == 0


async def test_what_follows_a_failure_gets_the_exception_after_the_last_attempt(shop: Shop):
    call = shop.fail.s(7)
    call.on_failure = shop.tell.s(ERROR, to="ops")
    call.on_success = shop.tell.si("never")
    handle = await call.delay()
    with pytest.raises(TaskFailed, match="no funds"):
        await handle.get()
    while len(shop.heard) < 3:
        await (await shop.add.delay(0)).get()
    told = [each for each in shop.heard if each[0] == "tell"]  # type: ignore[index]
    assert shop.heard[:2] == [("fail", 7), ("fail", 7)]
    assert len(told) == 1
    assert repr(told[0]) == repr(("tell", Declined("no funds", 7), "ops"))


async def test_a_chain_stops_where_it_fails_and_tells_once(app: App, shop: Shop):
    calls = (shop.add.s(1), shop.fail.si(), shop.tell.si("never"))
    handle = await chain(*calls, on_failure=shop.tell.s(ERROR)).delay()
    with pytest.raises(TaskFailed, match="no funds"):
        await handle.get()
    assert (await handle.view()).name == "shop:fail"
    [told] = [view for view in await app.tasks.broker.find(JobFilter(name="shop:tell"))]
    await app.job(told.id).get()
    assert [each[0] for each in shop.heard] == ["add", "fail", "fail", "tell"]  # type: ignore[index]
    # What was given to chain() is as it was.
    assert calls[0].on_success is None
    assert calls[0].on_failure is None


async def test_a_group_at_its_end_is_part_of_a_chain_that_fails(app: App, shop: Shop):
    last = group(shop.fail.si(), shop.tell.s(RESULT))
    await chain(shop.add.s(1), last, on_failure=shop.tell.s(ERROR, to="ops")).delay()
    await drain(app)
    assert sorted(str(each[0]) for each in shop.heard) == ["add", "fail", "fail", "tell", "tell"]  # type: ignore[index]
    told = [each for each in shop.heard if each[0] == "tell" and isinstance(each[1], Declined)]  # type: ignore[index]
    assert [each[2] for each in told] == ["ops"]  # type: ignore[index]


async def test_a_chain_goes_on_when_what_stopped_it_is_replayed(app: App, shop: Shop):
    ready: list[bool] = []

    @app.task(name="shop:gate", retries=0)
    async def gate() -> int:
        if not ready:
            raise Declined("closed")
        return 5

    handle = await (shop.add.s(1) >> gate.si() >> shop.add.s(RESULT)).delay()
    with pytest.raises(TaskFailed, match="closed"):
        await handle.get()
    ready.append(True)
    assert await handle.retry()
    assert await handle.get() == 6


async def test_a_call_may_be_followed_by_several(shop: Shop):
    call = shop.add.s(1) >> group(shop.tell.s(RESULT, to="ada"), shop.tell.s(RESULT, to="bob"))
    assert await (await call.delay()).get() == 2
    while len(shop.heard) < 3:
        await (await shop.tell.delay("wait")).get()
    assert {("tell", 2, "ada"), ("tell", 2, "bob")} <= set(shop.heard)
    with pytest.raises(ConfigurationError, match="followed by several"):
        call >> shop.tell.si()  # noqa: B018 - it is refused


async def test_a_group_is_sent_at_once(shop: Shop):
    assert await gather(await group(shop.add.s(n) for n in range(5)).delay()) == [1, 2, 3, 4, 5]
    assert await group().delay() == []


async def test_circles_are_refused(shop: Shop):
    first, second = shop.tell.s(1), shop.tell.si(2)
    first.on_success = second
    with pytest.raises(ConfigurationError, match="would follow itself"):
        second.on_success = first
    with pytest.raises(ConfigurationError, match="would follow itself"):
        second.on_failure = first
    with pytest.raises(ConfigurationError, match="would follow itself"):
        first >> first  # noqa: B018 - it is refused


async def test_other_things_than_calls_are_refused(shop: Shop):
    with pytest.raises(ConfigurationError, match=r"such as task\.s\(1\), not"):
        chain(shop.tell)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="at least one"):
        chain()
    with pytest.raises(ConfigurationError, match="on_failure takes calls"):
        shop.tell.s().on_failure = group(shop.tell.s())  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="id= cannot be given to a call that follows another"):
        await (shop.tell.s(1) >> shop.tell.options(id="x").s(RESULT)).delay()


async def test_a_group_ends_a_chain_and_stands_nowhere_else_in_it(shop: Shop):
    both = group(shop.tell.s(RESULT, to="ada"), shop.tell.s(RESULT, to="grace"))
    await chain(shop.add.s(1), shop.add.s(RESULT), both).delay()
    await drain(shop.app)
    assert shop.heard[:2] == [("add", 1, 1), ("add", 2, 1)]
    assert sorted(shop.heard[2:]) == [("tell", 3, "ada"), ("tell", 3, "grace")]
    for calls in ([shop.add.s(1), both, shop.tell.si()], [both, shop.tell.si()], [both]):
        with pytest.raises(ConfigurationError, match="chord"):
            chain(*calls)


async def test_placeholders_stand_where_there_is_something_for_them(shop: Shop):
    call = shop.add.s(1)
    with pytest.raises(ConfigurationError, match="nothing for ERROR to stand for in .*tell.*has returned"):
        _ = call >> shop.tell.s(ERROR)
    with pytest.raises(ConfigurationError, match="nothing for RESULT to stand for in .*tell.*has failed"):
        call.on_failure = shop.tell.s(RESULT)
    for inside in ([RESULT], {"a": (1, RESULT)}, [{"b": ERROR}]):
        with pytest.raises(ConfigurationError, match="stands for a whole argument"):
            shop.tell.s(inside)
        with pytest.raises(ConfigurationError, match="stands for a whole argument"):
            shop.tell.s(said=inside)


async def test_what_follows_has_its_own_options(app: App, shop: Shop):
    later = shop.tell.options(delay=60, queue="slow", priority=3).s(RESULT)
    begin = app.clock.now()
    handle = await (shop.add.options(result_ttl=0).s(1) >> later).delay()
    assert await handle.get() == 2
    view = await handle.view()
    assert (view.queue, view.priority) == ("slow", 3)
    assert view.due_at - begin >= 60


async def test_a_long_chain_is_sent_as_one_job(app: App, shop: Shop):
    handle = await chain(shop.add.s(0), *[shop.add.s(RESULT) for _ in range(300)]).delay()
    assert await handle.get() == 301


async def test_the_end_of_one_sends_the_next_once_however_often_it_is_told(app: App, shop: Shop):
    handle = await (shop.add.options(id="first").s(1) >> shop.tell.s(RESULT)).delay()
    await handle.get()
    assert await app.job("first").retry()
    while (await app.job("first").status()) is not JobStatus.DONE:
        await (await shop.add.delay(0)).get()
    assert [each for each in shop.heard if each[0] == "tell"] == [("tell", 2, "all")]  # type: ignore[index]


async def test_what_cannot_be_put_together_fails_the_job_and_says_so(app: App, shop: Shop):
    @app.task(name="shop:odd", retries=0)
    async def odd() -> object:
        return [1]

    message = (odd.s() >> shop.tell.s(RESULT)).job()
    broken = message._replace(payload=message.payload.replace(b"placeholder", b"plaseholder"))
    [handle] = await app.send([broken])
    with pytest.raises(TaskFailed, match=r"what follows from its end \(done\) cannot be put together"):
        await handle.get()


async def test_a_cancelled_call_is_followed_by_nothing(app: App, shop: Shop):
    # Where time moves by itself, only a pause keeps a job from its turn.
    await pause_queues(app, "default")
    call = shop.add.s(1) >> shop.tell.s(RESULT)
    call.on_failure = shop.tell.s(ERROR)
    handle = await call.delay()
    assert await handle.cancel()
    with pytest.raises(JobNotFound):
        await app.job(handle.id).get()
    assert shop.heard == []


async def test_a_worker_of_another_queue_is_told_of_what_follows(url: str):
    """Both wait without polling for much longer than this takes."""
    first = App("first", url=url, queues="default", embedded_worker=False)
    second = App("second", url=url, queues="slow", embedded_worker=False)

    @first.task(name="apart:add")
    async def add(n: int) -> int:
        return n + 1

    async with first, second:
        await first.start_worker().ready.wait()
        await second.start_worker().ready.wait()
        handle = await (add.s(1) >> add.options(queue="slow").s(RESULT)).delay()
        assert await handle.get(timeout=30) == 3
