"""Fixtures for whole workflows: on each store, with and without a crash after every step."""

from __future__ import annotations

import pytest

from holdfast.app import App
from holdfast.testing import workflow_app


@pytest.fixture(params=["memory", "memory-crashing"])
async def app(request: pytest.FixtureRequest):
    """An App whose time moves by itself; once as it is, once with a crash after every step."""
    async with workflow_app(crash=request.param.endswith("crashing")) as made:
        yield made


def run_app(url: str, **settings: object) -> App:
    """An App on real time."""
    return App("test", url=url, **settings)
