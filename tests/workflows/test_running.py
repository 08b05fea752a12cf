"""Workers on real stores: counts of statements, spilling, corrupt rows, changed code, recycling."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

from holdfast import App, Status, Workflow, WorkflowParked, action, start_many, workflow
from holdfast.errors import StoreUnavailable
from holdfast.ids import InstanceId
from holdfast.model.instance import InstanceView
from holdfast.ports import NEWS_LIMIT
from holdfast.runtime import watching
from holdfast.runtime.announcing import list_ended, read_ended

APPS: list[App] = []
"""The App of the test that runs, for actions that look into its store."""


@action
async def add_one(n: int) -> int:
    return n + 1


@workflow
class Loop(Workflow):
    async def run(self, turns: int) -> int:
        total = 0
        for _ in range(turns):
            total = await add_one(total)
        return total


@workflow
class Naps(Workflow):
    async def run(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@workflow
class Fan(Workflow):
    async def run(self, width: int) -> int:
        return sum(await asyncio.gather(*[add_one(n) for n in range(width)]))


@pytest.fixture
async def working(url: str):
    """An App with a worker on real time."""
    app = App("test", url=url, concurrent_per_worker=50)
    async with app:
        APPS.append(app)
        await app.start_worker().ready.wait()
        yield app
        APPS.remove(app)


async def test_a_step_is_one_statement_and_one_row(working: App):
    await Loop().run(1)
    per_commit = 3 if working.store.traits.name == "sqlite" else 1
    before = working.store.statements
    handle = await Loop().start(100)
    assert await handle.result() == 100
    spent = working.store.statements - before
    assert len(await handle.history()) == 102
    # A hundred and one commits; starting, claiming, looking into the inbox and fetching the result come on top.
    assert spent <= 101 * per_commit + 40


@action
async def known(id: str) -> list[str]:
    """What the store knows of an instance's calls while this call of it runs."""
    steps = await APPS[-1].store.history(InstanceId(id))
    notes = [note for step in steps for note in json.loads(step.payload).get("notes", [])]
    return [f"{what} {fields['call']}" for what, fields in notes]


@workflow
class InOrder(Workflow):
    async def run(self, id: str) -> list[list[str]]:
        first = await known(id)
        second = await known(id)
        third = await known(id)
        return [first, second, third]


async def test_a_call_starts_after_its_own_beginning_and_all_outcomes_before_it_are_written(working: App):
    handle = await InOrder().start("in-order", id="in-order")
    first, second, third = await handle.result()
    # The first call of all follows from the arguments, and needs no row.
    assert first == []
    calls = sorted({int(note.split()[1]) for note in third})
    assert second == [f"call {calls[0]}", f"done {calls[0]}", f"call {calls[1]}"]
    assert third == [*second, f"done {calls[1]}", f"call {calls[2]}"]


async def test_what_many_instances_did_is_written_together(working: App):
    handles = await start_many(Loop().start(3) for _ in range(200))
    writer = working.worker.owner.writer
    before = writer.commits
    assert [await handle.result() for handle in handles] == [3] * 200
    assert writer.commits - before < 200


async def test_an_idle_worker_is_quiet(postgres_url: str):
    app = App("test", url=postgres_url)
    async with app:
        await app.start_worker().ready.wait()
        await Loop().run(1)
        # It listens, and looks around with growing pauses: measured over seconds, for it is a rate.
        await asyncio.sleep(2)
        begin, before = time.monotonic(), app.store.statements
        await asyncio.sleep(4)
        assert (app.store.statements - before) / (time.monotonic() - begin) <= 2


async def test_an_end_has_only_itself_looked_at(postgres_url: str, monkeypatch: pytest.MonkeyPatch):
    """However many others are waited for: whoever waits is told whose end it was."""
    monkeypatch.setattr(watching, "FALLBACK_POLL", 3600.0)
    worker, client = App("worker", url=postgres_url), App("client", url=postgres_url)
    async with worker, client:
        await worker.start_worker().ready.wait()
        sleepers = await client.start_many(Naps().start(3600) for _ in range(20))
        waits = [asyncio.ensure_future(handle.result()) for handle in sleepers]
        [first] = await client.start_many([Loop().start(1)])
        assert await first.result() == 1
        looked: list[tuple[list[str], str | None]] = []
        view = client.store.view

        async def looking(ids: Sequence[InstanceId], *, waiter: str | None = None) -> Sequence[InstanceView]:
            looked.append((list(ids), waiter))
            return await view(ids, waiter=waiter)

        monkeypatch.setattr(client.store, "view", looking)
        [second] = await client.start_many([Loop().start(2)])
        result = asyncio.ensure_future(second.result())
        assert await result == 2
        # Once when the wait begins, and once when the end is told, if it was not there yet.
        assert [ids for ids, _ in looked] in ([[second.id]], [[second.id]] * 2)
        assert [waiter is None for _, waiter in looked] in ([False], [False, True])
        for wait in waits:
            wait.cancel()


