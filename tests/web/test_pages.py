"""The pages show what there is, and their forms do what they say."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.web.conftest import Order
from tests.web.visiting import Browser, visiting

from holdfast import App
from holdfast.ids import InstanceId
from holdfast.model.instance import Status
from holdfast.model.job import JobStatus
from holdfast.web import dashboard, workflows
from holdfast.web.paging import PAGE


async def until(app: App, id: str, status: JobStatus) -> None:
    async with asyncio.timeout(10):
        while await app.job(id).status() is not status:
            await asyncio.sleep(0.001)


async def until_told(app: App, id: str) -> None:
    async with asyncio.timeout(10):
        while await app.job(id).progress() is None:
            await asyncio.sleep(0.001)


def rows(page: str) -> list[str]:
    """The texts of a page's table rows."""
    bodies = "".join(re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL))
    return [
        " ".join(re.sub(r"<(?!b>|/b>|in )[^>]*>", " ", row).split())
        for row in re.findall(r"<tr.*?>(.*?)</tr>", bodies, re.DOTALL)
    ]


async def test_the_first_page_tells_of_queues_failures_workers_and_instances(browser: Browser) -> None:
    page = await browser.get("/")
    told = rows(page)
    assert "default 0 1 0 2 open Pause" in told
    assert "slow 0 0 1 1 open Pause" in told
    assert any(row.startswith("bad1 double dead now ValueError: cannot -1") for row in told)
    assert any(row.startswith("late double dead") and "expired: " in row for row in told)
    assert any(row.startswith("broken Order failed") and "LookupError" in row for row in told)
    assert re.search(r"<b>1</b> pending", page)
    assert re.search(r"<b>1</b> failed", page)
    facts = await browser.json("/")
    assert facts["instances"] == {"pending": 1, "failed": 1}
    [worker] = facts["workers"]
    assert worker["version"]
    assert worker["holds"] >= 1
    assert any(f"{worker['pid']} {worker['host']} {worker['version']}" in row for row in told)


async def test_all_who_look_at_the_first_page_share_one_look(app: App, browser: Browser) -> None:
    home: Any = app.tasks.broker.home
    await browser.get("/")
    before = home.statements
    for path in ("/", "/events?of=overview"):
        answers = await asyncio.gather(*[browser.client.get(path) for _ in range(25)])
        assert {answer.status_code for answer in answers} == {200}
    assert home.statements - before < 10


async def test_what_users_write_is_escaped_everywhere(browser: Browser) -> None:
    for path in ("/", "/tasks", "/dead", "/tasks/show?id=bad1", "/workflows", "/workflows/show?id=broken"):
        raw = (await browser.client.get(path)).text
        assert "&lt;" in raw, path
        assert "<b>&" not in raw, path
        assert "<in stock>" not in raw, path
    hostile = '/tasks?name="><script>alert(1)</script>'
    assert "<script>alert" not in (await browser.client.get(hostile)).text


async def test_queues_are_paused_and_resumed(app: App, browser: Browser) -> None:
    page = await browser.do("/queues/pause", queue="slow", back="/")
    assert "slow: paused; what runs goes on" in page
    assert any("slow 0 0 1 1 paused now Resume" in row for row in rows(page))
    assert list(await app.tasks.broker.paused()) == ["slow"]
    assert "resumed" in await browser.do("/queues/resume", queue="slow", back="/")
    assert await app.tasks.broker.paused() == {}
    # It was said once.
    assert "resumed" not in await browser.get("/")
    assert "names no queue" in (await browser.send("/queues/pause", queue="*")).text


async def test_jobs_are_listed_by_status_queue_and_name(browser: Browser) -> None:
    async def ids(query: str) -> set[str]:
        return {job["id"] for job in (await browser.json(f"/tasks?{query}"))["jobs"]}

    assert await ids("") == {"good", "bad1", "bad2", "late", "later", "long"}
    assert await ids("status=dead&queue=default") == {"bad1", "bad2"}
    assert await ids("status=queued") == {"later"}
    assert await ids("name=shop:long&status=") == {"long"}
    page = await browser.get("/tasks?status=running")
    assert [row.split()[:3] for row in rows(page)] == [["long", "long", "running"]]
    assert 'value="running" selected' in page
    assert "No jobs like that" in await browser.get("/tasks?name=nobody's")
    await browser.get("/tasks?status=nonsense", 400)


