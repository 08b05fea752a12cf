"""huey: two processes with four threads each; its tasks are plain functions."""

import os
import sys
from pathlib import Path

import tally
from huey import RedisHuey

PROCESSES = 2
huey = RedisHuey("bench", url=os.environ["BENCH_URL"], results=os.environ["BENCH_RESULTS"] == "1")


@huey.task()
def noop(n):
    tally.sync_work()
    return n


async def begin(): ...


async def send():
    noop(1)


async def end(): ...


def worker():
    return [str(Path(sys.executable).parent / "huey_consumer"), "huey_on_redis.huey", "-w", "4", "-k", "thread", "-q"]
