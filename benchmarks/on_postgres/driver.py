"""One system on PostgreSQL: sends jobs in bulk, then has processes run them; prints figures as one JSON object.

`driver.py SYSTEM URL JOBS PROCESSES`, in the environment of the system, on a database that is its own.
"""

import asyncio
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SHARED = HERE.parent / "on_redis"
WITHIN = 300


def main() -> None:
    system, url, jobs, processes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(64 * 24))
        file.flush()
        os.environ.update(BENCH_TALLY=file.name, BENCH_URL=url, PYTHONPATH=f"{HERE}{os.pathsep}{SHARED}")
        os.chdir(HERE)
        sys.path[:0] = [str(HERE), str(SHARED)]
        found = importlib.import_module(f"{system}_on_postgres")
        sent = asyncio.run(send(found, jobs))
        print(json.dumps({"sent/s": sent, f"run/s by {processes}": run(found, file.name, jobs, processes)}))


async def send(system, jobs: int) -> float:
    """How many are sent a second, in bulk."""
    await system.begin()
    begin = time.perf_counter()
    await system.send_many(jobs)
    rate = jobs / (time.perf_counter() - begin)
    await system.end()
    return rate


def run(system, tally_path: str, jobs: int, processes: int) -> float:
    """How many are run a second, from the first to the last."""
    import tally

    quiet = None if "BENCH_LOUD" in os.environ else subprocess.DEVNULL
    workers = [subprocess.Popen(system.worker(), stdout=quiet, stderr=quiet) for _ in range(processes)]
    try:
        until = time.monotonic() + WITHIN
        while (found := tally.read(tally_path))[0] < jobs:
            if time.monotonic() > until or any(worker.poll() is not None for worker in workers):
                raise SystemExit(f"only {found[0]} of {jobs} ran")
            time.sleep(0.05)
        return jobs / found[1]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    main()
