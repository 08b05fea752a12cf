"""Fixtures for whole workflows: on each store, with and without a crash after every step."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.servers import Postgres

from holdfast.app import App
from holdfast.testing import workflow_app


@pytest.fixture(params=["memory", "memory-crashing", "postgres", "postgres-crashing"])
async def app(request: pytest.FixtureRequest):
    """An App whose time moves by itself; on each store once as it is, once with a crash after every step."""
    crash = request.param.endswith("crashing")
    if not request.param.startswith("postgres"):
        async with workflow_app(crash=crash) as made:
            yield made
        return
    server: Postgres = request.getfixturevalue("postgres")
    async with server.database() as url, workflow_app(url, crash=crash) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that several processes can use."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return request.getfixturevalue("postgres_url")


def run_app(url: str, **settings: object) -> App:
    """An App on real time."""
    return App("test", url=url, **settings)
