"""dramatiq: one command with two processes, eight threads each; its actors are plain functions."""

import os
import sys
from pathlib import Path

import dramatiq
import tally
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

PROCESSES = 1
KEEPS = os.environ["BENCH_RESULTS"] == "1"
broker = RedisBroker(url=os.environ["BENCH_URL"])
if KEEPS:
    broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_URL"])))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True) if KEEPS else dramatiq.actor
def noop(n):
    tally.sync_work()
    return n


async def begin(): ...


async def send():
    noop.send(1)


async def end(): ...


def worker():
    command = [str(Path(sys.executable).parent / "dramatiq"), "dramatiq_on_redis", "--processes", "2", "--threads", "8"]
    return [*command, "--skip-logging"]
