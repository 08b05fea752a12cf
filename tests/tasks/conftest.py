"""Apps with a worker for tests of tasks: on each broker, with time that moves by itself or with real time."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.servers import Postgres

from holdfast import App
from holdfast.testing import workflow_app


@pytest.fixture(params=["memory", "postgres", "redis"])
async def app(request: pytest.FixtureRequest):
    """An App whose time moves by itself, with a worker."""
    if request.param == "memory":
        async with workflow_app() as made:
            yield made
        return
    if request.param == "redis":
        async with workflow_app(tasks_url=request.getfixturevalue("redis_url")) as made:
            yield made
        return
    server: Postgres = request.getfixturevalue("postgres")
    async with server.database() as url, workflow_app(url) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for jobs that several processes can use."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
async def working(url: str):
    """An App with a worker on real time."""
    made = App("test", url=url, concurrent_per_worker=20)
    async with made:
        await made.start_worker().ready.wait()
        yield made
