"""Who is let in, and which requests may change something."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from tests.web.visiting import HERE, OWN, Browser, visiting

from holdfast import App
from holdfast.errors import ConfigurationError
from holdfast.web import dashboard
from holdfast.web.access import SESSION, is_loopback, is_own_page, is_session, make_session, named_host, own_path
from holdfast.web.application import ACTS

TOKEN = "not-so-easily-guessed"


@pytest.fixture
async def browser(idle: App) -> AsyncIterator[Browser]:
    """On a dashboard that lets anybody in."""
    async with visiting(dashboard(idle, unprotected=True)) as browser:
        yield browser


async def test_nobody_is_let_in_by_default(idle: App) -> None:
    with pytest.raises(ConfigurationError, match=r"nobody said who may use the dashboard.*HOLDFAST_WEB_TOKEN"):
        dashboard(idle)
    with pytest.raises(ConfigurationError, match="has 5 characters, and needs 16"):
        dashboard(idle, token="short")


async def test_the_token_of_the_settings_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # From a file it comes with the end of its line.
    monkeypatch.setenv("HOLDFAST_WEB_TOKEN", f"{TOKEN}\n")
    async with visiting(dashboard(App("test", url="sqlite://:memory:"))) as browser:
        assert (await browser.client.get("/")).status_code == 401
        # Who is in already needs no form.
        answer = await browser.client.get("/login", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 303


async def test_whoever_knows_the_token_signs_in_and_out(idle: App) -> None:
    async with visiting(dashboard(idle, token=TOKEN)) as browser:
        answer = await browser.client.get("/tasks?status=queued", headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/tasks%3Fstatus%3Dqueued")
        page = await browser.client.get(answer.headers["location"])
        assert 'name="next" value="/tasks?status=queued"' in page.text
        # It says nothing yet of what is behind it.
        assert not re.search(r"sqlite|>test<|test –|/schedules", page.text)
        key = browser.client.cookies["holdfast_form"]
        form = {"form_key": key, "next": "/tasks?status=queued"}
        wrong = await browser.client.post("/login", data={**form, "token": "not the right one"}, headers=OWN)
        assert wrong.status_code == 401
        assert "That is not the token" in wrong.text
        assert "holdfast_session" not in browser.client.cookies
        right = await browser.client.post("/login", data={**form, "token": TOKEN}, headers=OWN)
        assert (right.status_code, right.headers["location"]) == (303, "/tasks?status=queued")
        for cookie in (right.headers["set-cookie"], page.headers["set-cookie"]):
            assert "httponly" in cookie.lower()
            assert "samesite=strict" in cookie.lower()
            assert TOKEN not in cookie
        assert "/tasks/show?id=sent" in await browser.get("/tasks?status=queued")
        assert "resumed" in await browser.do("/queues/resume", queue="mail")
        out = await browser.client.post("/logout", data={"form_key": key}, headers=OWN)
        assert out.headers["location"] == "/login"
        assert (await browser.client.get("/")).status_code == 401


async def test_a_script_sends_the_token(idle: App) -> None:
    async with visiting(dashboard(idle, token=TOKEN)) as browser:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        found = await browser.json("/tasks", **bearer)
        assert [job["id"] for job in found["jobs"]] == ["sent"]
        answer = await browser.client.post("/queues/pause", data={"queue": "mail"}, headers=bearer)
        assert answer.json() == {"well": True, "said": {"mail": "paused; what runs goes on"}}
        answer = await browser.client.post("/dead/purge", data={"id": "bad1"}, headers=bearer)
        assert (answer.status_code, "sure=yes" in answer.json()["error"]) == (400, True)
        for wrong in ("Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"):
            answer = await browser.client.get("/dead", headers=[(b"Authorization", wrong.encode())])
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_the_users_own_function_decides(idle: App) -> None:
    def allow(request: Request) -> Any:
        return request.headers.get("x-user") == "ada" or "yes"

    async def allow_later(request: Request) -> bool:
        return request.headers.get("x-user") == "ada"

    for function in (allow, allow_later):
        async with visiting(dashboard(idle, allow=function)) as browser:
            assert (await browser.client.get("/")).status_code == 403
            assert (await browser.client.get("/login")).status_code == 404
            assert (await browser.client.get("/static/dashboard.css")).status_code == 200
            assert "Overview" in await browser.get("/", **{"X-User": "ada"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": HERE},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
    ],
)
async def test_a_form_of_another_site_changes_nothing(idle: App, browser: Browser, headers: dict[str, str]) -> None:
    data = {"form_key": await browser.key(), "queue": "mail"}
    answer = await browser.client.post("/queues/pause", data=data, headers=headers)
    assert answer.status_code == 403
    assert await idle.tasks.broker.paused() == {}


@pytest.mark.parametrize("path", [*ACTS, "/logout"])
async def test_nothing_is_done_but_for_an_own_form(browser: Browser, path: str) -> None:
    assert (await browser.client.get(path)).status_code in (404, 405)
    key = {"form_key": await browser.key()}
    assert (await browser.client.post(path, headers=OWN)).status_code == 403
    assert (await browser.client.post(path, data=key, headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403


async def test_an_own_form_is_known_by_its_key(idle: App, browser: Browser) -> None:
    key = await browser.key()
    for data in ({}, {"form_key": ""}, {"form_key": key[:-1]}):
        assert (
            await browser.client.post("/queues/pause", data={"queue": "mail", **data}, headers=OWN)
        ).status_code == 403
    browser.client.cookies.clear()
    for data in ({"form_key": key}, {"form_key": ""}):
        assert (
            await browser.client.post("/queues/pause", data={"queue": "mail", **data}, headers=OWN)
        ).status_code == 403
    assert await idle.tasks.broker.paused() == {}
    assert (await browser.client.get("/queues/pause?queue=mail")).status_code in (404, 405)
    other = await browser.client.post("/queues/pause", json={"queue": "mail"}, headers=OWN)
    assert other.status_code == 415
    large = await browser.client.post("/queues/pause", data={"queue": "x" * 2_000_000}, headers=OWN)
    assert large.status_code == 413
    # An older browser says only where a form comes from.
    data = {"form_key": await browser.key(), "queue": "mail"}
    assert (await browser.client.post("/queues/pause", data=data, headers={"Origin": HERE})).status_code == 303


async def test_browsers_are_told_to_load_nothing_from_elsewhere(browser: Browser) -> None:
    for path in ("/", "/tasks", "/dead", "/workflows/show?id=open", "/nothing", "/static/dashboard.js"):
        answer = await browser.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(
            r"<script(?! src=\"/static/)|<style|style=|\son\w+=|https?://(?!www.w3.org/2000/svg)", answer.text
        )


async def test_it_answers_to_its_names_alone(idle: App) -> None:
    async with visiting(dashboard(idle, unprotected=True, hosts=["127.0.0.1", "localhost", "::1"])) as browser:
        for host in ("127.0.0.1:8787", "localhost", "LOCALHOST:1", "[::1]:8787", "localhost."):
            assert (await browser.client.get("/", headers={"Host": host})).status_code == 200, host
        for host in ("evil.example:8787", "127.0.0.1.evil.example", "localhost@evil.example", ""):
            for path in ("/", "/static/dashboard.css", "/login"):
                assert (await browser.client.get(path, headers={"Host": host})).status_code == 421, host


def test_a_session_ends_with_its_time_and_with_the_token() -> None:
    session = make_session(TOKEN, now=1000.0, nonce="n")
    assert is_session(TOKEN, session, now=1000.0 + SESSION - 1)
    assert not is_session(TOKEN, session, now=1000.0 + SESSION)
    assert not is_session(TOKEN + "x", session, now=1000.0)
    until, nonce, signature = session.split(".")
    for forged in ("", ".", "..", f"9{until}.{nonce}.{signature}", f"{until}.m.{signature}", f"{until}.{nonce}.é"):
        assert not is_session(TOKEN, forged, now=1000.0)


def test_addresses_and_origins_are_read_strictly() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost")] == [True] * 5
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")] == [False] * 5
    assert [named_host(text) for text in ("a.b:1", "[::1]:2", "a:b:c", "a/b", "")] == ["a.b", "::1", "", "", ""]
    assert not is_own_page({"origin": "", "host": ""})
    assert [own_path(path) for path in ("/tasks/show?id=a%20b", "/dead", "/")] == ["/tasks/show?id=a%20b", "/dead", "/"]
    for path in ("//evil.example", "/\\evil.example", "https://evil.example", "", "/a?b c", "/a\r\nb", "/a?b#c"):
        assert own_path(path) == "/"
