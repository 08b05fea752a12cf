"""One look serves all who watch, costs a bounded part of the time, and nobody looks where nobody watches."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.observe.watch import EVERY, SHARE, Watch


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.looks = 0
        self.takes = 0.1
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def look(self) -> int:
        self.looks += 1
        await self.gate.wait()
        self.now += self.takes
        if self.broken:
            raise StoreUnavailable("gone")
        return self.looks


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def watch(world: World) -> Watch[int]:
    return Watch(world.look, clock=lambda: world.now)


async def test_all_who_ask_at_once_get_one_look(world: World, watch: Watch[int]) -> None:
    world.gate.clear()
    asking = [asyncio.create_task(watch.look()) for _ in range(50)]
    await asyncio.sleep(0)
    world.gate.set()
    assert await asyncio.gather(*asking) == [1] * 50
    assert await watch.look() == 1
    world.now += EVERY
    assert await watch.look() == 2
    assert world.looks == 2


async def test_a_slow_look_is_taken_less_often(world: World, watch: Watch[int]) -> None:
    world.takes = 3.0
    begun = world.now
    await watch.look()
    world.now = begun + 3.0 * SHARE - 1
    assert await watch.look() == 1
    world.now += 2
    assert await watch.look() == 2


async def test_after_a_change_comes_a_new_look(world: World, watch: Watch[int]) -> None:
    assert await watch.look() == 1
    watch.forget()
    assert await watch.look() == 2


async def test_an_error_is_told_to_all_and_looked_after_again_later(world: World, watch: Watch[int]) -> None:
    world.broken = True
    found = await asyncio.gather(*[watch.look() for _ in range(9)], return_exceptions=True)
    assert [type(each) for each in found] == [StoreUnavailable] * 9
    assert world.looks == 1
    world.broken = False
    with pytest.raises(StoreUnavailable):
        await watch.look()
    world.now += EVERY
    assert await watch.look() == 2
