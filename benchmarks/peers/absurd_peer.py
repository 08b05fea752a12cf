"""Absurd: the workloads of the comparison, printed as one JSON object."""

import asyncio
import json
import statistics
import sys
import time

from absurd_sdk import AsyncAbsurd

URL, INSTANCES, RUNS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


async def main() -> None:
    app = AsyncAbsurd(URL, queue_name="bench")
    await app.create_queue("bench")

    @app.register_task("sequence")
    async def sequence(params, context):
        async def add():
            return params["n"] + 1

        for i in range(3):
            await context.step(f"step-{i}", add)
        return params["n"]

    @app.register_task("loop")
    async def loop(params, context):
        async def add():
            return 1

        for i in range(params["turns"]):
            await context.step(f"step-{i}", add)
        return params["turns"]

    client = AsyncAbsurd(URL, queue_name="bench")
    worker = asyncio.create_task(app.start_worker(concurrency=100, batch_size=100, poll_interval=0.05))
    await client.await_task_result((await client.spawn("sequence", {"n": 1}, queue="bench"))["task_id"])
    throughput, steps, latency = [], [], []
    for _ in range(RUNS):
        begin = time.perf_counter()
        spawned = [await client.spawn("sequence", {"n": n}, queue="bench") for n in range(INSTANCES)]
        for one in spawned:
            await client.await_task_result(one["task_id"])
        throughput.append(3 * INSTANCES / (time.perf_counter() - begin))
        begin = time.perf_counter()
        await client.await_task_result((await client.spawn("loop", {"turns": 200}, queue="bench"))["task_id"])
        steps.append((time.perf_counter() - begin) / 200 * 1000)
        for _ in range(3):
            begin = time.perf_counter()
            await client.await_task_result((await client.spawn("loop", {"turns": 1}, queue="bench"))["task_id"])
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
    app.stop_worker()
    worker.cancel()


asyncio.run(main())
