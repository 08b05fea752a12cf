"""Boilermaker: a worker process, which runs one task after the other. Sent many: a hundred at a time, as its pool allows."""

import asyncio
import os
import sys

import tally
from aio_azure_clients_toolbox import ManagedAzureServiceBusSender
from boilermaker import retries
from boilermaker.app import Boilermaker
from boilermaker.sample import STATIC_DEBUG_TASK

HOST = f"127.0.0.1:{os.environ['BENCH_PORT']}"
STRING = f"Endpoint=sb://{HOST};SharedAccessKeyName=any;SharedAccessKey=any;UseDevelopmentEmulator=true"
client = ManagedAzureServiceBusSender(
    HOST, "default", connection_string=STRING, ready_message=STATIC_DEBUG_TASK.model_dump_json()
)


async def noop(state, n):
    await tally.work()


class State:
    """What every task is given. The app keeps no more than a weak reference to it."""


state = State()
app = Boilermaker(state, service_bus_client=client)
app.register_async(noop, policy=retries.NoRetry())


async def begin():
    await send()


async def send():
    await app.apply_async(noop, 1)


async def send_many(number):
    room = asyncio.Semaphore(100)

    async def one():
        async with room:
            await send()

    await asyncio.gather(*[one() for _ in range(number)])


async def end():
    await app.close()


def worker():
    return [sys.executable, "boilermaker_on_servicebus.py"]


if __name__ == "__main__":
    asyncio.run(app.run())
