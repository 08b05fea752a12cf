"""Holdfast: a worker process with a hundred tasks at once. Sent many: `delay_many`."""

import os
import sys

import tally

from holdfast import App

app = App(
    "bench",
    url=f"servicebus://127.0.0.1:{os.environ['BENCH_PORT']}?emulator=true",
    concurrent_per_worker=100,
    log_level="error",
)


@app.task(result_ttl=0)
async def noop(n: int) -> int:
    await tally.work()
    return n


async def begin():
    await app.open()


async def send():
    await noop.delay(1)


async def send_many(number):
    await noop.delay_many([1] * number)


async def end():
    await app.close()


def worker():
    return [sys.executable, "-m", "holdfast", "worker", "holdfast_on_servicebus:app", "--processes", "1"]
