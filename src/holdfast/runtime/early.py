"""Early jobs: settled before they run, so that none runs twice. How they end is told to hooks and the log, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from holdfast.clock import Clock
from holdfast.codec import dumps, encode
from holdfast.errors import StoreError, words_of
from holdfast.ids import JobId
from holdfast.logs import get_logger
from holdfast.model.job import ClaimedJob, Done, Failed, Reason, SettledJobs, Settlement
from holdfast.runtime.background import Background
from holdfast.runtime.executor import Attempt, Gave, Raised
from holdfast.runtime.messages import EARLY, Message

log = get_logger("holdfast.worker")


class NotHeld(Exception):
    """The job could not be settled as this worker's own; it does not run here."""


class EarlyJobs:
    """Those that this worker has settled and runs now."""

    def __init__(self, write: Callable[[Sequence[Settlement]], Awaitable[SettledJobs]], *, clock: Clock) -> None:
        self.running: dict[JobId, Attempt] = {}
        """What nobody else can get any more."""
        self._write = write
        self._clock = clock
        self._asked: list[tuple[Settlement, asyncio.Future[None]]] = []
        self._background = Background()
        self._writing = False

    async def settle(self, job: ClaimedJob, message: Message, attempt: Attempt) -> None:
        """Return when nobody else can get it. Raises NotHeld where that is not certain."""
        self.running[job.id] = attempt
        now = self._clock.now()
        outcome = Done(dumps(encode(EARLY)), now, None if message.keep is None else now + message.keep)
        settled = asyncio.get_running_loop().create_future()
        self._asked.append((job.settled(outcome), settled))
        if not self._writing:
            # Not asked of the task: for a moment that is there still, and looks no more.
            self._writing = True
            self._background.begin(self._write_all())
        await settled

    async def _write_all(self) -> None:
        """Settle those that have begun, in groups: what comes in meanwhile makes the next one."""
        try:
            while self._asked:
                group, self._asked = self._asked, []
                try:
                    lost = (await self._write([settlement for settlement, _ in group])).lost
                    refused = NotHeld("it was not this worker's any more when it was to be settled")
                except StoreError as error:
                    lost = {settlement.id for settlement, _ in group}
                    refused = NotHeld(f"it could not be settled before it ran: {error}")
                for settlement, settled in group:
                    if settled.done():
                        continue
                    if settlement.id in lost:
                        settled.set_exception(refused)
                    else:
                        settled.set_result(None)
        finally:
            self._writing = False

    def ended(self, job: ClaimedJob, ended: Gave | Raised, *, now: float) -> Done | Failed | None:
        """What became of it, for hooks; None where it did not run."""
        self.running.pop(job.id, None)
        if isinstance(ended, Gave):
            return Done(dumps(ended.tree), now)
        if isinstance(ended.error, NotHeld):
            log.warning("early job not run", job=job.id, task=job.name, reason=str(ended.error))
            return None
        error = ended.error
        log.error(
            "early job failed",
            job=job.id,
            task=job.name,
            error=f"{type(error).__name__}: {words_of(error)}",
            exc_info=error,
        )
        return Failed(Reason.FAILED, dumps(ended.tree), now, dead=False)

    def abandon(self) -> Sequence[Attempt]:
        """Forget them; returns those that ran."""
        attempts = list(self.running.values())
        self.running.clear()
        self._background.cancel()
        return attempts