def test_too_many_ends_for_one_word_are_told_without_names():
    ids = [f"é-{n}" for n in range(400)]
    assert read_ended(list_ended(ids[:100])) == ids[:100]
    assert len(list_ended(ids[:100]).encode()) <= NEWS_LIMIT
    assert list_ended(ids) == ""
    for nonsense in ("", "{", "3", '"text"'):
        assert read_ended(nonsense) is None
    assert read_ended('["a", 1, null, ["b"]]') == ["a"]


async def test_behind_a_pooler_a_worker_looks_at_its_poll_interval(postgres_url: str):
    # Such a store neither notifies nor can it tell whether anything has changed.
    app = App("test", url=f"{postgres_url}{'&' if '?' in postgres_url else '?'}pgbouncer=true", poll_interval_ms=200)
    async with app:
        await app.start_worker().ready.wait()
        assert await Loop().run(1) == 1
        result = asyncio.ensure_future(Naps().run(3.5))
        await asyncio.sleep(1)
        begin, before = time.monotonic(), app.store.statements
        await asyncio.sleep(2)
        # Five times a second the worker looks for instances and for jobs, and the client that waits for the result.
        assert (app.store.statements - before) / (time.monotonic() - begin) <= 16
        assert await result is None


@action
async def breaks() -> None:
    raise OSError("the disk is full")


@workflow
class Breaking(Workflow):
    async def run(self) -> None:
        await breaks()


async def test_an_instance_that_fails_is_logged_with_its_error(working: App, caplog: pytest.LogCaptureFixture):
    with pytest.raises(OSError, match="disk"):
        await Breaking().run()
    async with asyncio.timeout(10):
        # Whoever waits may hear of the end before it is logged.
        while "instance failed" not in caplog.text:
            await asyncio.sleep(0)
    assert "the disk is full" in caplog.text


async def test_a_wide_gather_is_few_rows(working: App):
    handle = await Fan().start(1000)
    assert await handle.result() == sum(range(1, 1001))
    assert len(await handle.history()) < 500


async def test_a_wide_fan_out_is_shared_with_other_workers(url: str):
    ran: list[int] = []
    running = most = 0

    @action
    async def count(n: int) -> int:
        nonlocal running, most
        ran.append(n)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return n

    @workflow
    class Wide(Workflow):
        async def run(self, width: int) -> int:
            return sum(await asyncio.gather(*[count(n) for n in range(width)]))

    apps = [App("test", url=url, concurrent_per_worker=4, lease_seconds=4.0) for _ in range(2)]
    async with apps[0], apps[1]:
        for app in apps:
            await app.start_worker().ready.wait()
        async with asyncio.timeout(20):
            while not all(app.worker.owner.other_workers for app in apps):
                await asyncio.sleep(0.01)
        assert await Wide().run(200) == sum(range(200))
        shares = [app.worker.finished_actions for app in apps]
    assert sorted(ran) == list(range(200))
    assert min(shares) > 20, shares
    # Four on each of the two.
    assert 4 < most <= 8


async def test_an_unreadable_instance_parks_and_blocks_nobody(url: str):
    app = App("test", url=url, embedded_worker=False)
    async with app:
        bad = await Loop().start(3, id="bad")
        good = await Loop().start(3, id="good")
        view = await bad.view()
        # Somebody writes nonsense into its journal.
        payload = b'{"full": {"m": {"n": 1, "cancel": false, "root": 1}, "b1": 5}, "notes": []}'
        worker = app.start_worker()
        await worker.ready.wait()
        assert await good.result() == 3
        assert await bad.result() == 3
        worker.stop()
        await app._working
        await app.store.delete([view.id])
        bad = await Loop().start(3, id="bad2", delay=3600)
        await overwrite(app, "bad2", payload)
        await app.store.deliver([])
        worker = app.start_worker()
        await worker.ready.wait()
        await bad.send("wake")
        with pytest.raises(WorkflowParked, match="cannot be read here"):
            await bad.result(timeout=20)
        assert await bad.status() is Status.PARKED
        assert await Loop().run(2) == 2


async def overwrite(app: App, id: str, payload: bytes) -> None:
    """Put other bytes into the first journal row of an instance, as somebody with a SQL prompt could."""
    if app.store.traits.name == "sqlite":
        import sqlite3

        file = app.settings.database_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE holdfast_journal SET payload = ? WHERE instance = ?", (payload, id))
    else:
        import asyncpg

        connection = await asyncpg.connect(app.settings.database_url)
        await connection.execute("UPDATE holdfast_journal SET payload = $1 WHERE instance = $2", payload, id)
        await connection.close()


VERSION = """
    import asyncio, sys
    from holdfast import App, Workflow, action, workflow

    app = App("code", embedded_worker={embedded})

    @action
    async def note(text: str) -> str:
        return text

    {helper}

    @workflow
    class Changing(Workflow):
        async def run(self, n: int) -> list[str]:
            {body}

    async def main() -> None:
        async with app:
            if sys.argv[1] == "start":
                await Changing().start(1, id="old")
                await asyncio.sleep(0)
            else:
                await app.start_worker().ready.wait()
                print(await app.handle("old").result(timeout=20), await Changing().run(1))

    if __name__ == "__main__":
        asyncio.run(main())
"""


