"""`holdfast tasks` and `holdfast dlq`, on jobs that a worker of the same process has run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from holdfast import App, TaskFailed
from holdfast.cli import main
from holdfast.task import ACTIONS


class Cli:
    """Runs commands on one database."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *arguments: str, status: int = 0, **options: Any) -> str:
        done = CliRunner().invoke(main, [*arguments, "--url", self.url], catch_exceptions=False, **options)
        assert done.exit_code == status, done.output
        return done.output

    def json(self, *arguments: str, **options: Any) -> Any:
        return json.loads(self(*arguments, "--json", **options))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A database with a job that is done, three that are dead, and one that waits."""
    monkeypatch.setenv("COLUMNS", "80")
    url = f"sqlite:///{tmp_path}/tasks.db"
    app = App("test", url=url)
    before = dict(ACTIONS)

    @app.task(name="shop:double", retries=0)
    async def double(n: int) -> int:
        if n < 0:
            raise ValueError(f"cannot {n}")
        return 2 * n

    async def fill() -> None:
        async with app:
            assert await (await double.options(id="good").delay(2)).get() == 4
            for n in (-1, -2):
                with pytest.raises(TaskFailed):
                    await (await double.options(id=f"bad{n}").delay(n)).get()
            with pytest.raises(TaskFailed):
                late = double.options(id="late", eta=app.clock.now() - 60, expires=1, queue="slow")
                await (await late.delay(1)).get()
            await double.options(id="later", delay=3600).delay(3)

    asyncio.run(fill())
    ACTIONS.clear()
    ACTIONS.update(before)
    return Cli(url)


@pytest.mark.parametrize("command", [["replay"], ["purge", "--yes"], ["purge"]])
def test_nothing_is_done_to_dead_letters_that_nobody_chose(cli: Cli, command: list[str]):
    assert "or say --all" in cli("dlq", *command, status=2)
    assert "by themselves" in cli("dlq", *command, "bad-1", "--all", status=2)
    assert "by themselves" in cli("dlq", *command, "bad-1", "--queue", "slow", status=2)
    assert len(cli.json("dlq", "list")) == 3


def test_commands_take_a_blocking_app(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "blocking_shop.py").write_text("from holdfast import App\napp = App('shop', interface='sync')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.json("tasks", "show", "good", "--app", "blocking_shop:app")["result"] == 4


def test_jobs_are_listed_shown_and_cancelled(cli: Cli):
    text = cli("tasks", "list")
    assert max(map(len, text.splitlines())) <= 80
    for words in ("good", "done", "bad-1", "ValueError: cannot -1", "later", "queued", "expired: "):
        assert words in text
    assert [row["id"] for row in cli.json("tasks", "list", "--status", "queued")] == ["later"]
    assert [row["id"] for row in cli.json("tasks", "list", "--queue", "slow")] == ["late"]
    assert len(cli.json("tasks", "list", "--name", "double")) == len(cli.json("tasks", "list")) == 5
    assert cli("tasks", "list", "--name", "nobody's") == "nothing found\n"
    shown = cli.json("tasks", "show", "good")
    assert (shown["status"], shown["result"], shown["error"]) == ("done", 4, None)
    assert "[[2], {}]" in shown["arguments"]
    trace = cli.json("tasks", "show", "bad-1")["traceback"]
    assert "in double" in trace
    assert cli("tasks", "show", "bad-1").endswith(f"\n\n{trace.rstrip()}\n")
    assert "no job 'nobody'" in cli("tasks", "show", "nobody", status=1)
    assert cli("tasks", "cancel", "later", "good", "nobody", status=1).splitlines() == [
        "later: cancelled",
        "good: has ended already",
        "nobody: not found: there was none, or it has ended and is not kept",
    ]
    assert cli.json("tasks", "list", "--status", "cancelled")[0]["id"] == "later"


def test_dead_letters_are_read_replayed_exported_and_purged(cli: Cli):
    assert [row["id"] for row in cli.json("dlq", "list")] == ["late", "bad-2", "bad-1"]
    assert cli.json("dlq", "read") == cli.json("dlq", "list")
    assert [row["id"] for row in cli.json("dlq", "list", "--reason", "expired")] == ["late"]
    assert "ValueError: cannot -2" in cli("dlq", "show", "bad-2")
    lines = [json.loads(line) for line in cli("dlq", "export", "--name", "shop:double").splitlines()]
    assert [line["id"] for line in lines] == ["late", "bad-2", "bad-1"]
    assert "cannot -1" in lines[2]["traceback"]

    assert "1 replayed; 1 are not among the dead letters" in cli("dlq", "replay", "bad-1", "good", status=1)
    assert cli.json("tasks", "show", "bad-1")["status"] == "queued"
    assert "Aborted" in cli("dlq", "purge", "--all", input="n\n", status=1)
    assert cli.json("dlq", "purge", "--reason", "expired", "--yes") == {"purged": 1, "found": 1}
    assert cli("dlq", "replay", "--all") == "1 replayed\n"
    assert cli.json("dlq", "list") == []
    assert "no job" in cli("tasks", "show", "late", status=1)


def test_queues_are_paused_and_resumed(cli: Cli) -> None:
    assert cli("tasks", "pause", "slow", "default") == "slow: paused\ndefault: paused\n"
    assert "was paused already" in cli("tasks", "pause", "slow")
    rows = cli.json("tasks", "paused")
    assert [(row["queue"], row["waiting"]) for row in rows] == [("default", 1), ("slow", 0)]
    assert cli.json("tasks", "resume", "slow", "mail") == [
        {"id": "slow", "outcome": "resumed"},
        {"id": "mail", "outcome": "was not paused"},
    ]
    assert "default" in cli("tasks", "paused")


def test_jobs_that_lie_elsewhere_are_found_by_their_own_url(cli: Cli, tmp_path: Path):
    here, elsewhere = f"sqlite:///{tmp_path}/workflows.db", cli.url

    async def make() -> None:
        async with App("workflows", url=here, embedded_worker=False):
            return

    asyncio.run(make())
    cli.url = here
    assert cli.json("tasks", "list") == []
    found = cli.json("tasks", "list", "--tasks-url", elsewhere)
    assert "good" in [row["id"] for row in found]
    assert len(cli.json("dlq", "read", "--tasks-url", elsewhere)) == 3
    assert cli.json("dlq", "replay", "--all", "--tasks-url", elsewhere)["replayed"] == 3
