"""Holdfast: two worker processes, a hundred tasks at once in each."""

import os
import sys

import tally

from holdfast import App

PROCESSES = 2
app = App("bench", url=os.environ["BENCH_URL"], concurrent_per_worker=100, log_level="error")


@app.task(result_ttl=600 if os.environ["BENCH_RESULTS"] == "1" else 0)
async def noop(n: int) -> int:
    await tally.work()
    return n


async def begin():
    await app.open()


async def send():
    await noop.delay(1)


async def end():
    await app.close()


def worker():
    return [sys.executable, "-m", "holdfast", "worker", "holdfast_on_redis:app", "--processes", "1"]
