"""The dashboard on every broker: what one cannot do is not offered, and said in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from tests.servers import Postgres
from tests.servicebus import ServiceBus
from tests.web.conftest import fill
from tests.web.test_pages import rows
from tests.web.visiting import visiting

from holdfast import App
from holdfast.testing import workflow_app
from holdfast.web import dashboard


@pytest.fixture(params=["postgres", "redis", "redis beside a database"])
async def elsewhere(request: pytest.FixtureRequest) -> AsyncIterator[App]:
    async with AsyncExitStack() as stack:
        match request.param:
            case "postgres":
                server: Postgres = request.getfixturevalue("postgres")
                made = workflow_app(await stack.enter_async_context(server.database()), move_time=False)
            case "redis":
                made = workflow_app(request.getfixturevalue("redis_url"), move_time=False)
            case _:
                made = workflow_app(tasks_url=request.getfixturevalue("redis_url"), move_time=False)
        app = await stack.enter_async_context(made)
        await fill(app)
        yield app


async def test_jobs_are_shown_and_acted_on(elsewhere: App) -> None:
    async with visiting(dashboard(elsewhere, unprotected=True)) as browser:
        told = rows(await browser.get("/"))
        assert "default 0 1 0 2 open Pause" in told
        assert "slow 0 0 1 1 open Pause" in told
        facts = await browser.json("/")
        assert [worker["holds"] for worker in facts["workers"]] == [1]
        assert {job["id"] for job in facts["dead_letters"]} == {"bad1", "bad2", "late"}
        assert {job["id"] for job in (await browser.json("/tasks?status=queued"))["jobs"]} == {"later"}
        assert "double(-1, why='&c')" in await browser.get("/tasks/show?id=bad1")
        assert "later: cancelled" in await browser.do("/tasks/cancel", id="later", back="/")
        assert "1 purged" in await browser.do("/dead/purge", id="late", sure="yes", back="/dead")
        assert "paused" in await browser.do("/queues/pause", queue="slow", back="/")
        assert any(row.startswith("slow 0 0 0 0 paused") for row in rows(await browser.get("/")))
        assert ('href="/workflows"' in await browser.get("/")) == elsewhere.has_workflows
        await browser.get("/workflows", 200 if elsewhere.has_workflows else 409)


@pytest.mark.parametrize("beside", [True, False], ids=["beside a database", "alone"])
async def test_what_service_bus_cannot_do_is_not_offered(servicebus: ServiceBus, beside: bool) -> None:
    queue = f"web-{beside}".lower()
    place = servicebus.url(queues=queue)
    app = App("test", url="sqlite://:memory:", tasks_url=place) if beside else App("test", url=place)

    @app.task(name="shop:never", queue=queue)
    async def never() -> None: ...

    async with app, visiting(dashboard(app, unprotected=True)) as browser:
        for number in range(3):
            await never.options(id=f"n{number}").delay()
        await never.options(id="later", delay=3600).delay()
        page = await browser.get("/")
        assert f"{queue} 3 ? 1 0 open" in rows(page)
        assert "servicebus does not tell which jobs run" in page
        assert "are paused where it is administered" in page
        assert "servicebus knows no workers" in page
        assert "Pause" not in page
        listed = await browser.get("/tasks")
        assert '<option value="dead">' in listed
        assert '<option value="running">' not in listed
        assert "lists what is in its queues" in listed
        assert "does not tell which jobs are running" in await browser.get("/tasks?status=running", 409)
        shown = await browser.get("/tasks/show?id=n1")
        assert ("Cancel</button>" in shown) == beside
        assert ("cannot take one message out" in shown) != beside
        answer = await browser.send("/queues/pause", queue=queue)
        assert answer.status_code == 409
        assert "Service Bus" in answer.text
        answer = await browser.send("/tasks/cancel", id="n1", back="/")
        assert answer.status_code == (303 if beside else 409)
