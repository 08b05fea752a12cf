"""One system on Redis: sends jobs one by one, then has them run by two processes; prints figures as one JSON object.

`driver.py SYSTEM URL JOBS RESULTS SLEEP`, in the environment of the system; RESULTS is 1 where results are kept.
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

import redis

HERE = Path(__file__).parent
ONE_BY_ONE = 2000


def main() -> None:
    system, url, jobs, results, sleep = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(64 * 24))
        file.flush()
        os.environ.update(BENCH_TALLY=file.name, BENCH_URL=url, BENCH_RESULTS=results, BENCH_SLEEP=sleep)
        os.environ["PYTHONPATH"] = str(HERE)
        os.chdir(HERE)
        sys.path.insert(0, str(HERE))
        redis.Redis.from_url(url).flushall()
        print(json.dumps(measure(importlib.import_module(f"{system}_on_redis"), file.name, jobs)))


def measure(system, tally_path: str, jobs: int) -> dict:
    import tally

    figures = {"sent one by one/s": asyncio.run(send(system, jobs))}
    quiet = None if "BENCH_LOUD" in os.environ else subprocess.DEVNULL
    workers = [subprocess.Popen(system.worker(), stdout=quiet, stderr=quiet) for _ in range(system.PROCESSES)]
    try:
        until = time.monotonic() + 120
        while (found := tally.read(tally_path))[0] < jobs:
            if time.monotonic() > until or any(worker.poll() is not None for worker in workers):
                raise SystemExit(f"only {found[0]} of {jobs} ran")
            time.sleep(0.05)
        figures["run/s"] = jobs / found[1]
        time.sleep(0.5)
        figures["MB a process"] = max(map(resident, everybody([worker.pid for worker in workers])))
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
    return figures


async def send(system, jobs: int) -> float:
    """How many are sent a second, one after the other; the others go in whatever way is fastest to write."""
    await system.begin()
    for _ in range(50):
        await system.send()
    begin = time.perf_counter()
    for _ in range(ONE_BY_ONE):
        await system.send()
    rate = ONE_BY_ONE / (time.perf_counter() - begin)
    for _ in range(jobs - ONE_BY_ONE - 50):
        await system.send()
    await system.end()
    return rate


def everybody(pids: list) -> list:
    """These processes and their children."""
    found = list(pids)
    for pid in pids:
        said = Path(f"/proc/{pid}/task/{pid}/children")
        children = [int(child) for child in said.read_text().split()] if said.exists() else []
        found += everybody(children)
    return found


def resident(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    main()
