"""Commands that act on instances say what they did, in words and as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.backends.making import commit, enlist, start

from holdfast import App
from holdfast.cli import main
from holdfast.codec import dumps, encode, encode_exception
from holdfast.ids import InstanceId
from holdfast.model.instance import Ending, Park, Release, Status, Step

MODULE = """
from dataclasses import dataclass

from holdfast import App, Workflow, action, workflow

app = App("acting-shop")

@dataclass
class Approval:
    by: str
    cents: int = 0

@action
async def double(n: int) -> int:
    if n < 0:
        raise ValueError(f"cannot {n}")
    return 2 * n

@workflow
class Doubles(Workflow):
    async def run(self, n: int) -> int:
        return await double(n)

@workflow
class ById(Workflow):
    async def run(self, id: str) -> str:
        return id

@workflow
class Asks(Workflow):
    async def run(self) -> list:
        word = await self.receive("word")
        approval = await self.receive(Approval)
        number = await self.receive(int)
        return [word, approval, number]
"""


class Cli:
    """The command line in this process, on a database of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *args: str, status: int = 0) -> str:
        result = CliRunner().invoke(main, list(args))
        assert result.exit_code == status, (result.output, result.exception)
        return result.output

    def json(self, *args: str, status: int = 0) -> Any:
        result = CliRunner().invoke(main, [*args, "--json"])
        assert result.exit_code == status, (result.output, result.exception)
        return json.loads(result.stdout)

    def prepare(self, work: Callable[[App], Awaitable[Any]]) -> Any:
        async def prepared() -> Any:
            async with App("test", url=self.url, embedded_worker=False) as app:
                return await work(app)

        return asyncio.run(prepared())


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    url = f"sqlite:///{tmp_path}/x.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", url)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "acting_shop.py").write_text(MODULE)
    yield Cli(url)
    sys.modules.pop("acting_shop", None)


async def instances(app: App, *, now: float) -> None:
    """One of each: asleep, parked, done, failed; and a parked child of one that is done."""
    store: Any = app.store
    worker = await enlist(store, "w", now=now)
    names = ["asleep", "parked", "done", "failed", "family"]
    made = [start(id, created_at=now, due_at=now, input=dumps({"start": [{}, {}]})) for id in names]
    await store.start([*made, start("family.1", created_at=now, due_at=now, parent="family", parent_call="1")])
    await store.claim(worker, queues=["*"], room=99, call_room=0, now=now)
    closes = {
        "asleep": Release(due_at=now + 7200),
        "parked": Park(reason="no action 'app:send' is defined here"),
        "done": Ending(status=Status.DONE, payload=dumps(encode({"n": 42}))),
        "failed": Ending(status=Status.FAILED, payload=dumps(encode_exception(ValueError("cannot 3")))),
        "family": Ending(status=Status.DONE, payload=b"null"),
        "family.1": Release(due_at=None),
    }
    step = Step(seq=1, at=now, payload=dumps({"notes": []}))
    await store.commit(worker, [commit(id, step, close=close) for id, close in closes.items()])
    await store.retire(worker, now=now)


@pytest.fixture
def some(cli: Cli) -> Cli:
    cli.prepare(lambda app: instances(app, now=app.clock.now()))
    return cli


def statuses(cli: Cli) -> dict[str, str]:
    return {row["id"]: row["status"] for row in cli.json("workflows", "list")}


def test_a_parked_instance_is_cancelled_at_once_and_the_others_are_asked(some: Cli):
    said = some("workflows", "cancel", "asleep", "parked", "done", "ghost", status=1).splitlines()
    assert said == [
        "asleep: asked to cancel",
        "parked: cancelled; it was parked",
        "done: has ended already",
        "ghost: not found",
    ]
    assert statuses(some)["parked"] == "cancelled"
    shown = some.json("workflows", "show", "parked")
    assert shown["reason"] == "cancelled while parked: no action 'app:send' is defined here"
    assert some.json("workflows", "history", "parked")[-1]["events"] == [
        "asked to cancel",
        "ended: cancelled while parked: no action 'app:send' is defined here",
    ]


def test_cancelling_tells_as_json_what_came_of_each(some: Cli):
    assert some.json("workflows", "cancel", "asleep", "parked", "done", "ghost", status=1) == [
        {"id": "asleep", "outcome": "asked"},
        {"id": "parked", "outcome": "cancelled"},
        {"id": "done", "outcome": "done"},
        {"id": "ghost", "outcome": "not found"},
    ]


