"""Holdfast: a hundred jobs at once in each process, their results not kept."""

import os
import sys

import tally

from holdfast import App

app = App("bench", url=os.environ["BENCH_URL"], concurrent_per_worker=100, log_level="error", embedded_worker=False)


@app.task(result_ttl=0)
async def noop(n: int) -> None:
    tally.tick()


async def begin():
    await app.open()


async def send_many(count):
    await noop.map(range(count))


async def end():
    await app.close()


def worker():
    return [sys.executable, "-m", "holdfast", "worker", "holdfast_on_postgres:app", "--processes", "1"]
