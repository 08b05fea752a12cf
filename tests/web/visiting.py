"""Requests to a dashboard as a browser sends them: with its cookies, its forms, and where it says they come from."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from html import unescape
from typing import Any

import httpx

HERE = "http://127.0.0.1:8787"
OWN = {"Sec-Fetch-Site": "same-origin"}


class Browser:
    """A browser without scripts on one dashboard, mounted at `root`."""

    def __init__(self, client: httpx.AsyncClient, root: str = "") -> None:
        self.client = client
        self.root = root

    async def get(self, path: str, status: int = 200, **headers: str) -> str:
        """A page, with its references to characters undone."""
        answer = await self.client.get(self.root + path, headers={"Accept": "text/html", **headers})
        assert answer.status_code == status, answer.text
        return unescape(answer.text)

    async def json(self, path: str, status: int = 200, **headers: str) -> Any:
        answer = await self.client.get(self.root + path, headers={"Accept": "application/json", **headers})
        assert answer.status_code == status, answer.text
        return answer.json()

    async def key(self) -> str:
        """What the forms of this browser carry."""
        page = await self.get("/")
        found = re.search(r'name="form_key" value="([^"]+)"', page)
        return found[1] if found else self.client.cookies["holdfast_form"]

    async def send(self, path: str, **fields: Any) -> httpx.Response:
        """Send a form of an own page."""
        return await self.client.post(self.root + path, data={"form_key": await self.key(), **fields}, headers=OWN)

    async def do(self, path: str, **fields: Any) -> str:
        """Send a form, and load the page that it leads to."""
        answer = await self.send(path, **fields)
        assert answer.status_code == 303, answer.text
        shown = await self.client.get(answer.headers["location"], headers={"Accept": "text/html"})
        assert shown.status_code == 200
        return unescape(shown.text)


@asynccontextmanager
async def visiting(served: Any, root: str = "", **options: Any):
    """A browser that speaks to an ASGI application without a network."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url=HERE, **options) as client:
        yield Browser(client, root)
