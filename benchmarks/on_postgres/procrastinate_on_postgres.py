"""procrastinate: psycopg, a hundred jobs at once in each process; ended jobs are deleted."""

import os
import sys
from pathlib import Path

import procrastinate
import tally

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_URL"]),
    import_paths=["procrastinate_on_postgres"],
    worker_defaults={"concurrency": 100, "delete_jobs": "always"},
)


@app.task(name="noop")
async def noop(n):
    tally.tick()


async def begin():
    await app.open_async()
    await app.schema_manager.apply_schema_async()


async def send_many(count):
    for at in range(0, count, 1000):
        await noop.batch_defer_async(*[{"n": n} for n in range(at, min(at + 1000, count))])


async def end():
    await app.close_async()


def worker():
    return [str(Path(sys.executable).parent / "procrastinate"), "--app", "procrastinate_on_postgres.app", "worker"]
