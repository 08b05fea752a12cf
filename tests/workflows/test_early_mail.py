"""Messages that come while their receiver is just being claimed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.workflows.conftest import run_app

from holdfast import Workflow, action, workflow

heard = asyncio.Event()


@action
async def note(word: str) -> None:
    heard.set()


@action
async def until_heard() -> str:
    await heard.wait()
    return "heard"


@workflow
class Hearing(Workflow):
    async def listen(self) -> None:
        await note(await self.receive("word"))

    async def run(self) -> str:
        # With an action that runs it stays in memory, where only its worker's look into the inbox finds the message.
        said, _ = await asyncio.gather(until_heard(), self.listen())
        return said


async def test_a_message_that_comes_before_the_answer_to_the_claim_is_read(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(f"{__name__}.heard", asyncio.Event())
    async with run_app(url, poll_interval_ms=60_000) as app:
        worker = app.start_worker()
        await worker.ready.wait()
        claim = app.store.claim
        begun: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def slow(*about: Any, **values: Any) -> Any:
            claims = await claim(*about, **values)
            if claims.instances:
                app.store.claim = claim  # type: ignore[method-assign]
                assert worker.owner is not None
                assert not claims.instances[0].told
                await (await begun).send("word", "hello")
                # The worker has heard of it, and has looked, before it has the answer to its claim.
                await app.store.take_inbox(worker.owner.worker)
                await app.store.take_inbox(worker.owner.worker)
            return claims

        app.store.claim = slow  # type: ignore[method-assign]
        begun.set_result(handle := await Hearing().start())
        assert await handle.result(timeout=5) == "heard"
