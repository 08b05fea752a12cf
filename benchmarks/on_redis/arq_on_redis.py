"""arq: two processes, a hundred jobs at once in each, looking ten times a second."""

import os
import sys
from pathlib import Path

import tally
from arq import create_pool
from arq.connections import RedisSettings

PROCESSES = 2
where = RedisSettings.from_dsn(os.environ["BENCH_URL"])
pool = None


async def noop(ctx, n: int) -> int:
    await tally.work()
    return n


class WorkerSettings:
    functions = (noop,)
    redis_settings = where
    max_jobs = 100
    poll_delay = 0.1
    keep_result = 600 if os.environ["BENCH_RESULTS"] == "1" else 0


async def begin():
    global pool
    pool = await create_pool(where)


async def send():
    await pool.enqueue_job("noop", 1)


async def end():
    await pool.aclose()


def worker():
    return [str(Path(sys.executable).parent / "arq"), "arq_on_redis.WorkerSettings"]
