"""The workflows that `holdfast bench` runs: trivial on purpose, so that what is measured is Holdfast."""

from __future__ import annotations

import asyncio
import time

from holdfast import App, Workflow, action, workflow

app = App("bench")


@action
async def one(n: int) -> int:
    return n + 1


@action
async def two(n: int) -> int:
    return n + 1


@action
async def three(n: int) -> int:
    return n + 1


@app.task(result_ttl=0)
async def noop(n: int) -> None:
    """A job whose result nobody wants."""


@app.task
async def same(n: int) -> int:
    """A job whose result somebody waits for."""
    return n


@workflow
class Sequence(Workflow):
    """Three actions, one after the other."""

    async def run(self, n: int) -> int:
        a = await one(n)
        b = await two(a)
        return await three(b)


@workflow
class Single(Workflow):
    """One action."""

    async def run(self, n: int) -> int:
        return await one(n)


@workflow
class Loop(Workflow):
    """As many actions as turns, one after the other, with a state that stays small."""

    async def run(self, turns: int) -> int:
        total = 0
        for _ in range(turns):
            total = await one(total)
        return total


@workflow
class Gather(Workflow):
    """As many actions as asked for, all at once."""

    async def run(self, width: int) -> int:
        return sum(await asyncio.gather(*[one(n) for n in range(width)]))


@workflow
class Sleeper(Workflow):
    """Sleeps until a moment (Unix seconds)."""

    async def run(self, until: float) -> None:
        await asyncio.sleep(until - time.time())
