"""SAQ: two processes, a hundred tasks at once in each."""

import os
import sys
from pathlib import Path

import tally
from saq import Queue

PROCESSES = 2
TTL = 600 if os.environ["BENCH_RESULTS"] == "1" else -1
queue = Queue.from_url(os.environ["BENCH_URL"])


async def noop(ctx, *, n: int) -> int:
    await tally.work()
    return n


settings = {"queue": queue, "functions": [noop], "concurrency": 100}


async def begin():
    await queue.connect()


async def send():
    await queue.enqueue("noop", n=1, ttl=TTL)


async def end():
    await queue.disconnect()


def worker():
    return [str(Path(sys.executable).parent / "saq"), "saq_on_redis.settings"]
