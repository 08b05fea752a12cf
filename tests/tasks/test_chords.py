"""Chords: what follows when all of several calls have returned."""

from __future__ import annotations

import asyncio

import pytest

from holdfast import App, JobStatus, TaskCancelled, TaskFailed, WaitTimeout
from holdfast.errors import ConfigurationError, UnsupportedError
from holdfast.model.job import Job, JobFilter
from holdfast.runtime import chords
from holdfast.runtime.messages import Message, read, write
from holdfast.tasks import ERROR, RESULT, chord, gather, group
from holdfast.testing import drain


class Declined(Exception):
    """Of this test's own."""


class Shop:
    """Tasks that note what they were called with."""

    def __init__(self, app: App) -> None:
        self.heard: list[object] = []
        self.broken = True

        @app.task(name="shop:add", retries=0)
        async def add(a: int, b: int = 1) -> int:
            return a + b

        @app.task(name="shop:fail", retries=1)
        async def fail(n: int) -> int:
            if self.broken:
                raise Declined("no funds", n)
            return n

        @app.task(name="shop:total", retries=0)
        async def total(numbers: list[int]) -> int:
            self.heard.append(("total", *numbers))
            return sum(numbers)

        @app.task(name="shop:tell", retries=0)
        async def tell(said: object = None) -> object:
            self.heard.append(("tell", repr(said)))
            return said

        self.add, self.fail, self.total, self.tell = add, fail, total, tell


@pytest.fixture
def shop(app: App) -> Shop:
    return Shop(app)


async def test_the_callback_gets_all_results_in_order(app: App, shop: Shop):
    handle = await chord([shop.add.options(delay=100 - n).s(n) for n in range(5)], shop.total.s(RESULT)).delay()
    assert await handle.get() == 15
    assert await handle.status() is JobStatus.DONE
    assert await gather(handle.members) == [1, 2, 3, 4, 5]
    assert await app.job(handle.id).get() == 15
    await drain(app)
    assert shop.heard == [("total", 1, 2, 3, 4, 5)]
    assert await app.tasks.dead() == []


async def test_it_may_be_written_as_celery_has_it(shop: Shop):
    asked = chord(group(shop.add.s(1), shop.add.s(2)))(shop.total.s(RESULT))
    assert await (await asked.delay()).get() == 5


async def test_members_and_callback_may_be_chains(app: App, shop: Shop):
    members = [shop.add.s(1) >> shop.add.s(RESULT, b=10) >> shop.add.s(RESULT, b=100), shop.add.s(5)]
    handle = await chord(members, shop.total.s(RESULT) >> shop.tell.s(RESULT)).delay()
    assert await handle.get() == 118
    assert shop.heard == [("total", 112, 6), ("tell", "118")]
    # What was given is as it was, and can be sent again.
    assert await (await chord(members, shop.total.si([])).delay()).get() == 0


async def test_members_may_be_followed_by_others_as_well(app: App, shop: Shop):
    member = shop.add.s(1) >> group(shop.tell.s(RESULT), shop.tell.si("and"))
    assert await (await chord([member, shop.add.s(2)], shop.total.s(RESULT)).delay()).get() == 5
    await drain(app)
    assert sorted(map(str, shop.heard)) == sorted(map(str, [("tell", "2"), ("tell", "'and'"), ("total", 2, 3)]))


async def test_of_members_that_fail_the_failure_is_told_once(app: App, shop: Shop):
    members = [shop.fail.s(1), shop.add.s(1), shop.add.s(1) >> shop.fail.s(RESULT) >> shop.add.s(RESULT)]
    handle = await chord(members, shop.total.s(RESULT), on_failure=shop.tell.s(ERROR)).delay()
    with pytest.raises(TaskFailed, match="no funds"):
        await handle.get()
    await drain(app)
    assert len(shop.heard) == 1
    assert shop.heard[0] in [("tell", repr(repr(Declined("no funds", n)))[1:-1]) for n in (1, 2)]
    assert (await handle.view()).name == "shop:fail"
    assert await handle.status() is JobStatus.DEAD


async def test_a_failure_of_the_callback_is_told_as_that_of_any_call(app: App, shop: Shop):
    callback = shop.fail.si(7)
    callback.on_failure = shop.tell.s(ERROR)
    handle = await chord([shop.add.s(1)], callback).delay()
    with pytest.raises(TaskFailed, match="no funds"):
        await handle.get()
    await drain(app)
    assert [each for each in shop.heard] == [("tell", repr(Declined("no funds", 7)))]


async def test_the_callback_comes_when_what_failed_is_replayed(app: App, shop: Shop):
    handle = await chord([shop.fail.s(1), shop.add.s(1)], shop.total.s(RESULT)).delay()
    with pytest.raises(TaskFailed, match="no funds"):
        await handle.get()
    await drain(app)
    assert shop.heard == []
    shop.broken = False
    assert await handle.retry()
    assert await handle.get() == 3


