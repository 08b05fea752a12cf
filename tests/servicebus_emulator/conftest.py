"""Queues of their own for tests, and the real client."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from azure.servicebus.aio import ServiceBusClient
from tests.servicebus import ServiceBus, leaks_of_the_client

_numbers = itertools.count()


@pytest.fixture
def declare(servicebus: ServiceBus) -> Callable[..., str]:
    """Makes a queue with these options; its name."""

    def make(**options: Any) -> str:
        name = f"q-{os.getpid()}-{next(_numbers)}"
        servicebus.do("queue", name=name, options=options)
        return name

    return make


@pytest.fixture
def queue(declare: Callable[..., str]) -> str:
    """A queue like any other."""
    return declare()


@pytest.fixture(autouse=True)
def _leaks_of_the_client(request: pytest.FixtureRequest) -> Iterator[None]:
    if not {"client", "servicebus"} & set(request.fixturenames):
        yield
        return
    with leaks_of_the_client():
        yield


@pytest.fixture
async def client(servicebus: ServiceBus) -> AsyncIterator[ServiceBusClient]:
    """The real client, which gives up at once. Without keep-alive, its senders are closed in no time."""
    string = servicebus.connection_string
    async with ServiceBusClient.from_connection_string(string, retry_total=0, keep_alive=0) as made:
        yield made