def test_ended_and_parked_instances_are_deleted_and_living_ones_are_not(some: Cli):
    said = some("workflows", "delete", "asleep", "parked", "done", "family", "ghost", status=1).splitlines()
    assert said == [
        "asleep: not deleted: it lives; cancel it first, or use --force",
        "parked: deleted",
        "done: deleted",
        "family: not deleted: family.1, which it started, lives; cancel it first, or use --force",
        "ghost: not found",
    ]
    assert sorted(statuses(some)) == ["asleep", "failed", "family", "family.1"]
    assert some("workflows", "delete", "family", "asleep", "--force").splitlines() == [
        "family: deleted, with 1 that descended from it",
        "asleep: deleted",
    ]
    assert sorted(statuses(some)) == ["failed"]


def test_deleting_tells_as_json_what_came_of_each(some: Cli):
    assert some.json("workflows", "delete", "done", "family", "ghost", status=1) == [
        {"id": "done", "outcome": "deleted", "removed": 1, "living": []},
        {"id": "family", "outcome": "lives", "removed": 0, "living": ["family.1"]},
        {"id": "ghost", "outcome": "not found"},
    ]


def test_retrying_says_what_goes_on(some: Cli):
    assert some.json("workflows", "retry", "parked", "done", status=1) == [
        {"id": "parked", "outcome": "goes on"},
        {"id": "done", "outcome": "done"},
    ]
    assert "done: is not parked" in some("workflows", "retry", "done", status=1)


def test_waiting_and_forking_as_json(some: Cli):
    assert some.json("workflows", "wait", "done", "failed", status=1) == [
        {"id": "done", "status": "done"},
        {"id": "failed", "status": "failed"},
    ]
    assert some.json("workflows", "fork", "done", "--at", "0", "--id", "fork-1") == {"id": "fork-1", "from": "done"}
    assert "id= is empty" in some("workflows", "fork", "done", "--id", "", status=1)
    assert "--set takes NAME=JSON" in some("workflows", "fork", "done", "--set", "x", status=1)


def test_whoever_waited_in_vain_is_told_if_no_worker_is_alive(some: Cli):
    said = some("workflows", "wait", "asleep", "--timeout", "0.01", status=1)
    assert (
        "asleep: has not ended within 0.01 seconds: no worker is alive; start one: holdfast worker MODULE:APP" in said
    )

    async def work(app: App) -> None:
        await enlist(app.store, "w", now=app.clock.now())

    some.prepare(work)
    assert "within 0.01 seconds; it goes on" in some("workflows", "wait", "asleep", "--timeout", "0.01", status=1)
    # What came of the others is told all the same.
    assert some.json("workflows", "wait", "done", "asleep", "failed", "nobody", "--timeout", "0.01", status=1) == [
        {"id": "done", "status": "done"},
        {"id": "asleep", "status": "pending"},
        {"id": "failed", "status": "failed"},
        {"id": "nobody", "outcome": "not found"},
    ]


def test_values_of_a_fork_are_checked_where_the_workflow_is_known(cli: Cli):
    cli("workflows", "start", "acting_shop:Doubles", "n=4", "--id", "a", "--wait")
    fork = ("workflows", "fork", "a", "--at", "0", "--app", "acting_shop:app", "--set")
    assert "n: Input should be a valid integer" in cli(*fork, 'n="four"', status=1)
    assert "there is no argument 'm'; there are: n" in cli(*fork, "m=4", status=1)
    assert "n: 'four' is not JSON (a text needs quotes)" in cli(*fork, "n=four", status=1)
    assert cli(*fork, 'n="5"', "--id", "b") == "b\n"


def test_starting_as_json(cli: Cli):
    assert cli.json("workflows", "start", "acting_shop:Doubles", "n=4", "--id", "a") == {"id": "a"}
    made = cli.json("workflows", "start", "acting_shop:Doubles", "n=4", "--id", "a", "--wait")
    assert made == {"id": "a", "status": "done", "result": 8}
    assert cli("workflows", "start", "acting_shop:Doubles", "n=5", "--wait") == "10\n"
    failed = cli.json("workflows", "start", "acting_shop:Doubles", "n=-1", "--id", "b", "--wait", status=1)
    assert (failed["status"], failed["error"]["text"]) == ("failed", "ValueError: cannot -1")
    assert "Error: b failed: ValueError: cannot -1" in cli(
        "workflows", "start", "acting_shop:Doubles", "n=-1", "--id", "b", "--wait", status=1
    )


def test_arguments_may_be_called_like_options(cli: Cli):
    made = cli.json("workflows", "start", "acting_shop:ById", 'id="x"', "--id", "a", "--wait")
    assert made == {"id": "a", "status": "done", "result": "x"}
    said = cli("workflows", "start", "acting_shop:ById", 'id="x"', "delay=5", status=1)
    assert "ById has no argument 'delay'; it takes 'id'" in said


