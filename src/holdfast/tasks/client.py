"""The client side of tasks: send jobs, wait for what becomes of them, replay the dead. Runs none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar, cast

from holdfast.clock import Clock, as_seconds
from holdfast.codec import TRACEBACK, decode, decode_exception, loads
from holdfast.errors import ConfigurationError, JobNotFound, TaskCancelled, TaskFailed, WaitTimeout, words_of
from holdfast.ids import JobId
from holdfast.model.job import Job, JobFilter, JobStatus, JobView, Reason
from holdfast.ports import Broker
from holdfast.runtime import reporting
from holdfast.runtime.current import Progress
from holdfast.runtime.messages import EARLY
from holdfast.runtime.watching import Expectation, Watch

R = TypeVar("R")

SEND_BATCH = 1000
"""Jobs sent in one statement."""
SEND_BYTES = 16_000_000
"""Messages beyond so many bytes go with the next statement: a database takes only so much in one."""
DEAD_PAGE = 500
"""Ended jobs read, replayed or purged in one statement."""
CANCELLED_KEPT = 3600.0
"""Seconds for which a job that was cancelled while it waited can still be looked at."""
LASTING_INTEREST = 8
"""Jobs sent in vain with word of who waits, after which a task's results are no longer thought to be waited for."""


class Interest:
    """Of which tasks the results seem to be waited for.

    A job that is sent alone, of such a task, says at once who waits: nobody needs to ask for that later, when a worker
    is about to take it.
    """

    def __init__(self) -> None:
        self._credits: dict[str, int] = {}

    def waited(self, task: str) -> None:
        """The result of a job that was sent alone is waited for."""
        self._credits[task] = min(self._credits.get(task, 0) + 2, LASTING_INTEREST)

    def foreseen(self, task: str) -> bool:
        """Whether the result of the job that is about to be sent will be waited for, as it seems."""
        left = self._credits.get(task, 0)
        if left:
            self._credits[task] = left - 1
        return left > 0


class TaskClient:
    """Speaks to the broker for whoever sends jobs and waits for them."""

    def __init__(
        self, *, broker: Broker, clock: Clock, poll_interval: float, ready: Callable[[], Awaitable[object]]
    ) -> None:
        self.broker = broker
        self._ready = ready
        """Opens the broker where it is not open yet."""
        self.clock = clock
        self.watch: Watch[JobId, JobView] = Watch(
            broker.home,
            kind="job",
            poll_interval=poll_interval,
            look=self._look,
            ended=lambda view: view.status.ended,
            missing=_missing,
        )
        self.interest = Interest()

    async def close(self) -> None:
        """Stop watching."""
        await self.watch.close()

    async def reach(self) -> Broker:
        """The broker, open in the running event loop."""
        await self._ready()
        return self.broker

    async def send(self, jobs: Sequence[Job]) -> list[JobHandle[Any]]:
        """Send jobs, in few statements. One that exists already, or whose unique text another has, gives that one's handle.

        Raises ConfigurationError where the id is that of another task's job.
        """
        if len(jobs) == 1:
            return [await self._send_alone(jobs[0])]
        accepted, _ = await self._accepted(jobs)
        return [JobHandle(self, accepted[job.id]) for job in jobs]

    async def _send_alone(self, job: Job) -> JobHandle[Any]:
        expected: Expectation | None = None
        if self.broker.home.traits.notifies and self.interest.foreseen(job.name):
            await self.watch.listen()
            job, expected = job._replace(waiter=self.watch.channel), self.watch.expect(job.id)
        accepted, new = await self._accepted([job])
        # One that was there before knows nothing of this client.
        return JobHandle(self, accepted[job.id], task=job.name, expected=expected if job.id in new else None)

    async def _accepted(self, jobs: Sequence[Job]) -> tuple[Mapping[JobId, JobId], Set[JobId]]:
        """By each job's id that of the job which stands for it, and the ids of those that are new."""
        accepted: dict[JobId, JobId] = {}
        all_new: set[JobId] = set()
        rest = list(jobs)
        while rest:
            new: set[JobId] = set()
            for batch in _batches(rest):
                new.update(await self.broker.send(batch))
            all_new |= new
            # Without a unique text, only one that is there already is not new.
            await self._known([job for job in rest if job.id not in new and job.unique is None])
            accepted |= {job.id: job.id for job in rest if job.id in new or job.unique is None}
            rest = [job for job in rest if job.id not in accepted]
            if rest:
                holders = await self.broker.holders([job.unique or "" for job in rest])
                known = await self._known(rest)
                for job in rest:
                    if (holder := holders.get(job.unique or "")) is not None:
                        accepted[job.id] = holder
                    elif job.id in known:
                        accepted[job.id] = job.id
                # Those that are left were refused for one that has ended since.
                rest = [job for job in rest if job.id not in accepted]
        return accepted, all_new

    async def _known(self, jobs: Sequence[Job]) -> Set[JobId]:
        """The ids of those that are there. Raises ConfigurationError where one is that of another task's job."""
        if not jobs or not self.broker.home.traits.finds_jobs:
            return set()
        names = {view.id: view.name for view in await self.broker.look([job.id for job in jobs])}
        for job in jobs:
            if names.get(job.id, job.name) != job.name:
                raise ConfigurationError(f"the id {job.id!r} belongs to a job of {names[job.id]}; choose another")
        return names.keys()

    async def send_through(self, connection: Any, jobs: Sequence[Job]) -> list[JobHandle[Any]]:
        """Send jobs in the transaction of the caller's own connection."""
        if any(job.unique is not None for job in jobs):
            raise ConfigurationError(
                "unique= cannot be told before the transaction commits; give id=, under which two jobs are one"
            )
        for batch in _batches(jobs):
            await self.broker.send_through(connection, batch)
        return [JobHandle(self, job.id) for job in jobs]

    async def _look(self, ids: Sequence[JobId], waiter: str | None) -> Mapping[JobId, JobView]:
        return {view.id: view for view in await self.broker.look(ids, waiter=waiter)}

    # --- dead letters

    async def dead(self, **filter: Any) -> list[JobView]:
        """Dead letters, newest first. Takes the fields of JobFilter, but for the status."""
        return list(await (await self.reach()).find(JobFilter(status=JobStatus.DEAD, **filter)))

    async def all_dead(self, wanted: Callable[[JobView], bool] | None = None, **filter: Any) -> list[JobView]:
        """All dead letters that are wanted, newest first. `filter` takes the fields of JobFilter, but for the status."""
        found: list[JobView] = []
        before: tuple[float, str] | None = None
        while page := await self.dead(limit=DEAD_PAGE, before=before, **filter):
            found += [view for view in page if wanted is None or wanted(view)]
            before = (page[-1].created_at, page[-1].id)
        return found

    async def replay(self, ids: Iterable[JobId]) -> list[JobId]:
        """Queue ended jobs again, in few statements; returns those that are."""
        broker = await self.reach()
        return [id for page in _pages(ids) for id in await broker.replay(page, now=self.clock.now())]

    async def purge(self, ids: Iterable[JobId]) -> list[JobId]:
        """Remove ended jobs, in few statements; returns those that are gone."""
        broker = await self.reach()
        return [id for page in _pages(ids) for id in await broker.purge(page)]