async def test_instances_in_flight_survive_a_change_of_the_code(url: str, tmp_path: Path):
    async def run(verb: str, **parts: str) -> str:
        (tmp_path / "changing.py").write_text(dedent(VERSION).format(**parts))
        env = {**os.environ, "HOLDFAST_DATABASE_URL": url}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "changing.py", verb), cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0
        return output.decode().strip()

    old = 'a = await note("old one")\n        return [a, helper(n), await note("old two")]'
    new = 'return [await note("new"), helper(n)]'
    first = "def helper(n: int) -> str:\n    return f'first {n}'"
    second = "def helper(n: int) -> str:\n    return f'second {n}'"
    await run("start", body=old, helper=first, embedded="False")
    assert await run("go on", body=new, helper=second, embedded="False") == (
        "['old one', 'second 1', 'old two'] ['new', 'second 1']"
    )


async def test_garbage_is_collected_and_living_history_is_bounded(url: str):
    @workflow
    class Forever(Workflow):
        async def run(self) -> None:
            n = 0
            while n < 5_000:
                n = await add_one(n)

    app = App("test", url=url, history_steps=100, concurrent_per_worker=50)
    async with app:
        await app.start_worker().ready.wait()
        handle = await Forever().start()
        await handle.wait(timeout=60)
        rows = await handle.history(limit=100_000)
        # A full row about every hundred steps, and a hundred steps kept beyond what recovery needs.
        assert len(rows) < 1000
        assert rows[0].full
        swept = await app.store.sweep(ended_before=time.time() + 1, history_before=0, now=time.time(), batch=100)
        assert swept.instances == 1
        assert await app.store.view([handle.id]) == []


async def test_dropped_connections_lose_and_double_nothing(postgres_url: str):
    ran: dict[str, int] = {}

    @action
    async def effect(key: str) -> str:
        ran[key] = ran.get(key, 0) + 1
        await asyncio.sleep(0.002)
        return key

    @workflow
    class Careful(Workflow):
        async def run(self, name: str) -> list[str]:
            first = await effect(f"{name}/1")
            both = await asyncio.gather(effect(f"{name}/2"), effect(f"{name}/3"))
            return [first, *both, await effect(f"{name}/4")]

    async def cut() -> None:
        """Ends every connection to the database, again and again."""
        import asyncpg

        while True:
            connection = await asyncpg.connect(postgres_url)
            try:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            finally:
                # Also when the test has seen enough and cancels this.
                connection.terminate()
            await asyncio.sleep(0.05)

    app = App("test", url=postgres_url, concurrent_per_worker=20)
    async with app:
        await app.start_worker().ready.wait()
        cutting = asyncio.create_task(cut())
        names = [f"i{n}" for n in range(150)]
        handles = []
        for n in range(0, 150, 10):
            handles += await patiently(lambda n=n: app.start_many(Careful().start(i, id=i) for i in names[n : n + 10]))
            await asyncio.sleep(0.03)
        results = await asyncio.gather(*[handle.result(timeout=60) for handle in handles])
        cutting.cancel()
        with pytest.raises(asyncio.CancelledError):
            # It went on cutting to the end.
            await cutting
    assert results == [[f"{name}/{n}" for n in range(1, 5)] for name in names]
    # The worker lived through it all with its lease: nothing had to be repeated.
    assert set(ran.values()) == {1}


async def patiently(act):
    """A client is told when the store is out of reach, and may simply ask again: starting twice starts once."""
    while True:
        try:
            return await act()
        except StoreUnavailable:
            await asyncio.sleep(0.02)


SCRIPT = """
    import asyncio, sys
    from holdfast import App, Workflow, action, workflow

    @action
    async def slow() -> str:
        await asyncio.sleep(0.1)
        return "done"

    @workflow
    class Script(Workflow):
        async def run(self) -> list[str]:
            return [await slow() for _ in range(20)]

    async def main() -> None:
        async with App("script", lease_seconds=2.0):
            handle = await Script().start(id="script")
            print("started", flush=True)
            print(await handle.result(timeout=30))

    if __name__ == "__main__":
        asyncio.run(main())
"""


async def test_a_killed_script_goes_on_when_it_is_run_again(tmp_path: Path):
    (tmp_path / "script.py").write_text(dedent(SCRIPT))
    env = {**os.environ, "HOLDFAST_DATABASE_URL": f"sqlite:///{tmp_path}/script.db"}

    async def begin() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "script.py", cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE
        )

    first = await begin()
    assert await first.stdout.readline() == b"started\n"
    app = App("watcher", url=env["HOLDFAST_DATABASE_URL"], embedded_worker=False)
    async with app, asyncio.timeout(20):
        while len(await app.handle("script").history()) < 4:
            await asyncio.sleep(0.02)
    first.kill()
    await first.communicate()
    second = await begin()
    output, _ = await asyncio.wait_for(second.communicate(), 30)
    assert output.decode().splitlines() == ["started", str(["done"] * 20)]
