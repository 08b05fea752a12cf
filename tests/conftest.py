"""Fixtures for all tests: real PostgreSQL and Redis servers and a Service Bus emulator, started once for the session."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests import browsers
from tests.redis_servers import Cluster, cluster, fresh, shared_server
from tests.servers import Postgres, postgres_server
from tests.servicebus import ServiceBus, servicebus_emulator

# Tests change modules within a second, keeping their size: processes must not take what was compiled before.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


_LONGEST = (
    "test_servicebus_keys",
    "test_crashes",
    "test_against_python",
    "test_broker_conformance",
    "test_servicebus_trouble",
    "test_servicebus",
    "test_client",
    "test_commands",
    "test_metrics",
    "test_stopping",
    "test_keys",
    "test_servicebus_results",
    "test_time_limits",
    "test_scaling",
    "test_bench",
    "test_browser",
)
"""Modules whose tests take longest, by what they take together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes long begin first: what is left at the end is short, and keeps all processes busy."""
    ranks = {name: rank for rank, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """The server that all processes of one parallel run share."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with postgres_server(shared / "postgres") as server:
        yield server


@pytest.fixture
async def postgres_url(postgres: Postgres) -> AsyncIterator[str]:
    """A database of the test's own, with the schema in it."""
    async with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of the server of this test process."""
    with shared_server() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """A place of the test's own on that server."""
    return fresh(redis_server)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    """Three servers that are a cluster, of this test process."""
    with cluster() as made:
        yield made


@pytest.fixture(scope="session")
def servicebus_process() -> Iterator[ServiceBus]:
    """The emulator of this test process."""
    with servicebus_emulator() as running:
        yield running


@pytest.fixture
def servicebus(servicebus_process: ServiceBus) -> Iterator[ServiceBus]:
    """The emulator, without any fault before and after the test."""
    yield servicebus_process
    servicebus_process.heal()


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Where the browser of tests is."""
    return browsers.path()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were left out for want of a browser: that should be seen without an option."""
    left_out = [
        report for report in terminalreporter.stats.get("skipped", ()) if browsers.MISSING in str(report.longrepr)
    ]
    if left_out:
        terminalreporter.write_line(f"{len(left_out)} tests were skipped: {browsers.MISSING}", yellow=True)