def test_messages_are_sent_by_name_and_by_type(cli: Cli):
    cli("workflows", "start", "acting_shop:Asks", "--id", "a")
    assert cli("workflows", "send", "a", "word", '"hello"') == "a: sent word\n"
    sent = cli.json("workflows", "send", "a", "acting_shop:Approval", '{"by": "Ada", "cents": "7"}')
    assert sent == {"id": "a", "message": "acting_shop:Approval", "sent": True, "status": "pending"}
    cli("workflows", "send", "a", "builtins:int", "3")
    done = cli.json("workflows", "start", "acting_shop:Asks", "--id", "a", "--wait")
    assert done["result"] == ["hello", {"by": "Ada", "cents": 7}, 3]


def test_a_message_that_cannot_be_sent_is_refused_in_words(some: Cli):
    def refused(*args: str) -> str:
        return some("workflows", "send", *args, status=1)

    assert "there is no instance 'ghost'" in refused("ghost", "word")
    assert "done takes no messages any more: it is done" in refused("done", "word", "1")
    assert "word: 'hello' is not JSON (a text needs quotes)" in refused("asleep", "word", "hello")
    wrong = refused("asleep", "acting_shop:Approval", '{"by": 5}')
    assert "acting_shop:Approval cannot be made from this JSON" in wrong
    assert "['by']: Input should be a valid string (got 5)" in wrong
    assert "module `acting_shop` has no class `Aproval`; it has `Approval`" in refused("asleep", "acting_shop:Aproval")
    assert "a message's name is a text of 1 to 1000 characters" in refused("asleep", "a\nb")


def test_a_message_for_a_parked_instance_is_kept_and_that_is_said(some: Cli):
    said = some("workflows", "send", "parked", "word", "1")
    assert said == "parked: sent word; it is parked, and gets it when it goes on: holdfast workflows retry parked\n"


def test_visualizing_as_json(cli: Cli, tmp_path: Path):
    drawn = cli.json("visualize", "acting_shop:Doubles")
    assert (drawn["workflow"], drawn["format"]) == ("acting_shop:Doubles", "mermaid")
    assert drawn["drawn"].startswith("flowchart TD")
    written = cli.json("visualize", "acting_shop:Doubles", "--format", "text", "--output", "x.txt")
    assert (written["file"], "drawn" in written) == ("x.txt", False)
    assert "holdfast program" in (tmp_path / "x.txt").read_text()


def test_the_doctors_findings_as_json(some: Cli):
    found = some.json("doctor", status=1)
    assert found["ok"] is False
    checks = {check["check"]: check for check in found["checks"]}
    assert checks["database"]["ok"] is True
    assert checks["database"]["store"] == "sqlite"
    assert (checks["instances"]["ok"], checks["instances"]["parked"]) == (False, 1)
    assert (checks["workers"]["ok"], checks["workers"]["alive"]) == (False, 0)
    assert "PROBLEM" in some("doctor", status=1)
    some("workflows", "delete", "asleep", "parked", "family", "--force")
    assert some.json("doctor")["ok"] is True


# --- looking


def test_what_an_instance_waits_for_or_why_it_stands_still_is_listed_and_shown(some: Cli):
    rows = {row["id"]: row for row in some.json("workflows", "list")}
    assert rows["parked"]["reason"] == "no action 'app:send' is defined here"
    assert rows["failed"]["error"] == {
        "type": "builtins:ValueError", "text": "ValueError: cannot 3", "traceback": None
    }  # fmt: skip
    text = some("workflows", "list")
    assert "no action 'app:send' is defined here" in text
    assert "ValueError: cannot 3" in text
    assert "no action 'app:send' is defined here" in some("workflows", "show", "parked")
    some("workflows", "start", "acting_shop:Doubles", "n=1", "--id", "new")
    (row,) = some.json("workflows", "list", "--name", "Doubles")
    assert row["waits_for"] == [{"kind": "worker", "name": "default"}]
    assert "a worker with room (queue default)" in some("workflows", "show", "new")


def test_an_instance_that_failed_is_shown_with_the_traceback_of_its_action(cli: Cli):
    cli("workflows", "start", "acting_shop:Doubles", "n=-1", "--id", "a", "--wait", status=1)
    text = cli("workflows", "show", "a")
    assert "ValueError: cannot -1" in text
    assert "The action acting_shop:double failed in attempt 1 (step 1):\nTraceback (most recent call last):" in text
    assert 'raise ValueError(f"cannot {n}")' in text
    shown = cli.json("workflows", "show", "a")
    assert shown["error"]["text"] == "ValueError: cannot -1"
    assert shown["failed_action"]["action"] == "acting_shop:double"
    assert shown["failed_action"]["traceback"].endswith("ValueError: cannot -1\n")
    assert shown["waits_for"] == []
    (row,) = cli.json("workflows", "list", "--status", "failed")
    assert InstanceId(row["id"]) == "a"
