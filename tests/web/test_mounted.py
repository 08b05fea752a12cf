"""The dashboard inside of other applications, and the App that it opens or finds open."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.web.visiting import visiting

from holdfast import App
from holdfast.errors import ConfigurationError
from holdfast.web import dashboard


async def test_it_is_mounted_in_fastapi(idle: App) -> None:
    web = FastAPI()
    web.mount("/admin/jobs", dashboard(idle, allow=lambda request: request.headers.get("x-user") == "ada"))
    async with visiting(web, "/admin/jobs", headers={"X-User": "ada"}, follow_redirects=False) as browser:
        page = await browser.get("/")
        for place in ('"/admin/jobs/static/dashboard.css"', '"/admin/jobs/tasks"', '"/admin/jobs/events?of=overview"'):
            assert place in page
        script = await browser.client.get("/admin/jobs/static/dashboard.js")
        assert (script.status_code, script.headers["cache-control"]) == (200, "no-cache")
        assert (await browser.client.get("/admin/jobs/tasks")).headers["cache-control"] == "no-store"
        missing = await browser.client.get("/admin/jobs/static/none.css", headers={"Accept": "text/html"})
        assert '"/admin/jobs/static/dashboard.css"' in missing.text
        assert "/static/static/" not in missing.text
        answer = await browser.send("/queues/pause", queue="slow", back="/tasks?queue=slow")
        assert (answer.status_code, answer.headers["location"]) == (303, "/admin/jobs/tasks?queue=slow")
        assert "path=/admin/jobs" in answer.headers["set-cookie"].lower()
        assert "slow: paused" in await browser.get("/tasks?queue=slow")
        assert (await browser.client.get("/admin/jobs/", headers={"X-User": "eve"})).status_code == 403


async def test_signing_in_leads_back_below_the_mount(idle: App) -> None:
    web = Starlette(routes=[Mount("/jobs", dashboard(idle, token="a-token-of-some-length"))])
    async with visiting(web, "/jobs") as browser:
        answer = await browser.client.get("/jobs/dead?queue=slow", headers={"Accept": "text/html"})
        assert answer.headers["location"] == "/jobs/login?next=/dead%3Fqueue%3Dslow"
        key = await browser.client.get("/jobs/login")
        assert key.status_code == 200
        form = {"form_key": browser.client.cookies["holdfast_form"], "token": "a-token-of-some-length", "next": "/dead"}
        answer = await browser.client.post("/jobs/login", data=form, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.headers["location"] == "/jobs/dead"


async def test_an_app_that_is_not_open_is_opened_and_not_made(tmp_path: Path) -> None:
    app = App("test", url=f"sqlite:///{tmp_path}/none.db")
    async with visiting(dashboard(app, unprotected=True)) as browser:
        assert "none.db" in await browser.get("/", 409)
        assert not (tmp_path / "none.db").exists()
        async with App("other", url=app.settings.database_url):
            assert "No jobs like that" in await browser.get("/tasks")
    await app.close()


def test_an_app_that_is_open_in_another_loop_is_looked_at_over_connections_of_its_own(tmp_path: Path) -> None:
    app = App("test", interface="sync", url=f"sqlite:///{tmp_path}/sync.db", embedded_worker=False)

    @app.task(name="shop:blocking")
    def work() -> None: ...

    async def look() -> None:
        served = dashboard(app, unprotected=True)
        async with served.router.lifespan_context(served), visiting(served) as browser:
            assert [job["id"] for job in (await browser.json("/tasks"))["jobs"]] == ["sent"]

    with app:
        work.options(id="sent").delay()
        asyncio.run(look())
        assert work.options(id="again").delay().id == "again"


async def test_without_its_libraries_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, idle: App) -> None:
    for name in [
        name for name in sys.modules if name.startswith("holdfast.web.") or name.partition(".")[0] == "jinja2"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'holdfast\[web\]'"):
        dashboard(idle, unprotected=True)
