"""Statements on PostgreSQL use the indexes named above them, on tables empty, full, and emptied again."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from tests.backends.conftest import Bench
from tests.backends.making import NOW, asleep, call, commit, dismissal, ending, enlist, job, message, start, step

from holdfast.backends.jobs import kept
from holdfast.backends.postgres.batch import assemble
from holdfast.backends.postgres.broker import _common, _follow_columns, settlement
from holdfast.backends.postgres.bundles import Bundled, unpacking
from holdfast.backends.postgres.clients import CLOCK_SLACK, delivery_columns, told_columns
from holdfast.backends.postgres.dismissing import _columns
from holdfast.backends.postgres.elsewhere import concluded, expected
from holdfast.backends.postgres.line import PLANNING
from holdfast.backends.postgres.statements import Statement, statement
from holdfast.ids import JobId
from holdfast.model.instance import InstanceFilter
from holdfast.model.job import Again, Done, JobFilter, JobStatus, Settlement
from holdfast.ports import ELSEWHERE, Ended

WORKER = {"worker": "w", "now": NOW}
CLAIM = {**WORKER, "queues": ["*"], "any_queue": True, "room": 10, "ticket": 1}


@pytest.fixture(params=["empty", "full", "full and analyzed", "emptied"])
async def connection(request: pytest.FixtureRequest, postgres_bench: Bench) -> AsyncIterator[Any]:
    store = await postgres_bench.store()
    await enlist(store, "w")
    if request.param != "empty":
        await store.start([start(f"i{number:05}", due_at=NOW + number % 7) for number in range(3000)])
        await store.deliver([message(f"m{number}", f"i{number:05}") for number in range(500)])
        claimed = await store.claim("w", queues=["*"], room=300, call_room=0, now=NOW + 9)
        await store.commit("w", [commit(each.id, step(1), spilled=[call("k", each.id)]) for each in claimed.instances])
        broker = store.broker()
        await broker.send([job(f"j{number:05}", unique=f"u{number}") for number in range(2000)])
        held = await broker.claim("w", queues=["*"], room=700, now=NOW)
        await broker.settle("w", [Settlement(each.id, each.claim, Done(b"1", NOW, NOW)) for each in held.jobs[:300]])
        await broker.send([job(f"p{number:05}", plain=True) for number in range(2000)])
        for _ in range(9):
            await broker.claim("w", queues=["*"], room=200, now=NOW)
    connection = await asyncpg.connect(postgres_bench.url, server_settings=PLANNING)
    match request.param:
        case "full and analyzed":
            await connection.execute("ANALYZE")
        case "emptied":
            for table in ("instance", "inbox", "call", "job", "bundle"):
                await connection.execute(f"DELETE FROM holdfast_{table}")
                await connection.execute(f"VACUUM ANALYZE holdfast_{table}")
    yield connection
    await connection.close()


async def plan(connection: Any, chosen: str | Statement, **values: Any) -> list[dict[str, Any]]:
    """The nodes of the plan for any values."""
    sought = statement(chosen) if isinstance(chosen, str) else chosen
    transaction = connection.transaction()
    await transaction.start()
    try:
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sought.text}", *sought.arguments(values))
    finally:
        await transaction.rollback()
    return list(nodes(json.loads(text)[0]["Plan"]))


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def indexes(found: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in found if "Index Name" in node}


def full_reads(found: list[dict[str, Any]]) -> set[str]:
    """Tables of which all rows of the shard are read: without an index, or with the shard alone for it."""
    bare = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
    for node in found:
        if "Index Name" in node and re.fullmatch(r"|\(shard = [^()]+\)", node.get("Index Cond", "")):
            bare.add(node["Relation Name"])
    return bare


async def test_a_claim_walks_the_lanes_by_index(connection: Any) -> None:
    found = await plan(connection, "claim", **CLAIM)
    assert {"holdfast_instance_claimable", "holdfast_call_claimable", "holdfast_lease_pkey"} <= indexes(found)
    assert not [node for node in found if node["Node Type"] == "Seq Scan"]
    # The heads are found in order, without a sort of all that waits.
    assert all("holdfast" not in node.get("Relation Name", "") for node in found if node["Node Type"] == "Sort")
    assert "Tid Scan" in {node["Node Type"] for node in found}
    conditions = [node["Index Cond"] for node in found if node.get("Index Name") == "holdfast_instance_claimable"]
    assert any("ROW(queue, priority) >" in each or "ROW(i.queue, i.priority) >" in each for each in conditions)
    assert any("due_at <=" in each and "priority =" in each for each in conditions)


async def test_a_claim_of_calls_walks_the_lanes_by_index(connection: Any) -> None:
    found = await plan(connection, "claim_calls", **CLAIM)
    assert "holdfast_call_claimable" in indexes(found)
    assert not [node for node in found if node["Node Type"] == "Seq Scan"]


async def test_jobs_that_are_alike_are_sent_without_a_look_at_others(connection: Any) -> None:
    found = await plan(connection, "send_new", channel="c", **_common([job("a"), job("b")]))
    assert full_reads(found) <= {"holdfast_lease"}
    # Sent again perhaps, and being run.
    found = await plan(connection, "send_alike", channel="c", **_common([job("a"), job("b")]))
    assert full_reads(found) <= {"holdfast_lease", "holdfast_bundle"}


async def test_queues_are_counted_by_index_and_not_as_a_whole(connection: Any) -> None:
    found = await plan(connection, "depths", now=NOW, most=100)
    whole = "holdfast_bundle_pkey"
    assert {"holdfast_job_claimable", "holdfast_job_owner", "holdfast_job_ended", whole} == indexes(found)
    assert not [node for node in found if node["Node Type"] == "Seq Scan"]
    assert all("holdfast" not in node.get("Relation Name", "") for node in found if node["Node Type"] == "Sort")
    conditions = [node.get("Index Cond", "") for node in found if node.get("Index Name") == "holdfast_job_claimable"]
    assert any("queue >" in each for each in conditions)
    assert any("queue =" in each for each in conditions)


async def test_jobs_are_claimed_by_the_lanes_of_their_index(connection: Any) -> None:
    found = await plan(connection, "claim_jobs", **CLAIM)
    assert {"holdfast_job_claimable", "holdfast_lease_pkey", "holdfast_paused_queue_pkey"} == indexes(found)
    assert not [node for node in found if node["Node Type"] == "Seq Scan"]
    assert all("holdfast" not in node.get("Relation Name", "") for node in found if node["Node Type"] == "Sort")


async def test_jobs_are_settled_by_their_ids(connection: Any) -> None:
    settlements = [
        Settlement(JobId("a"), 1, Done(b"1", NOW), [job("next")]),
        Settlement(JobId("b"), 1, Done(b"1", NOW, NOW)),
        Settlement(JobId("c"), 1, Again(NOW, b"e")),
    ]
    sought, values = settlement([(each, kept(each.outcome)) for each in settlements])
    found = await plan(connection, sought, worker="w", **values)
    assert indexes(found) == {"holdfast_job_pkey", "holdfast_lease_pkey"}
    scans = [node for node in found if node.get("Index Name") == "holdfast_job_pkey"]
    assert len(scans) == 2
    assert all("id = " in node["Index Cond"] for node in scans)
    assert full_reads(found) <= {"holdfast_lease"}


async def test_what_is_asked_of_jobs_is_found_by_key(connection: Any) -> None:
    for name, index, values in (
        ("job_unwanted", "holdfast_job_pkey", {"worker": "w", "ids": ["a"]}),
        ("await_job", "holdfast_job_pkey", {"ids": ["a"], "waiter": "x"}),
        ("cancel_jobs", "holdfast_job_pkey", {"ids": ["a"], "gates": [], "now": NOW, "keep_until": None}),
        ("purge_jobs", "holdfast_job_pkey", {"ids": ["a"]}),
        ("job_holders", "holdfast_job_unique", {"uniques": ["a"]}),
        ("recover_jobs", "holdfast_job_owner", {"worker": "w", "now": NOW, "lost": 1}),
        ("jobs_under", "holdfast_job_owner", {"worker": "w", "tickets": [1]}),
        ("sweep_jobs", "holdfast_job_kept", {"now": NOW, "batch": 10}),
        ("gates_of", "holdfast_job_pkey", {"ids": ["a"]}),
        ("gates_held", "holdfast_job_owner", {"worker": "w"}),
        ("report", "holdfast_job_pkey", {"worker": "w", "ids": ["a"], "progress": [b"1"]}),
        ("pass_gates", "holdfast_job_pkey", {"worker": "w", "ids": ["a"], "due_ats": [None], "paid": [False]}),
        ("open_gates", "holdfast_job_gate", {"gates": ["a"], "counts": [1]}),
        ("sweep_gates", "holdfast_gate_next", {"now": NOW, "batch": 10}),
    ):
        found = await plan(connection, name, **values)
        assert index in indexes(found), name
        assert full_reads(found) <= {"holdfast_lease"}, name
    # What has no row may be in a bundle.
    found = await plan(connection, "look_at_jobs", ids=["a"])
    assert "holdfast_job_pkey" in indexes(found)
    assert full_reads(found) == {"holdfast_bundle"}


async def test_bundles_are_found_by_their_keys_and_searched_for_a_job_alone(connection: Any) -> None:
    found = await plan(connection, "recover_bundles", worker="w", now=NOW, lost=1)
    assert (indexes(found), full_reads(found)) == ({"holdfast_bundle_pkey"}, set())
    settlements = [Settlement(JobId(id), 1, Done(b"1", NOW), [], None, (1, n, 9)) for n, id in enumerate("ab")]
    for follow in ({}, _follow_columns([settlements[0]._replace(follow=[job("next")])])):
        sought, values = Bundled(settlements).statement(follow)
        found = await plan(connection, sought, worker="w", **values)
        assert indexes(found) == {"holdfast_lease_pkey", "holdfast_bundle_pkey"}
        conditions = [node["Index Cond"] for node in found if node.get("Index Name") == "holdfast_bundle_pkey"]
        assert len(conditions) == 3
        assert all("ticket = " in each for each in conditions), conditions
    for own, placed in ((False, False), (True, False), (True, True)):
        found = await plan(connection, unpacking(own, placed), ids=["a"], worker="w", tickets=[1])
        assert indexes(found) == {"holdfast_bundle_pkey"}
        assert full_reads(found) == (set() if own else {"holdfast_bundle"})


async def test_what_stands_before_a_job_is_counted_in_order_and_not_further_than_needed(connection: Any) -> None:
    asked = {"worker": "w", "ids": ["a"], "claims": [1], "gates": ["g"], "rooms": [1], "now": NOW}
    found = await plan(connection, "at_gates", **asked)
    assert {"holdfast_job_pkey", "holdfast_job_gate", "holdfast_gate_pkey"} <= indexes(found)
    assert full_reads(found) == set()
    [earlier] = [
        node for node in found if node.get("Index Name") == "holdfast_job_gate" and "ROW" in node["Index Cond"]
    ]
    assert "gate = " in earlier["Index Cond"]
    assert "Sort" not in {node["Node Type"] for node in found}


async def test_an_inbox_is_read_by_the_keys_of_its_instances(connection: Any) -> None:
    found = await plan(connection, "take_inbox", worker="w")
    assert indexes(found) == {"holdfast_inbox_pkey", "holdfast_instance_owner"}
    [node] = [node for node in found if "instance =" in node.get("Index Cond", "")]
    assert node["Relation Name"] == "holdfast_inbox"


async def test_history_is_read_by_key_in_each_partition(connection: Any) -> None:
    for found in (
        await plan(connection, "history", id="a", after=-1, limit=10),
        await plan(connection, "claimed_steps", ids=["a"], base_seqs=[0], since=[NOW]),
    ):
        scans = [node for node in found if "Relation Name" in node]
        assert scans
        assert all(node["Index Name"].endswith("_pkey") and "instance =" in node["Index Cond"] for node in scans)


async def test_commits_reach_rows_by_key(connection: Any) -> None:
    batches = {
        "append": [commit("a", step(1))],
        "release": [commit("a", step(1, full=True), close=asleep())],
        "all": [
            commit("a", step(1), close=ending(), consumed=["m"], recalled=["k"], trim_below=1),
            commit("b", step(1), starts=[start("c")], deliveries=[message("n", "d")], spilled=[call("k", "b")]),
        ],
    }
    for batch in batches.values():
        made = assemble(batch)
        assert not full_reads(await plan(connection, made.statement, worker="w", **made.values))


async def test_deliveries_and_settlements_reach_rows_by_key(connection: Any) -> None:
    deliveries = [message("m", "a"), message("n", "b")]
    columns = {**told_columns(deliveries), **delivery_columns(deliveries)}
    assert full_reads(await plan(connection, "deliver", **columns)) <= {"holdfast_lease"}
    settle = {"worker": "w", "call_instances": ["a", "b"], "call_ids": ["k", "k"]}
    assert not full_reads(await plan(connection, "settle", **settle, **columns))


async def test_dismissals_reach_rows_by_key(connection: Any) -> None:
    columns = _columns([dismissal("a", 1), dismissal("b", 1)])
    assert not full_reads(await plan(connection, "dismiss_locked", ids=["a", "b"]))
    assert not full_reads(await plan(connection, "dismiss", **columns))


async def test_where_instances_stand_and_who_descends_from_them_is_found_by_key(connection: Any) -> None:
    assert not full_reads(await plan(connection, "latest_steps", ids=["a", "b"], slack=CLOCK_SLACK))
    found = await plan(connection, "family", ids=["a", "b"])
    assert {"holdfast_instance_parent", "holdfast_instance_pkey"} <= indexes(found)
    assert not full_reads(found)


async def test_freeing_reaches_rows_by_owner(connection: Any) -> None:
    for name in ("recover_instances", "free_instances"):
        found = await plan(connection, name, worker="w", now=NOW)
        assert {"holdfast_instance_owner", "holdfast_instance_pkey"} <= indexes(found)
        assert not full_reads(found)
    assert "holdfast_call_owner" in indexes(await plan(connection, "free_calls", worker="w", now=NOW))


async def test_a_commit_of_many_reads_no_more_than_their_own_rows(connection: Any) -> None:
    """An index condition can still be walked from end to end: the pages that were read tell."""
    names = [f"i{number:05}" for number in range(0, 300, 3)]
    made = assemble([commit(name, step(9, full=True), close=asleep()) for name in names])
    transaction = connection.transaction()
    await transaction.start()
    text = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {made.statement.text}",
        *made.statement.arguments({"worker": "w", **made.values}),
    )
    await transaction.rollback()
    top = json.loads(text)[0]["Plan"]
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 100 * len(names)


async def test_listings_and_sweeps_follow_creation(connection: Any) -> None:
    from holdfast.backends.postgres.statements import chosen as listing
    from holdfast.backends.shared import filter_parts

    for filter in (InstanceFilter(), InstanceFilter(before=(NOW, "i5"))):
        chosen, values = listing("find", filter_parts(filter), end="find_end")
        assert indexes(await plan(connection, chosen, limit=50, **values)) == {"holdfast_instance_created"}
    assert indexes(await plan(connection, "expired_instances", ended_before=NOW, batch=10)) == {
        "holdfast_instance_created"
    }


async def test_dead_letters_are_listed_in_the_order_of_their_index(connection: Any) -> None:
    from holdfast.backends.jobs import job_filter_parts
    from holdfast.backends.postgres.statements import chosen as listing

    for filter in (JobFilter(status=JobStatus.DEAD), JobFilter(status=JobStatus.DEAD, before=(NOW, "j5"), name="a")):
        chosen, values = listing("find_jobs", job_filter_parts(filter), end="find_jobs_end")
        assert indexes(await plan(connection, chosen, limit=50, **values)) == {"holdfast_job_ended"}
    chosen, values = listing("find_jobs", job_filter_parts(JobFilter(ids=[JobId("j1")])), end="find_jobs_end")
    assert indexes(await plan(connection, chosen, limit=50, **values)) == {"holdfast_job_pkey", "holdfast_bundle_pkey"}


async def test_jobs_elsewhere_are_found_by_their_ids(connection: Any) -> None:
    found = await plan(connection, "recalled_jobs", owner=ELSEWHERE, ids=["j00001", "j00002"])
    assert indexes(found) == {"holdfast_job_pkey"}
    assert not full_reads(found)
    values = {
        "expect_jobs": expected([job("j00001")]) | {"keep_until": NOW, "again": True},
        "conclude_jobs": concluded([Ended(job("j00001"), 1, Done(b"1", NOW))]),
    }
    for name, columns in values.items():
        found = await plan(connection, name, owner=ELSEWHERE, **columns)
        assert found[0]["Conflict Arbiter Indexes"] == ["holdfast_job_pkey"]
        assert not full_reads(found)


async def test_keys_are_compared_byte_by_byte(postgres_bench: Bench) -> None:
    """Whatever the database's language is: its rules cost twice the time, and change with the system's next version."""
    await postgres_bench.store()
    connection = await asyncpg.connect(postgres_bench.url)
    by_language = await connection.fetch("""
        SELECT i.indexrelid::regclass::text AS index, a.attname AS column
        FROM pg_index i
        JOIN pg_class t ON t.oid = i.indrelid AND t.relname LIKE 'holdfast%'
        JOIN pg_attribute a ON a.attrelid = i.indexrelid
        WHERE a.attcollation NOT IN (0, (SELECT oid FROM pg_collation WHERE collname = 'C' AND collencoding = -1))
    """)
    compared = await connection.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = 'holdfast_job'::regclass")
    await connection.close()
    assert compared > 5
    assert not by_language