def _pages(ids: Iterable[JobId]) -> Iterator[Sequence[JobId]]:
    listed = list(ids)
    return (listed[i : i + DEAD_PAGE] for i in range(0, len(listed), DEAD_PAGE))


def _batches(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Portions that one statement takes."""
    begin = size = 0
    for at, job in enumerate(jobs):
        if at > begin and (at - begin == SEND_BATCH or size + len(job.payload) > SEND_BYTES):
            yield jobs[begin:at]
            begin, size = at, 0
        size += len(job.payload)
    yield jobs[begin:]


class JobHandle(Generic[R]):
    """A job, from outside."""

    def __init__(
        self, client: TaskClient, id: str, *, task: str | None = None, expected: Expectation | None = None
    ) -> None:
        self.client = client
        self.id = JobId(id)
        self._task = task
        """Whose job it is, where that was sent alone."""
        self._expected = expected

    @property
    def line(self) -> Sequence[JobHandle[Any]]:
        """The jobs it stands for, in the order in which they are sent."""
        return [self]

    async def get(self, timeout: timedelta | float | None = None) -> R:
        """Its result, once it is there. Raises TaskFailed, TaskCancelled, WaitTimeout, JobNotFound."""
        seconds = None if timeout is None else as_seconds(timeout)
        if self._task is not None:
            self.client.interest.waited(self._task)
            self._task = None
        await self.client.reach()
        view = await self.client.watch.outcome(self.id, timeout=seconds, expected=self._expected)
        self._expected = None
        return cast(R, result_of(view))

    async def view(self) -> JobView:
        """All that is known of it. Raises JobNotFound."""
        for view in await (await self.client.reach()).look([self.id]):
            return view
        raise _missing(self.id)

    async def status(self) -> JobStatus:
        """Where it stands. Raises JobNotFound."""
        return (await self.view()).status

    async def progress(self) -> Progress | None:
        """How far it is, as its task has said last (`report_progress`); None if it has said nothing. Raises JobNotFound."""
        return reporting.read((await self.view()).progress)

    async def cancel(self) -> bool:
        """Ask for its end: at once where it waits, by a CancelledError where it runs. False if it had ended before.

        False also where there is none of this id: one whose result is not kept is gone when it has ended.
        """
        broker, now = await self.client.reach(), self.client.clock.now()
        answer = await broker.cancel([self.id], now=now, keep_until=now + CANCELLED_KEPT)
        return bool(answer.ended or answer.asked)

    async def retry(self) -> bool:
        """Queue it again, if it has ended. Returns whether it is queued. Raises JobNotFound where it is not there any more.

        False while it has not ended, and where a job with its unique text is there.
        """
        if await self.client.replay([self.id]):
            return True
        if self.client.broker.home.traits.finds_jobs:
            await self.view()
        return False

    def __repr__(self) -> str:
        return f"<job {self.id}>"


async def gather(handles: Iterable[JobHandle[R]], *, return_exceptions: bool = False) -> list[Any]:
    """The results of all, in order. Without `return_exceptions` the first failure is raised; the others go on."""
    return await asyncio.gather(*[handle.get() for handle in handles], return_exceptions=return_exceptions)


async def wait(
    handles: Iterable[JobHandle[R]],
    *,
    timeout: timedelta | float | None = None,
    return_when: Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"] = "ALL_COMPLETED",
) -> tuple[set[JobHandle[R]], set[JobHandle[R]]]:
    """Those that have ended and those that have not, after `timeout` or when `return_when` says so."""
    seconds = None if timeout is None else as_seconds(timeout)
    tasks = {asyncio.ensure_future(handle.get(seconds)): handle for handle in handles}
    if not tasks:
        return set(), set()
    try:
        done, _ = await asyncio.wait(tasks, return_when=return_when)
        if any(isinstance(task.exception(), WaitTimeout) for task in done):
            # The time of the others is up as well.
            done, _ = await asyncio.wait(tasks)
        # Looked at, so that nobody warns of a failure that was not.
        ended = {task for task in done if not isinstance(task.exception(), WaitTimeout)}
        return {tasks[task] for task in ended}, {tasks[task] for task in tasks if task not in ended}
    finally:
        for task in tasks:
            task.cancel()


async def as_completed(
    handles: Iterable[JobHandle[R]], *, timeout: timedelta | float | None = None
) -> AsyncIterator[JobHandle[R]]:
    """The handles, each as soon as its job has ended. Raises TimeoutError."""

    async def ended(handle: JobHandle[R]) -> JobHandle[R]:
        # However it has ended; whoever stops waiting here ends this waiting, too.
        await asyncio.gather(handle.get(), return_exceptions=True)
        return handle

    tasks = [asyncio.ensure_future(ended(handle)) for handle in handles]
    try:
        for next_one in asyncio.as_completed(tasks, timeout=None if timeout is None else as_seconds(timeout)):
            yield await next_one
    finally:
        for task in tasks:
            task.cancel()


def result_of(view: JobView) -> Any:
    """The result of a job that is done; else TaskFailed or TaskCancelled is raised, or ConfigurationError where none is known."""
    if view.status is JobStatus.DONE:
        result = decode(loads(view.outcome or b"null"))
        if result is EARLY:
            raise ConfigurationError(
                f'nobody knows how job {view.id} ends: {view.name} has acks="early", so it was settled before it ran'
            )
        return result
    if view.status is JobStatus.CANCELLED:
        raise TaskCancelled(f"job {view.id} ({view.name}) was cancelled")
    if not view.status.ended:
        raise ConfigurationError(f"job {view.id} has not ended")
    raise _failure(view)


def _failure(view: JobView) -> TaskFailed:
    tree: Any = loads(view.outcome or b"null")
    name = str(cast("dict[str, Any]", tree).get("$", "")) if isinstance(tree, dict) else ""
    kind = name.rpartition(":")[2].rpartition(".")[2] or name
    cause = decode_exception(tree)
    arguments = list(cause.args) if cause is not None else []
    text = str(getattr(cause, TRACEBACK, "") or "")
    said = words_of(cause) if cause is not None else ""
    error = TaskFailed(
        f"job {view.id} ({view.name}) {_end_in_words(view, kind, said)}",
        original_type=kind,
        original_args=arguments,
        traceback_text=text,
        reason=view.reason or "",
    )
    error.__cause__ = cause
    return error


def _end_in_words(view: JobView, kind: str, said: str) -> str:
    """Why a job failed for good. Attempts are those that were made: what ends unrun was to have one more."""
    match view.reason:
        case Reason.EXPIRED | Reason.UNKNOWN | Reason.UNREADABLE:
            made = view.attempt - 1
            return f"{f'did not go on after {_attempts(made)}' if made else 'was never run'}: {said or view.reason}"
        case Reason.LOST:
            return f"was given up: {said or view.reason}"
        case _:
            return f"failed for good after {_attempts(view.attempt)}, {kind}{f': {said}' if said else ''}"


def _attempts(number: int) -> str:
    return f"{number} attempt" if number == 1 else f"{number} attempts"


def _missing(id: JobId) -> JobNotFound:
    return JobNotFound(f"there is no job {id!r}: its result was not kept (result_ttl=), or is not kept any longer")
