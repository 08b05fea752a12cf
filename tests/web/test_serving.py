"""`holdfast web` as people run it: a real process, asked over a real connection."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from tests.cli.test_commands import Shell

from holdfast import App
from holdfast.cli import main


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


async def made(shell: Shell) -> None:
    async with App("test", url=shell.env["HOLDFAST_DATABASE_URL"], embedded_worker=False):
        return


async def test_it_is_served_until_a_signal_ends_it(shell: Shell) -> None:
    await made(shell)
    process = await shell.start("web", "shop:app", "--port", "0")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = (await process.stdout.readline()).decode()
    place = line.split(" at ")[1].strip()
    async with httpx.AsyncClient(base_url=place) as client:
        page = await client.get("/")
        assert page.status_code == 200
        assert "No worker is alive" in page.text
        assert (await client.get("/", headers={"Host": "evil.example"})).status_code == 421
        # A browser that watches keeps nobody from ending.
        assert (await client.get("/events?of=overview")).status_code == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")


def told(*args: str) -> str:
    result = CliRunner().invoke(main, ["web", *args])
    assert result.exit_code == 1, result.output
    return result.stderr


def test_where_others_reach_it_it_needs_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_WEB_TOKEN", raising=False)
    url = ("--url", f"sqlite:///{tmp_path}/none.db")
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        assert "and it has no token: set HOLDFAST_WEB_TOKEN" in told("--host", host, *url)
    # A proxy on this machine lets them in.
    assert "by the name jobs.example.org others reach the dashboard" in told("--allow-host", "jobs.example.org", *url)
    monkeypatch.setenv("HOLDFAST_WEB_TOKEN", "short")
    assert "needs 16 at least" in told("--host", "0.0.0.0", *url)
    assert "needs 16 at least" in told(*url)


def test_a_port_that_is_taken_and_a_database_that_is_none_are_named(tmp_path: Path) -> None:
    url = ("--url", f"sqlite:///{tmp_path}/none.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot be served at 127.0.0.1 port {port}" in told("--port", port, *url)
    assert "none.db" in told("--port", "0", *url)
