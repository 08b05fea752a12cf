"""The dashboard in a real browser: live without being loaded again, by keyboard and on a phone, and it asks nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, Page, Request, async_playwright, expect
from tests.web.conftest import fill

from holdfast import App
from holdfast.observe import watch
from holdfast.web import dashboard, events

pytestmark = pytest.mark.asyncio(loop_scope="module")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE = 15_000
"""Milliseconds for which something is waited for."""


@contextlib.asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[str]:
    """The dashboard on a port of its own; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(dashboard(app, **options), log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        # Signals are for the tests, not for this server.
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """An App for all of these tests; each of them has jobs of its own in it."""
    async with App("shop", url=f"sqlite:///{tmp_path_factory.mktemp('shop')}/shop.db") as app:
        await app.start_worker().ready.wait()
        await fill(app)
        yield app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chrome(browser_path: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Each start has a new folder for what it keeps, and each test a context of its own in it.
        browser = await playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture(autouse=True)
def _looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.2)
    monkeypatch.setattr(events, "EVERY", 0.2)


class Seen:
    """A page, and what went wrong or abroad while it was looked at."""

    def __init__(self, page: Page, place: str) -> None:
        self.page = page
        self.trouble: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: self.trouble.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", lambda request: self._asked(request, place))

    def _asked(self, request: Request, place: str) -> None:
        if not request.url.startswith(place):
            self.trouble.append(f"asked {request.url}")


@contextlib.asynccontextmanager
async def looking(chrome: Browser, place: str, **options: Any) -> AsyncIterator[Page]:
    context = await chrome.new_context(base_url=place, **options)
    seen = Seen(await context.new_page(), place)
    yield seen.page
    assert seen.trouble == []
    await context.close()


async def test_what_happens_is_seen_without_loading_the_page_again(shop: App, chrome: Browser) -> None:
    async with serving(shop, unprotected=True) as place, looking(chrome, place) as page:
        await page.goto("/")
        await expect(page.locator("#live")).to_have_text("live", timeout=PATIENCE)
        await page.evaluate("window.kept = 'since it was loaded'")
        row = page.locator('tr[data-key="queue slow"]')
        await expect(row).to_contain_text("open")
        pause = row.get_by_role("button", name="Pause slow")
        await pause.focus()

        @shop.task(name="shop:more", queue="more", retries=0)
        async def more() -> None:
            raise RuntimeError("it <i>broke</i>")

        await more.options(id="broke").delay()
        failure = page.locator('tr[data-key="job broke"]')
        await expect(failure).to_contain_text("RuntimeError: it <i>broke</i>", timeout=PATIENCE)
        await expect(page.locator('tr[data-key="queue more"]')).to_be_visible()
        # Who was about to press a button still is.
        await expect(pause).to_be_focused()
        assert await page.evaluate("window.kept") == "since it was loaded"

        await page.keyboard.press("Enter")
        await expect(page.get_by_text("slow: paused; what runs goes on")).to_be_visible()
        assert list(await shop.tasks.broker.paused()) == ["slow"]
        await row.get_by_role("button", name="Resume slow").click()
        await expect(row).to_contain_text("open")


async def test_a_job_that_runs_is_watched_and_cancelled(shop: App, chrome: Browser) -> None:
    async with serving(shop, unprotected=True) as place, looking(chrome, place) as page:
        await page.goto("/tasks?status=running")
        await page.get_by_role("link", name="long").click()
        await expect(page.get_by_text("3 of 12 – third page")).to_be_visible(timeout=PATIENCE)
        await shop.job("long").cancel()
        await expect(page.locator(".badge.cancelled")).to_be_visible(timeout=PATIENCE)
        await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
        await expect(page.locator("#live")).to_have_text("ended")
        await page.goto("/tasks/show?id=later")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.get_by_text("later: cancelled")).to_be_visible()


async def test_dead_letters_are_marked_and_purged_after_a_question(shop: App, chrome: Browser) -> None:
    async with serving(shop, unprotected=True) as place, looking(chrome, place) as page:
        await page.goto("/dead?name=shop:double")
        await page.get_by_label("Mark all on this page").check()
        assert await page.locator('input[name="id"]:checked').count() == 3
        await page.get_by_label("Mark late").uncheck()
        await page.get_by_role("button", name="Purge marked…").click()
        await expect(page.get_by_text("Remove 2 dead letters for ever?")).to_be_visible()
        await page.get_by_role("link", name="Keep them").click()
        await page.get_by_label("Mark bad1").check()
        await page.get_by_role("button", name="Purge marked…").click()
        await page.get_by_role("button", name="Purge 1").click()
        await expect(page.get_by_text("1 purged")).to_be_visible()
        await expect(page.get_by_role("link", name="bad1")).to_have_count(0)
        assert {view.id for view in await shop.tasks.dead(name="shop:double")} == {"bad2", "late"}


async def test_the_token_is_asked_for_in_a_form(shop: App, chrome: Browser) -> None:
    async with serving(shop, token="open-sesame-open-sesame") as place, looking(chrome, place) as page:
        await page.goto("/workflows?name=Order")
        await expect(page.get_by_label("Token")).to_be_focused()
        await page.keyboard.type("open-sesame-open-sesame")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("link", name="broken")).to_be_visible()
        assert page.url.endswith("/workflows?name=Order")
        assert await page.evaluate("document.cookie") == ""
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Token")).to_be_visible()


async def test_a_phone_shows_all_of_it_also_in_the_dark(shop: App, chrome: Browser) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    async with serving(shop, unprotected=True) as place, looking(chrome, place, **phone) as page:
        for path in ("/", "/dead", "/tasks/show?id=bad2", "/workflows/show?id=broken"):
            await page.goto(path)
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await page.evaluate(wide) == 0, path
        dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", dark))) < 150
