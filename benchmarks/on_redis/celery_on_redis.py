"""Celery: one command with two processes of its pool, without gossip and the like; its tasks are plain functions."""

import os
import sys
from pathlib import Path

import tally
from celery import Celery

PROCESSES = 1
KEEPS = os.environ["BENCH_RESULTS"] == "1"
app = Celery("bench", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_URL"] if KEEPS else None)
app.conf.task_ignore_result = not KEEPS
app.conf.worker_prefetch_multiplier = 50


@app.task(name="noop")
def noop(n):
    tally.sync_work()
    return n


async def begin(): ...


async def send():
    noop.delay(1)


async def end(): ...


def worker():
    command = [str(Path(sys.executable).parent / "celery"), "-A", "celery_on_redis", "worker", "-c", "2"]
    return [*command, "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
