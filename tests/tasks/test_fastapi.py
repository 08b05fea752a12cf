"""The FastAPI application of the examples: a real server, real requests, and a worker beside it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def running(*command: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env={**os.environ, **environment}, stdout=out, stderr=out
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(params=["sqlite", "postgres"])
def browser(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of the server."""
    database = f"sqlite:///{tmp_path}/shop.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    environment = {"HOLDFAST_DATABASE_URL": database, "HOLDFAST_EMBEDDED_WORKER": "false"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serving = ("uvicorn", "examples.fastapi_shop:web", "--port", str(port))
    working = ("holdfast", "worker", "examples.fastapi_shop:app", "--processes", "1")
    with (
        running(*serving, environment=environment, log=tmp_path / "server.log"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        end = time.monotonic() + 60
        while True:
            try:
                client.get("/openapi.json")
                break
            except httpx.TransportError:
                assert time.monotonic() < end, (tmp_path / "server.log").read_text()
                time.sleep(0.05)
        assert client.post("/receipts/7").json() == {"job": "receipt-7"}
        assert client.get("/jobs/receipt-7").json() == {"status": "queued", "result": None}
        assert client.get("/jobs/receipt-7/result?patience=0.01").status_code == 504
        with running(*working, environment=environment, log=tmp_path / "worker.log"):
            yield client


def test_requests_send_tasks_start_workflows_and_look_at_them(browser: httpx.Client):
    assert browser.get("/jobs/receipt-7/result?patience=60").json() == {"result": "receipt 7"}
    assert browser.get("/jobs/receipt-7").json() == {"status": "done", "result": "receipt 7"}
    asked = browser.post("/receipts/7")
    assert (asked.status_code, asked.json()) == (202, {"job": "receipt-7"})
    assert browser.get("/jobs/nonsense").status_code == 404

    assert browser.post("/receipts/0").status_code == 202
    failed = browser.get("/jobs/receipt-0/result?patience=60")
    assert (failed.status_code, failed.json()["detail"]) == (500, "ValueError: ['there is no order 0']")

    assert browser.post("/orders/3").json() == {"id": "order-3"}
    assert browser.get("/orders/order-3?patience=60").json() == {"done": ["order 3, packed", "receipt 3"]}
    assert browser.get("/orders/nonsense").status_code == 404
