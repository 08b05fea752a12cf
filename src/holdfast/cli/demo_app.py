"""The workflow that `holdfast demo` runs: a filter, a fan-out, an action that fails at first, and a durable sleep."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from holdfast import App, RetryPolicy, Workflow, action, workflow

app = App("demo", lease_seconds=1.0, concurrent_per_worker=4)


@dataclass
class User:
    """Somebody to be welcomed."""

    id: int
    name: str
    active: bool

    @property
    def email(self) -> str:
        return f"{self.name.lower()}@example.org"


class MailServerDown(Exception):
    """The mail server does not answer."""


NAMES = [
    "Ada",
    "Grace",
    "Edsger",
    "Barbara",
    "Donald",
    "Frances",
    "Alan",
    "Radia",
    "Ken",
    "Margaret",
    "Tony",
    "Lynn",
]


@action
async def fetch_users(ids: list[int]) -> list[User]:
    await asyncio.sleep(0.2)
    return [User(id=i, name=NAMES[i % len(NAMES)], active=i % 4 != 3) for i in ids]


@action
async def send_email(to: str, subject: str) -> str:
    await asyncio.sleep(0.5)
    # A line for each mail sent, outside of Holdfast, so that the demo can count what really happened.
    with Path(os.environ["HOLDFAST_DEMO_OUTBOX"]).open("a") as outbox:
        outbox.write(f"{to} by {os.getpid()}\n")
    return f"sent to {to}"


@action
async def open_report(path: str) -> str:
    """Fails twice, then works: the count of attempts is kept outside, as a real server's mood would be."""
    attempts = Path(path)
    tried = len(attempts.read_text()) if attempts.exists() else 0
    attempts.write_text("x" * (tried + 1))
    if tried < 2:
        raise MailServerDown(f"attempt {tried + 1}: no answer")
    return "report filed"


@workflow
class Welcome(Workflow):
    """Welcome all active users, file a report, rest a little, and sum up."""

    async def run(self, user_ids: list[int], report: str) -> str:
        users = await fetch_users(user_ids)
        active = [user for user in users if user.active]
        sent = await asyncio.gather(*[send_email(to=user.email, subject="Welcome") for user in active])
        filed = await self.run_action(open_report(report), retry=RetryPolicy(attempts=5, delay=timedelta(seconds=0.3)))
        await asyncio.sleep(1.5)
        return f"{len(sent)} of {len(users)} users welcomed, {filed}"
