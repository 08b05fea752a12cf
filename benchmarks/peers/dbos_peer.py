"""DBOS: the workloads of the comparison, printed as one JSON object."""

import asyncio
import json
import logging
import statistics
import sys
import time

from dbos import DBOS

URL, INSTANCES, RUNS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

DBOS(config={"name": "bench", "system_database_url": URL, "run_admin_server": False, "log_level": "ERROR"})


@DBOS.step()
async def one(n: int) -> int:
    return n + 1


@DBOS.workflow()
async def sequence(n: int) -> int:
    return await one(await one(await one(n)))


@DBOS.workflow()
async def loop(turns: int) -> int:
    total = 0
    for _ in range(turns):
        total = await one(total)
    return total


async def main() -> None:
    DBOS.launch()
    await (await DBOS.start_workflow_async(sequence, 1)).get_result()
    throughput, steps, latency = [], [], []
    for _ in range(RUNS):
        begin = time.perf_counter()
        handles = [await DBOS.start_workflow_async(sequence, n) for n in range(INSTANCES)]
        for handle in handles:
            await handle.get_result()
        throughput.append(3 * INSTANCES / (time.perf_counter() - begin))
        begin = time.perf_counter()
        await (await DBOS.start_workflow_async(loop, 200)).get_result()
        steps.append((time.perf_counter() - begin) / 200 * 1000)
        for _ in range(3):
            begin = time.perf_counter()
            await (await DBOS.start_workflow_async(loop, 1)).get_result()
            latency.append((time.perf_counter() - begin) * 1000)
    print(
        json.dumps(
            {
                "actions/s": statistics.median(throughput),
                "ms/step of 200": statistics.median(steps),
                "ms latency": statistics.median(latency),
            }
        )
    )
    DBOS.destroy()


logging.disable(logging.CRITICAL)
asyncio.run(main())
