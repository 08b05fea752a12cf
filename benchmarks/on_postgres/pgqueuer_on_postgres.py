"""pgqueuer: asyncpg and uvloop, as many jobs in a batch as gave it the best figures here, default durability."""

import asyncio
import os
import sys

import asyncpg
import tally
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

BATCH = int(os.environ.get("BENCH_PGQUEUER_BATCH", "1000"))
queries = None


async def begin():
    global queries
    queries = Queries(AsyncpgDriver(await asyncpg.connect(os.environ["BENCH_URL"])))
    await queries.install()


async def send_many(count):
    await queries.enqueue(["noop"] * count, [b"1"] * count, [0] * count)


async def end():
    return None


def worker():
    return [sys.executable, __file__]


async def work():
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["BENCH_URL"])))

    @queuer.entrypoint("noop")
    async def noop(job):
        tally.tick()

    await queuer.run(batch_size=BATCH)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(work())