async def test_a_listing_goes_on_where_the_page_before_ended(app: App, browser: Browser) -> None:
    @app.task(name="shop:many")
    async def many(n: int) -> None: ...

    for n in range(PAGE + 7):
        await many.options(id=f"many {n:03}~é", delay=10).delay(n)
    found: list[str] = []
    path: str | None = "/tasks?name=shop:many"
    while path is not None:
        page = await browser.get(path)
        found += re.findall(r"many \d{3}~é(?=</a>)", page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = older[1] if older else None
    assert found == [f"many {n:03}~é" for n in reversed(range(PAGE + 7))]
    for place in ("nonsense", "1", "inf~a", "nan~a"):
        await browser.get(f"/tasks?before={place}", 400)


async def test_a_job_is_shown_with_its_call_progress_error_and_traceback(app: App, browser: Browser) -> None:
    page = await browser.get("/tasks/show?id=bad1")
    assert "double(-1, why='&c')" in page
    assert "in double" in page
    assert "Replay" in page
    await until_told(app, "long")
    page = await browser.get("/tasks/show?id=long")
    assert "3 of 12 – third page" in page
    assert 'data-events="/events?of=job&id=long"' in page
    page = await browser.get("/tasks/show?id=good")
    assert "<dt>Result</dt><dd><code>4</code>" in page
    assert "data-events" not in page
    assert "there is no job 'nobody'" in await browser.get("/tasks/show?id=nobody", 404)
    assert (await browser.json("/tasks/show?id=good"))["result"] == 4
    assert "no job" in (await browser.json("/tasks/show?id=nobody", 404))["error"]


async def test_a_job_says_what_follows_it(app: App, browser: Browser) -> None:
    @app.task(name="shop:first")
    async def first() -> None: ...

    @app.task(name="shop:then")
    async def then() -> None: ...

    call = first.options(id="first", delay=10).si()
    call.on_success, call.on_failure = then.si(), first.si()
    await call.delay()
    page = await browser.get("/tasks/show?id=first")
    assert "when it returns: shop:then" in page
    assert "when it fails for good: shop:first" in page


async def test_jobs_are_cancelled_and_sent_again(app: App, browser: Browser) -> None:
    assert "not queued" in await browser.do("/tasks/retry", id="later")
    assert "later: cancelled" in await browser.do("/tasks/cancel", id="later", back="/tasks/show?id=later")
    assert await app.job("later").status() is JobStatus.CANCELLED
    assert "has ended already" in await browser.do("/tasks/cancel", id="good")
    assert "long: asked to end" in await browser.do("/tasks/cancel", id="long")
    await until(app, "long", JobStatus.CANCELLED)
    assert "bad1: queued again" in await browser.do("/tasks/retry", id="bad1", back="/tasks/show?id=bad1")
    await until(app, "bad1", JobStatus.DEAD)
    assert (await browser.send("/tasks/retry", id="nobody")).status_code == 404


async def test_dead_letters_are_listed_replayed_and_purged(app: App, browser: Browser) -> None:
    async def dead() -> set[str]:
        return {view.id for view in await app.tasks.dead(limit=100)}

    page = await browser.get("/dead")
    assert [row.split()[0] for row in rows(page)] == ["late", "bad2", "bad1"]
    assert [row.split()[0] for row in rows(await browser.get("/dead?reason=expired"))] == ["late"]
    await browser.get("/dead?reason=nonsense", 400)
    assert "1 replayed; 1 are not among" in await browser.do("/dead/replay", id=["late", "good"], back="/dead")
    assert await dead() == {"bad1", "bad2"}
    assert (await browser.send("/dead/replay")).status_code == 400
    asked = await browser.send("/dead/purge", id="bad1", back="/dead")
    assert "Remove <b>1</b> dead letter for ever?" in asked.text
    assert await dead() == {"bad1", "bad2"}
    assert "1 purged" in await browser.do("/dead/purge", id="bad1", sure="yes", back="/dead")
    asked = await browser.send("/dead/purge", all="yes", name="shop:double", back="/dead")
    assert "task <code>shop:double</code>" in asked.text
    assert "0 purged" in await browser.do("/dead/purge", all="yes", name="nobody's", sure="yes", count="0")
    # One has died since it was asked whether none should go.
    asked = await browser.send("/dead/purge", all="yes", name="shop:double", sure="yes", count="0")
    assert "Remove <b>1</b> dead letter for ever?" in asked.text
    assert "1 purged" in await browser.do("/dead/purge", all="yes", name="shop:double", sure="yes", count="1")
    assert await dead() == set()
    assert "No dead letters." in await browser.get("/dead")


async def test_instances_are_listed_and_shown_with_their_histories(browser: Browser) -> None:
    assert sorted(row.split()[:3] for row in rows(await browser.get("/workflows"))) == [
        ["broken", "Order", "failed"],
        ["open", "Order", "pending"],
    ]
    assert [row.split()[0] for row in rows(await browser.get("/workflows?name=Order&status=pending"))] == ["open"]
    await browser.get("/workflows?status=nonsense", 400)
    page = await browser.get("/workflows/show?id=open")
    assert "message 'paid'" in page
    assert "calls reserve('hat')" in page
    assert "flowchart TD" in page
    assert "Variables after step 0" in await browser.get("/workflows/show?id=open&step=0")
    assert "there is no step 99" in await browser.get("/workflows/show?id=open&step=99", 409)
    await browser.get("/workflows/show?id=open&step=x", 400)
    await browser.get(f"/workflows/show?id=open&step={'9' * 5000}", 400)
    page = await browser.get("/workflows/show?id=broken")
    assert "The action reserve failed in attempt 1" in page
    assert "in reserve" in page
    assert (await browser.json("/workflows/show?id=open"))["history"][0]["events"] == ["started"]
    assert "no instance 'nobody'" in await browser.get("/workflows/show?id=nobody", 404)


async def test_of_a_long_history_only_the_end_is_read(
    app: App, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Order().start("cap", id="cap")
    while len(await app.handle("cap").history()) < 2:
        await asyncio.sleep(0.005)
    latest = (await app.store.latest_steps([InstanceId("cap")]))[InstanceId("cap")]
    monkeypatch.setattr(workflows, "LONGEST_READ", 1)
    read: list[str] = []
    monkeypatch.setattr(app.client, "history", lambda id: read.append(id))
    page = await browser.get("/workflows/show?id=cap")
    assert "message 'paid'" in page
    assert f"Variables after step {latest[-1].seq}" in await browser.get(
        f"/workflows/show?id=cap&step={latest[-1].seq}"
    )
    assert read == []
    if latest[0].seq > 0:
        assert "too long for a page" in await browser.get("/workflows/show?id=cap&step=0", 400)


async def test_instances_are_sent_messages_cancelled_and_let_go_on(app: App, browser: Browser) -> None:
    back = "/workflows/show?id=open"
    page = await browser.do("/workflows/send", id="open", name="paid", value="nonsense", back=back)
    assert "is not JSON" in page
    assert "sent paid" in await browser.do("/workflows/send", id="open", name="paid", value='"in cash"', back=back)
    assert await app.handle("open", Order).result(timeout=10) == "3 in cash"
    assert "takes no messages" in await browser.do("/workflows/send", id="open", name="paid", value="1", back=back)
    assert (await browser.send("/workflows/send", id="open", name="")).status_code == 400
    assert (await browser.send("/workflows/send", id="opem", name="paid", value="1")).status_code == 404
    assert "has ended already" in await browser.do("/workflows/cancel", id="open", back=back)
    assert "is not parked" in await browser.do("/workflows/retry", id="open", back=back)
    await Order().start("cap", id="cap")
    assert "cap: asked to cancel" in await browser.do("/workflows/cancel", id="cap", back="/workflows")
    assert await app.handle("cap").wait(timeout=10) is Status.CANCELLED


async def test_schedules_are_paused_resumed_and_triggered(app: App, browser: Browser) -> None:
    assert "There are no schedules" in await browser.get("/schedules")
    await app.schedule(Order, id="nightly", cron="30 2 * * *", inputs={"item": "hat"})
    [row] = rows(await browser.get("/schedules"))
    assert row.startswith("nightly 30 2 * * *")
    [row] = rows(await browser.do("/schedules/pause", id="nightly", back="/schedules"))
    assert "paused" in row
    assert "Resume" in row
    [row] = rows(await browser.do("/schedules/resume", id="nightly", back="/schedules"))
    assert "Pause" in row
    page = await browser.do("/schedules/trigger", id="nightly", back="/schedules")
    started = re.search(r"nightly: started (\S+?)<", page)
    assert started
    assert await app.handle(started[1]).status() is Status.PENDING
    assert "there is no schedule 'none'" in (await browser.send("/schedules/pause", id="none")).text.replace(
        "&#39;", "'"
    )


async def test_a_dashboard_that_only_shows_changes_nothing(app: App) -> None:
    async with visiting(dashboard(app, unprotected=True, read_only=True)) as browser:
        for path in ("/", "/tasks/show?id=bad1", "/dead", "/workflows/show?id=open"):
            page = await browser.get(path)
            assert "<button" not in page.replace("<button>Show</button>", ""), path
        for path in ("/queues/pause", "/tasks/retry", "/dead/purge", "/workflows/cancel", "/schedules/trigger"):
            answer = await browser.send(path, id="bad1", queue="slow", sure="yes")
            assert answer.status_code == 403
            assert "only shows" in answer.text
    assert await app.tasks.broker.paused() == {}


async def test_events_tell_what_has_changed_and_nothing_else(app: App, browser: Browser) -> None:
    async def event(query: str, **headers: str) -> str | None:
        answer = await browser.client.get(f"/events?{query}", headers=headers)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith("retry: 2000\n\n")
        found = re.search(r"id: (\w+)\nevent: changed\ndata: (\w+)\n\n$", answer.text)
        return found[1] if found else None

    for query in ("of=overview", "of=job&id=long", "of=workflow&id=open"):
        seen = await event(query)
        assert seen is not None
        assert await event(f"{query}&seen={seen}") is None
        assert await event(f"{query}&seen=old", **{"Last-Event-ID": seen}) is None
    seen = await event("of=job&id=long")
    await app.job("long").cancel()
    await until(app, "long", JobStatus.CANCELLED)
    assert await event(f"of=job&id=long&seen={seen}") not in (None, seen)
    assert (await browser.client.get("/events?of=job&id=nobody")).status_code == 404
    assert (await browser.client.get("/events")).status_code == 404


async def test_what_is_not_there_is_said_to_be_missing(browser: Browser) -> None:
    for path in (
        "/nothing",
        "/tasks/nothing",
        "/static/nothing.css",
        "/static/../access.py",
        "/static/%2e%2e/access.py",
    ):
        await browser.get(path, 404)