async def test_a_cancelled_chord_is_followed_by_nothing(working: App):
    """On real time, in which the second member does not come."""
    shop = Shop(working)
    handle = await chord([shop.add.s(1), shop.add.options(delay=3600).s(2)], shop.total.s(RESULT)).delay()
    await handle.members[0].get()
    assert await handle.status() is JobStatus.QUEUED
    assert await handle.cancel()
    with pytest.raises(TaskCancelled):
        await handle.get()
    await drain(working)
    assert shop.heard == []
    assert not await handle.cancel()


async def test_whoever_waits_too_long_is_told(working: App):
    shop = Shop(working)
    handle = await chord([shop.add.options(delay=3600).s(1)], shop.total.s(RESULT)).delay()
    with pytest.raises(WaitTimeout):
        await handle.get(timeout=0.05)


async def test_without_members_the_callback_comes_at_once(shop: Shop):
    assert await (await chord([], shop.total.s(RESULT)).delay()).get() == 0


async def test_many_members_end_at_once(working: App):
    shop = Shop(working)
    handle = await chord((shop.add.s(n) for n in range(1500)), shop.total.s(RESULT)).delay()
    assert await handle.get(timeout=60) == sum(range(1501))
    assert len(shop.heard) == 1


async def test_results_of_members_are_kept_for_the_others_and_then_forgotten(app: App, shop: Shop):
    quick = shop.add.options(result_ttl=0).s(1)
    slow = shop.add.options(result_ttl=0, delay=30 * 86400).s(2)
    handle = await chord([quick, slow], shop.total.s(RESULT)).delay()
    assert await handle.get() == 5
    await drain(app)
    assert [view.name for view in await app.tasks.broker.find(JobFilter())] == ["shop:total"]
    assert await handle.get() == 5


async def test_the_callback_is_one_job_however_often_the_last_member_ends(working: App):
    """On real time: within the hour after which the members are forgotten."""
    shop = Shop(working)
    handle = await chord([shop.add.s(1), shop.add.s(2)], shop.total.s(RESULT)).delay()
    assert await handle.get() == 5
    for _ in range(3):
        assert await handle.members[1].retry()
        assert await handle.members[1].get() == 3
        while await working.tasks.broker.count(JobFilter(name=chords.JOIN)):
            await asyncio.sleep(0.001)
    assert shop.heard == [("total", 2, 3)]


async def test_a_member_whose_end_is_not_written_yet_is_looked_at_again(app: App, shop: Shop):
    """As where a broker sends what follows before it writes the end that it follows from."""
    asked = chord([shop.add.options(delay=2).s(1)], shop.total.s(RESULT))
    handle = await asked.delay()
    view = await handle.members[0].view()
    [[link]] = read(view.payload).then
    early = Job("early", link.name, write(link.message), app.clock.now(), app.clock.now())  # type: ignore[arg-type]
    await app.send([early])
    assert await handle.get() == 2
    await drain(app)
    assert shop.heard == [("total", 2)]


async def test_results_that_are_lost_are_an_error(app: App, shop: Shop):
    handle = await chord([shop.add.s(1), shop.add.options(delay=2 * 86400).s(2)], shop.total.s(RESULT)).delay()
    await handle.members[0].get()
    assert await app.tasks.purge([handle.members[0].id])
    with pytest.raises(TaskFailed, match="not there any more; send the chord again"):
        await handle.get()


async def test_messages_that_are_about_no_chord_are_dead_letters(app: App):
    now = app.clock.now()
    for number, arguments in enumerate(
        (
            [[], {}],
            [[0, "c", 0, 0, [10**12, []]], {}],
            [[0, "c", 0, 0, [1, [[0, 10**12]]]], {}],
            [[3, "c", 0, 0, [1, []]], {}],
        )
    ):
        name = chords.JOIN if number % 2 else chords.FORGET
        job = Job(f"odd-{number}", name, write(Message(arguments)), now, now)  # type: ignore[arg-type]
        [handle] = await app.send([job])
        with pytest.raises(TaskFailed, match="no message about a chord|there is no such chord"):
            await handle.get()


async def test_what_cannot_be_a_chord_is_refused(app: App, shop: Shop):
    @app.task(acks="early")
    async def once() -> None: ...

    with pytest.raises(ConfigurationError, match="nobody knows how it ends"):
        chord([once.s()], shop.total.s(RESULT))
    with pytest.raises(ConfigurationError, match="id= and unique= cannot be given"):
        chord([shop.add.options(id="x").s(1)], shop.total.s(RESULT))
    with pytest.raises(ConfigurationError, match="the callback of a chord is a call"):
        chord([shop.add.s(1)], shop.total)  # type: ignore[arg-type]


async def test_where_no_job_is_found_by_its_id_there_are_no_chords():
    app = App("apart", url="servicebus://127.0.0.1:1?emulator=true", embedded_worker=False)
    shop = Shop(app)
    with pytest.raises(UnsupportedError, match="a chord looks at the results of its members"):
        await chord([shop.add.s(1)], shop.total.s(RESULT)).delay()
