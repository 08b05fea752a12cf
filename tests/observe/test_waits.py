"""What an instance waits for is told from its saved state."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

import pytest

from holdfast import App, RetryPolicy, Workflow, action, workflow
from holdfast.ids import WorkerId
from holdfast.model.instance import InstanceView, Status, Step
from holdfast.observe.moments import iso, relative, span, to_the_second, until
from holdfast.observe.waits import Wait, told_all, waits_of
from holdfast.ports import Enlistment
from holdfast.runtime.owner import RECOVERY_LIMIT

BEGIN = 1893456000.0  # 2030-01-01
HERE = __name__


@action
async def long(n: int) -> int:
    await asyncio.sleep(600)
    return n


BEGUN: list[int] = []


@action
async def begin(n: int) -> None:
    BEGUN.append(n)
    await asyncio.sleep(600)


@workflow
class Begins(Workflow):
    async def run(self, n: int) -> None:
        await begin(n)


@pytest.fixture(autouse=True)
def nothing_begun():
    BEGUN.clear()


@action
async def fails() -> None:
    raise ValueError("no")


@workflow
class Listens(Workflow):
    async def run(self, seconds: float | None = None) -> str:
        return await self.receive("word", timeout=seconds)


@workflow
class Sleeps(Workflow):
    async def run(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@workflow
class Acts(Workflow):
    async def run(self, n: int) -> None:
        await asyncio.gather(*[long(i) for i in range(n)], self.nap())

    async def nap(self) -> None:
        await asyncio.sleep(7200)


@workflow
class Retries(Workflow):
    async def run(self) -> None:
        await self.run_action(fails(), retry=RetryPolicy(attempts=9, delay=timedelta(seconds=100)))


@workflow
class Family(Workflow):
    async def run(self) -> None:
        first = await Listens().start(id="first")
        second = await Listens().start(id="second")
        third = await Listens().start(id="third")
        await Listens().start(id="left alone")
        await asyncio.gather(
            Listens().run(),
            first.result(),
            asyncio.shield(second.result()),
            asyncio.wait_for(third.result(), 600),
        )


async def stand(app: App, id: str) -> str:
    """What it waits for, once it does."""
    async with asyncio.timeout(20):
        while True:
            view = await app.handle(id).view()
            steps = (await app.store.latest_steps([view.id]))[view.id]
            words = told_all(waits_of(view, steps, app.clock.now()), app.clock.now())
            if len(steps) > 1 or (view.owner is None and view.due_at is not None and not app.worker):
                return words
            await asyncio.sleep(0.001)


async def test_each_wait_has_its_words(tmp_path):
    async with App("test", url=f"sqlite:///{tmp_path}/x.db", embedded_worker=False) as app:
        await Listens().start(id="new", queue="mail")
        assert await stand(app, "new") == "a worker with room (queue mail)"
        await Listens().start(id="later", delay=3700)
        assert await stand(app, "later") == "its start in 1h"
        await app.start_worker().ready.wait()
        await Listens().start(id="listens")
        assert await stand(app, "listens") == "message 'word'"
        await Listens().start(3700, id="listens a while")
        assert (await stand(app, "listens a while")).startswith("message 'word' until 20")
        assert (await stand(app, "listens a while")).endswith("Z (in 1h)")
        await Sleeps().start(3 * 86400 + 60, id="sleeps")
        assert (await stand(app, "sleeps")).endswith("Z (in 3d)")
        await Sleeps().start(float("inf"), id="sleeps for ever")
        assert await stand(app, "sleeps for ever") == "sleep for ever (never)"
        await Acts().start(3, id="acts")
        text = await stand(app, "acts")
        assert text.startswith("long × 3, sleep until")
        await Retries().start(id="retries")
        async with asyncio.timeout(20):
            while not (text := await stand(app, "retries")).startswith("fails, attempt 2 in 1m"):
                await asyncio.sleep(0.001)
        await Family().start(id="family")
        text = await stand(app, "family")
        (child,) = [view.id for view in await app.store.family(["family"]) if view.id.startswith("family.")]
        assert text == f"child {child}, child first, child second, child third"


def test_what_is_parked_or_has_ended_waits_for_nothing():
    view = InstanceView(
        id="a", name="x:Y", program="p", status=Status.PARKED, queue="q", priority=0, created_at=0.0, ended_at=None,
        due_at=None, owner=None, parent=None, reason="r", tags="",
    )  # fmt: skip
    assert waits_of(view, [], 0.0) == []


@pytest.mark.parametrize(
    "payload",
    [
        b"nonsense",
        b"5",
        b"{}",
        b'{"start": 5}',
        b'{"full": 5}',
        b'{"notes": [], "put": 5}',
        b'{"notes": [], "cut": {"x": 5}}',
        b'{"full": {"": 1, "b": 1, "b1": 5, "b2": {"wait": 5}, "b3": {"wait": ["time"]}, "c1": {"branch": 3}, "o1": 5}}',
        b'{"full": {"b1": {"wait": ["future", 1]}, "o1": {"kind": "gather", "children": [1]}}}',
    ],
)
def test_damaged_rows_tell_nothing_and_stop_nobody(payload: bytes):
    view = InstanceView(
        id="a", name="x:Y", program="p", status=Status.PENDING, queue="q", priority=0, created_at=0.0, ended_at=None,
        due_at=None, owner=None, parent=None, reason="r", tags="",
    )  # fmt: skip
    assert waits_of(view, [Step(seq=0, at=0.0, payload=payload, full=True)], 0.0) == []


def test_waits_are_given_as_json_without_what_does_not_apply():
    assert Wait(kind="action", name="x:y", attempt=2, elsewhere=True).as_json() == {
        "kind": "action",
        "name": "x:y",
        "attempt": 2,
        "elsewhere": True,
    }
    assert Wait(kind="sleep", at=5.0).as_json() == {
        "kind": "sleep",
        "at": "1970-01-01T00:00:05.000Z",
    }


def test_moments_are_told_from_afar_and_in_full():
    assert (iso(BEGIN), iso(None)) == ("2030-01-01T00:00:00.000Z", None)
    assert to_the_second(BEGIN + 61.9) == "2030-01-01 00:01:01Z"
    assert (until(BEGIN), until(1e11)) == ("until 2030-01-01 00:00:00Z", "for ever")
    assert [span(s) for s in (-3, 0.4, 59.9, 60, 3599, 3600, 86399, 86400, 9e6)] == [
        "0s", "0s", "59s", "1m", "59m", "1h", "23h", "1d", "104d",
    ]  # fmt: skip
    assert [relative(BEGIN + s, BEGIN) for s in (-7200, -0.5, 0.5, 90)] == ["2h ago", "now", "now", "in 1m"]


async def test_the_action_that_a_workflow_begins_with_is_told_while_it_runs(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/x.db"
    monkeypatch.setenv("HOLDFAST_DATABASE_URL", url)
    async with App("test", url=url), asyncio.timeout(20):
        handle = await Begins().start(1)
        while not BEGUN:
            await asyncio.sleep(0.001)
        assert len(await handle.history()) == 1
        out, err = await shell("workflows", "show", handle.id, "--json")
        (wait,) = json.loads(out)["waits_for"]
        assert (wait["kind"], wait["name"]) == ("action", f"{HERE}:begin"), err
        out, err = await shell("workflows", "list")
        assert "begin" in out, err


async def test_one_whose_workers_die_in_its_first_action_is_parked_with_the_actions_name(tmp_path):
    async with App("test", url=f"sqlite:///{tmp_path}/x.db", embedded_worker=False) as app, asyncio.timeout(20):
        handle = await Begins().start(1)
        now = app.clock.now()
        for n in range(RECOVERY_LIMIT + 1):
            lost = WorkerId(f"w{n}")
            await app.store.enlist(Enlistment(id=lost, host="h", pid=1, queues=["*"], lease=0.001, now=now - 9))
            await app.store.claim(lost, queues=["*"], room=9, call_room=0, now=now)
            await app.store.heartbeat(WorkerId("nobody"), lease=0, now=now)
        await app.start_worker().ready.wait()
        while (view := await handle.view()).status is not Status.PARKED:
            await asyncio.sleep(0.001)
        assert f"({HERE}:begin)" in str(view.reason)
        assert not BEGUN


async def shell(*args: str) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "holdfast", *args), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return out.decode(), err.decode()
