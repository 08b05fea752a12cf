"""One system on a Service Bus: sends jobs one by one and many at once, then has them run; prints figures as one JSON object.

`driver.py SYSTEM PORT JOBS PROCESSES`, in the environment of the system; an emulator listens on the port.
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
ONE_BY_ONE = 500


def main() -> None:
    system, port, jobs, processes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(64 * 24))
        file.flush()
        paths = [str(HERE), str(HERE.parent / "on_redis")]
        os.environ.update(BENCH_TALLY=file.name, BENCH_PORT=port, PYTHONPATH=os.pathsep.join(paths))
        sys.path[:0] = paths
        os.chdir(HERE)
        print(json.dumps(measure(importlib.import_module(f"{system}_on_servicebus"), file.name, jobs, processes)))


def measure(system, tally_path: str, jobs: int, processes: int) -> dict:
    figures = asyncio.run(send(system, jobs))
    quiet = None if "BENCH_LOUD" in os.environ else subprocess.DEVNULL
    workers = [subprocess.Popen(system.worker(), stdout=quiet, stderr=quiet) for _ in range(processes)]
    try:
        figures["run/s"] = jobs / drained(tally_path, jobs, workers)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
    return figures


def drained(tally_path: str, jobs: int, workers: list) -> float:
    """Seconds from the first to the last."""
    import tally

    until = time.monotonic() + 180
    while (found := tally.read(tally_path))[0] < jobs:
        if time.monotonic() > until or any(worker.poll() is not None for worker in workers):
            raise SystemExit(f"only {found[0]} of {jobs} ran")
        time.sleep(0.05)
    return found[1]


async def send(system, jobs: int) -> dict:
    """How many are sent a second: one after the other, and then all the others as the system sends many."""
    await system.begin()
    for _ in range(20):
        await system.send()
    begin = time.perf_counter()
    for _ in range(ONE_BY_ONE):
        await system.send()
    one_by_one = ONE_BY_ONE / (time.perf_counter() - begin)
    rest = jobs - ONE_BY_ONE - 20
    begin = time.perf_counter()
    await system.send_many(rest)
    many = rest / (time.perf_counter() - begin)
    await system.end()
    return {"sent one by one/s": one_by_one, "sent many/s": many}


if __name__ == "__main__":
    main()
