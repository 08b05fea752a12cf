"""The application under the crash tests: an auditing workflow, and a store that kills its process at a named point."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from holdfast import App, RetryPolicy, Workflow, action, workflow

AUDIT = os.environ.get("AUDIT_FILE", "/dev/null")


def note(what: str, key: str) -> None:
    """One line in the audit file: written at once, whatever happens next."""
    line = f"{what} {key} {os.getpid()} {time.time():.6f}\n".encode()
    descriptor = os.open(AUDIT, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


@action
async def work(key: str, seconds: float = 0.0) -> str:
    note("begin", key)
    await asyncio.sleep(seconds)
    note("end", key)
    return key


@action
async def shaky(key: str) -> str:
    note("begin", key)
    if int(time.time() * 1000) % 3 == 0:
        note("fail", key)
        raise ConnectionError(key)
    note("end", key)
    return key


@workflow
class Audited(Workflow):
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def step(self, name: str, n: int) -> str:
        got = await work(f"{name}/{n}", 0.005)
        self.seen.append(got)
        return got

    async def run(self, name: str) -> list[str]:
        first = await work(f"{name}/first")
        wide = await asyncio.gather(*[self.step(name, n) for n in range(4)])
        again = await self.run_action(shaky(f"{name}/shaky"), retry=RetryPolicy(attempts=100, delay=0.01))
        await asyncio.sleep(0.05)
        last = await work(f"{name}/last", 0.01)
        return [first, *wide, again, last, str(len(self.seen))]


class Fatal:
    """A store or broker that kills its own process with SIGKILL, at the n-th call of a verb, before or after it.

    `jobs.` before the verb means that of the broker.
    """

    def __init__(self, port: Any, when: str, verb: str, count: int) -> None:
        self.port = port
        self.when, self.verb = when, verb
        self.left = count

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.port, name)
        if name != self.verb:
            return value

        async def fatal(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await value(*args, **kwargs)
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return fatal


app = App("crash", lease_seconds=1.0, concurrent_per_worker=8, poll_interval_ms=20)


@app.task(retry=RetryPolicy(100, delay=0.01))
async def job(key: str, seconds: float = 0.0) -> str:
    note("begin", key)
    await asyncio.sleep(seconds)
    if int(time.time() * 1000) % 5 == 0:
        raise ConnectionError(key)
    note("end", key)
    return key


@app.task(retry=RetryPolicy(100, delay=0.01), result_ttl=0)
async def errand(key: str, seconds: float = 0.0) -> None:
    """Nothing remains of it."""
    note("begin", key)
    await asyncio.sleep(seconds)
    if int(time.time() * 1000) % 7 == 0:
        note("fail", key)
        raise ConnectionError(key)
    note("end", key)


@app.task(retry=RetryPolicy(100, delay=0.01))
async def collect(key: str, results: list[str]) -> str:
    note("begin", key)
    return f"{key}: {' '.join(results)}"


@app.task(retries=0)
async def failing(key: str) -> str:
    note("begin", key)
    raise ValueError(key)


@app.task(retries=5)
async def mourn(key: str) -> str:
    note("begin", key)
    return key


@app.task(acks="early")
async def deadly(key: str) -> None:
    note("begin", key)
    os.kill(os.getpid(), signal.SIGKILL)


if point := os.environ.get("CRASH_POINT"):
    when, verb, count = point.split(":")
    if verb.startswith("jobs."):
        app.broker = Fatal(app.broker, when, verb.removeprefix("jobs."), int(count))
    else:
        app.store = app.broker._store = Fatal(app.store, when, verb, int(count))
