"""What only SQLite has: files, locks, and work in a thread that outlives its caller's patience."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from tests.backends.conftest import Bench
from tests.backends.making import NOW, claim, commit, enlist, ids, owned, start, step

from holdfast.backends import open_store
from holdfast.backends.jobs import job_filter_parts
from holdfast.backends.sqlite import database as module
from holdfast.errors import ConfigurationError, SchemaError, StoreError, StoreUnavailable
from holdfast.ids import InstanceId
from holdfast.model.job import JobFilter, JobStatus


def open_and_start(path: str, name: str) -> None:
    async def main() -> None:
        store = open_store(f"sqlite:///{path}")
        await store.open()
        await store.start([start(f"{name}-{number}") for number in range(20)])
        await store.close()

    asyncio.run(main())


async def test_many_processes_may_open_and_write_a_new_file_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=open_and_start, args=(path, f"p{number}")) for number in range(3)]
    for each in others:
        each.start()
    for each in others:
        await asyncio.to_thread(each.join)
    assert [each.exitcode for each in others] == [0, 0, 0]
    store: Any = open_store(f"sqlite:///{path}")
    await store.open()
    await enlist(store, "w")
    # The others looked at the clock for themselves, and that may be long after this module did.
    assert len(ids(await claim(store, "w", now=time.time() + 60))) == 60
    await store.close()


async def test_a_lock_held_too_long_is_reported_as_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.01)
    store: Any = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    await store.open()
    other = sqlite3.connect(tmp_path / "store.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked.*try again"):
        await store.start([start("a")])
    assert await store.view([InstanceId("a")]) == []
    other.rollback()
    other.close()
    assert await store.start([start("a")]) == ["a"]
    await store.close()


async def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are my notes, not a database " * 99)
    store = open_store(f"sqlite:///{tmp_path / 'notes.txt'}")
    with pytest.raises(SchemaError, match="no SQLite database"):
        await store.open()
    await store.close()


async def test_a_newer_schema_is_refused_in_words(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    await store.open()
    await store.close()
    other = sqlite3.connect(tmp_path / "store.db")
    other.execute("INSERT INTO holdfast_schema VALUES (99, 0)")
    other.commit()
    other.close()
    with pytest.raises(SchemaError, match="99.*upgrade Holdfast"):
        await store.open()
    await store.close()


async def test_a_closed_store_says_so_and_its_file_is_there_again(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:///{tmp_path / 'store.db'}?synchronous=normal")
    with pytest.raises(StoreUnavailable, match=r"open\(\) first"):
        await store.start([start("a")])
    await store.open()
    await store.start([start("a")])
    await store.close()
    await store.close()
    await store.open()
    assert [each.id for each in await store.view([InstanceId("a")])] == ["a"]
    await store.close()


async def test_a_claim_cancelled_under_way_is_handed_over_by_the_next(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    await store.open()
    await enlist(store, "w")
    await store.start([start("a")])
    task = asyncio.create_task(claim(store, "w"))
    # The thread takes it up before the loop runs again.
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [*ids(await claim(store, "w")), *ids(await claim(store, "w"))] == ["a"]
    await store.close()


@pytest.mark.parametrize("url", ["sqlite://:memory:", "sqlite:///:memory:"])
async def test_a_database_in_memory_is_its_stores_alone(url: str) -> None:
    one, two = open_store(url), open_store(url)
    await one.open()
    await two.open()
    assert one.traits.ephemeral
    await one.start([start("a")])
    assert await two.view([InstanceId("a")]) == []
    await one.close()
    await two.close()


async def test_a_failed_commit_leaves_no_transaction_behind(bench: Bench) -> None:
    store = await bench.store()
    await owned(store, "w", "a")
    bad: Any = commit("a", step(1), starts=[start("b", name=None)])
    with pytest.raises(StoreError, match="name"):
        await store.commit("w", [bad])
    assert [each.seq for each in await store.history(InstanceId("a"))] == [0]
    await store.commit("w", [commit("a", step(1, at=NOW))])
    assert [each.seq for each in await store.history(InstanceId("a"))] == [0, 1]


async def test_a_database_in_a_folder_that_does_not_exist_is_refused_for_good(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:///{tmp_path / 'nowhere' / 'store.db'}")
    with pytest.raises(ConfigurationError, match="the folder .*nowhere does not exist; make it"):
        await store.open()
    (tmp_path / "nowhere").mkdir()
    await store.open()
    await store.close()


@pytest.mark.parametrize(("path", "words"), [(".", "it is a folder"), ("file/store.db", "file is no folder")])
async def test_a_path_that_can_be_no_database_is_refused_for_good(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").touch()
    store: Any = open_store(f"sqlite:///{tmp_path}/{path}")
    with pytest.raises(ConfigurationError, match=words):
        await store.open()


async def test_a_database_is_not_made_where_none_is_wanted(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:///{tmp_path}/store.db")
    with pytest.raises(ConfigurationError, match="there is no database at .*store.db"):
        await store.open(create=False)
    assert not list(tmp_path.iterdir())
    await store.open()
    await store.close()
    await store.open(create=False)
    await store.close()
    memory: Any = open_store("sqlite://:memory:")
    await memory.open(create=False)
    await memory.close()


def test_queues_and_dead_letters_are_looked_through_by_index(tmp_path: Path) -> None:
    asyncio.run(_made(tmp_path))
    dead = module.chosen("find_jobs", job_filter_parts(JobFilter(status=JobStatus.DEAD)), end="find_jobs_end")
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        for sql, values in ((module.STATEMENTS["depths"], {"now": NOW, "most": 9}), (dead[0], {**dead[1], "limit": 9})):
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            assert not [step for step in plan if step.startswith("SCAN holdfast")], plan
            assert any("holdfast_job_ended (status=?)" in step for step in plan)


async def _made(folder: Path) -> None:
    store = open_store(f"sqlite:///{folder}/store.db")
    await store.open()
    await store.close()
