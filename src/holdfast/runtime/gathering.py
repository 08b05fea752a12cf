"""Gathering: jobs of one task that wait for others of it, and then run in one call. Settles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from holdfast.codec import encode_exception, encode_result
from holdfast.errors import CodecError
from holdfast.ids import JobId
from holdfast.model.job import ClaimedJob
from holdfast.runtime.executor import Attempt, Executor, Gave, Raised
from holdfast.runtime.messages import Message
from holdfast.task import BatchLimits, Gathered


class Member(NamedTuple):
    """A job of a batch."""

    job: ClaimedJob
    message: Message
    item: Any
    """The argument of its call."""


@dataclass(slots=True, eq=False)
class Batch:
    """Jobs that run in one call."""

    task: str
    timeout: float | None
    members: dict[JobId, Member] = field(default_factory=dict[JobId, Member])
    attempt: Attempt | None = None
    """None while it is open for more."""
    timer: asyncio.TimerHandle | None = None

    @property
    def begun(self) -> bool:
        """Whether its call has made its first step."""
        return self.attempt is not None and self.attempt.task is not None


Begin = Callable[[ClaimedJob], Coroutine[Any, Any, None]]


class Gathering:
    """The batches of one worker."""

    def __init__(
        self,
        executor: Executor,
        *,
        begin: Begin | None,
        ended: Callable[[ClaimedJob, Message, Gave | Raised], None],
    ) -> None:
        self._executor = executor
        self._begin = begin
        """What comes before each job of a batch runs; if that raises, all of them have failed."""
        self._ended = ended
        self._open: dict[str, Batch] = {}

    @property
    def waiting(self) -> int:
        """Jobs that wait for others, and take no room."""
        return sum(len(batch.members) for batch in self._open.values())

    def add(self, member: Member, limits: BatchLimits, timeout: float | None, *, alone: bool) -> Batch:
        """Let it wait for others, or run at once where it completes a batch; `alone` in one of its own."""
        name = member.job.name
        batch = None if alone else self._open.get(name)
        if batch is None:
            batch = Batch(name, timeout)
        batch.members[member.job.id] = member
        if alone or len(batch.members) >= limits.size:
            self._submit(batch)
        elif batch.timer is None:
            self._open[name] = batch
            batch.timer = asyncio.get_running_loop().call_later(limits.within, self._submit, batch)
        return batch

    def leave(self, batch: Batch, id: JobId) -> None:
        """This job is wanted no more. The others run, or go on."""
        batch.members.pop(id, None)
        if batch.members:
            return
        self._close(batch)
        if batch.attempt is not None:
            self._executor.drop(batch.attempt)

    def _close(self, batch: Batch) -> None:
        """Nobody else joins it."""
        if batch.timer is not None:
            batch.timer.cancel()
        if self._open.get(batch.task) is batch:
            del self._open[batch.task]

    def _submit(self, batch: Batch) -> None:
        self._close(batch)
        ran: list[Member] = []

        async def before() -> None:
            # Those that have left meanwhile do not run.
            ran[:] = batch.members.values()
            attempt.arguments = ((Gathered(member.item for member in ran),), {})
            if self._begin is not None:
                for member in ran:
                    await self._begin(member.job)

        def report(ended: Gave | Raised) -> None:
            members = ran or list(batch.members.values())
            for member, outcome in zip(members, _apart(batch.task, ended, len(members)), strict=True):
                if batch.members.pop(member.job.id, None) is not None:
                    self._ended(member.job, member.message, outcome)

        attempt = batch.attempt = Attempt(batch.task, None, ((), {}), batch.timeout, report, before=before, batch=True)
        self._executor.submit(attempt)


def _apart(task: str, ended: Gave | Raised, number: int) -> Iterable[Gave | Raised]:
    """What became of each job of a batch."""
    if isinstance(ended, Raised):
        return [ended] * number
    value: Any = ended.value
    if value is None:
        return [Gave(None, None)] * number
    if not isinstance(value, list | tuple):
        return [_refused(task, f"{type(value).__name__} instead of a list with a result for each item")] * number
    results = cast("Sequence[Any]", value)
    if len(results) != number:
        return [_refused(task, f"{len(results)} results for {number} items")] * number
    return [_one(task, each) for each in results]


def _one(task: str, result: Any) -> Gave | Raised:
    if isinstance(result, BaseException):
        return Raised(result, encode_exception(result))
    try:
        return Gave(result, encode_result(result, "task", task))
    except CodecError as error:
        return Raised(error, encode_exception(error))


def _refused(task: str, what: str) -> Raised:
    error = TypeError(f"batch task {task} returned {what}")
    return Raised(error, encode_exception(error))
