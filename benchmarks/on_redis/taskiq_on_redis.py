"""taskiq with its list broker, the faster of its two kinds: one command with two processes, a hundred tasks at once each."""

import os
import sys
from pathlib import Path

import tally
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

PROCESSES = 1
KEEPS = os.environ["BENCH_RESULTS"] == "1"
broker = ListQueueBroker(os.environ["BENCH_URL"])
if KEEPS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(os.environ["BENCH_URL"], result_ex_time=600))


@broker.task
async def noop(n: int) -> int:
    await tally.work()
    return n


async def begin():
    await broker.startup()


async def send():
    await noop.kiq(1)


async def end():
    await broker.shutdown()


def worker():
    command = [str(Path(sys.executable).parent / "taskiq"), "worker", "taskiq_on_redis:broker"]
    return [*command, "--workers", "2", "--max-async-tasks", "100", "--log-level", "ERROR"]
