"""Signatures: calls to be sent, with what follows when they have ended. Made by `task.s(…)`, sent by `delay`."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast, overload

from holdfast.clock import as_seconds
from holdfast.errors import ConfigurationError, JobNotFound, WaitTimeout
from holdfast.ids import JobId
from holdfast.model.job import Job, JobStatus, JobView
from holdfast.runtime.following import link_id
from holdfast.runtime.messages import ERROR, RESULT, Chain, Link, Message, Placeholder
from holdfast.tasks.client import JobHandle, TaskClient

if TYPE_CHECKING:
    from holdfast.sync import BlockingGroup, BlockingSignature

R = TypeVar("R")
Calls = TypeVar("Calls", bound="Signature[Any]")


@dataclass(slots=True, eq=False)
class Signature(Generic[R]):
    """A call of a task that can be sent, alone or after another one.

    `a.s(1) >> b.s(RESULT) >> c.si("done")` sends b with what a has returned, and c when b has. `on_failure` is sent when a
    call has failed for good, with the exception where ERROR stands. What follows is part of the job: it is sent in one
    transaction with the end of the job before it where the broker has transactions, and else before that end is written.
    """

    asked: Any
    """The task with the options of this call."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    _then: list[Signature[Any]] | None = None
    _otherwise: Signature[Any] | None = None

    @property
    def on_success(self) -> Signature[Any] | None:
        """What is sent when it has returned; of several, the first."""
        return self._then[0] if self._then else None

    @on_success.setter
    def on_success(self, following: Signature[Any] | Group | None) -> None:
        members = [] if following is None else list(_members(following, "on_success"))
        for each in members:
            each.refuse_placeholder(ERROR, "it follows a call that has returned; ERROR is for on_failure")
        self._refuse_early(members)
        for each in members:
            self._refuse_circle(each)
        self._then = members

    @property
    def on_failure(self) -> Signature[Any] | None:
        """What is sent when it has failed for good."""
        return self._otherwise

    @on_failure.setter
    def on_failure(self, following: Signature[Any] | None) -> None:
        if following is not None:
            [following] = _members(following, "on_failure")
            following.refuse_placeholder(RESULT, "it follows a call that has failed; ERROR stands for the exception")
            self._refuse_early([following])
            self._refuse_circle(following)
        self._otherwise = following

    @overload
    def __rshift__(self, following: Calls) -> Calls: ...
    @overload
    def __rshift__(self, following: Group) -> Self: ...
    def __rshift__(self, following: Any) -> Any:
        """This one, with `following` after the last of those that follow it already."""
        if not isinstance(following, Signature | Group):
            return NotImplemented
        self.append(cast("Signature[Any] | Group", following))
        return self

    def append(self, following: Signature[Any] | Group) -> None:
        """Have `following` sent after the last of those that follow already."""
        last = self._line()[-1]
        if last._then:
            raise ConfigurationError(f"{last!r} is followed by several calls; say after which of them this one comes")
        last.on_success = following

    def fail_to(self, following: Signature[Any]) -> None:
        """Have `following` sent when any call of its chain has failed that does not say what is."""
        [given] = _members(following, "on_failure=")
        line = self._line()
        for each in line:
            if each.on_failure is None:
                each.on_failure = given.copy()
        # Those of a group at its end.
        for each in line[-1].following():
            each.fail_to(given)

    def delay(self) -> Coroutine[Any, Any, JobHandle[R]]:
        """Send it. The handle is that of the last call of its chain: `get` waits for each in turn."""
        return sender_of([self]).give(self._send())

    async def _send(self) -> JobHandle[R]:
        [handle] = await send_all([self])
        return cast("JobHandle[R]", handle)

    def copy(self) -> Signature[R]:
        """The same call with the same calls after it, all of them new."""
        made = Signature[R](self.asked, self.args, self.kwargs)
        made._then = [each.copy() for each in self._then or ()]
        made._otherwise = None if self._otherwise is None else self._otherwise.copy()
        return made

    def job(self) -> Job:
        """The job of this call, with all that follows in its message."""
        return self.asked.task.job(
            self.args, self.kwargs, self.asked.chosen, then=self.chains(), otherwise=self.failure_chains()
        )

    def link(self) -> Link:
        """This call as one that follows another, without those that come after it in its chain."""
        return self.asked.task.link(
            self.args, self.kwargs, self.asked.chosen, filled=self._filled, otherwise=self.failure_chains()
        )

    def links(self) -> int:
        """How many calls its chain has."""
        return len(self._line())

    def last(self) -> Signature[Any]:
        """The last call of its chain."""
        return self._line()[-1]

    def following(self) -> Sequence[Signature[Any]]:
        """What is sent when it has returned."""
        return self._then or ()

    def refuse_placeholder(self, which: Placeholder, why: str) -> None:
        """Raise ConfigurationError where this placeholder is an argument."""
        if any(each is which for each in (*self.args, *self.kwargs.values())):
            raise ConfigurationError(f"there is nothing for {which!r} to stand for in {self!r}: {why}")

    @property
    def _filled(self) -> bool:
        return any(isinstance(each, Placeholder) for each in (*self.args, *self.kwargs.values()))

    def _line(self) -> list[Signature[Any]]:
        """This call and those that follow one after another."""
        line: list[Signature[Any]] = [self]
        while (then := line[-1]._then) and len(then) == 1:
            line += then
        return line

    def chain(self) -> Chain:
        """This call and those after it in its chain, as they are written."""
        line = self._line()
        links = [each.link() for each in line]
        if line[-1]._then:
            message: Message = links[-1].message._replace(then=line[-1].chains())
            links[-1] = links[-1]._replace(message=message)
        return tuple(links)

    def chains(self) -> tuple[Chain, ...]:
        """What is sent when it has returned, as it is written."""
        return tuple(each.chain() for each in self._then or ())

    def failure_chains(self) -> tuple[Chain, ...]:
        """What is sent when it has failed for good, as it is written."""
        return () if self._otherwise is None else (self._otherwise.chain(),)

    def _refuse_early(self, following: Sequence[Signature[Any]]) -> None:
        if following and self.asked.chosen.acks == "early":
            raise ConfigurationError(f'nothing can follow {self!r}: with acks="early" nobody knows how it ends')

    def _refuse_circle(self, following: Signature[Any]) -> None:
        if any(each is self for each in following._all()):
            raise ConfigurationError(f"{self!r} would follow itself; take task.s(…) anew for each call")

    def _all(self) -> Iterator[Signature[Any]]:
        yield self
        for each in self._then or ():
            yield from each._all()
        if self._otherwise is not None:
            yield from self._otherwise._all()

    def __repr__(self) -> str:
        inner = [repr(each) for each in self.args] + [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"<call {self.asked.task.name}({', '.join(inner)})>"


class Group:
    """Several calls, sent at once."""

    def __init__(self, members: Sequence[Signature[Any]]) -> None:
        self.members = members

    def delay(self) -> Coroutine[Any, Any, list[JobHandle[Any]]]:
        """Send all, in few statements."""
        if not self.members:
            return cast("Coroutine[Any, Any, list[JobHandle[Any]]]", _NoHandles())
        return sender_of(self.members).give(send_all(self.members))


class _NoHandles(list[JobHandle[Any]]):
    """What sending no calls gives. Without a call no interface is known: it is a list, and can be awaited for one."""

    def __await__(self) -> Generator[Any, Any, list[JobHandle[Any]]]:
        return self
        yield


@overload
def group(*calls: BlockingSignature[Any] | Iterable[BlockingSignature[Any]]) -> BlockingGroup: ...
@overload
def group(*calls: Signature[Any] | Iterable[Signature[Any]]) -> Group: ...
def group(*calls: Signature[Any] | Iterable[Signature[Any]]) -> Group:
    """Calls that are sent at once, by `delay` or after another one: `a.s() >> group(b.s(RESULT), c.s(RESULT))`."""
    return Group([call for each in calls for call in _members(each, "group()")])


@overload
def chain(*calls: BlockingSignature[Any], on_failure: Signature[Any] | None = None) -> BlockingSignature[Any]: ...
@overload
def chain(*calls: Signature[Any], on_failure: Signature[Any] | None = None) -> Signature[Any]: ...
def chain(*calls: Signature[Any], on_failure: Signature[Any] | None = None) -> Signature[Any]:
    """Calls that are sent one after another, each when the one before it has returned; `on_failure` when one has failed.

    The calls are copied: those that were given stay as they are.

        await chain(fetch.s(7), resize.s(RESULT, width=80), on_failure=tell.s(ERROR)).delay()
    """
    if not calls:
        raise ConfigurationError("chain() takes at least one call, such as task.s(1)")
    first, *rest = [_copied(each, last=each is calls[-1]) for each in calls]
    if isinstance(first, Group):
        raise ConfigurationError("chain() begins with a call; send a group by itself, or have a chord follow its calls")
    for each in rest:
        first.append(each)
    if on_failure is not None:
        first.fail_to(on_failure)
    return first


def _copied(given: object, *, last: bool) -> Signature[Any] | Group:
    if not isinstance(given, Group):
        [call] = _members(given, "chain()")
        return call.copy()
    if not last:
        raise ConfigurationError(
            "a group can only end a chain, since nothing follows all of its calls; what does is the callback of a chord: "
            "chord([…], callback)"
        )
    return Group([call.copy() for call in given.members])


async def send_all(calls: Sequence[Signature[Any]]) -> list[JobHandle[Any]]:
    """Send these calls of one App, in few statements."""
    handles: list[JobHandle[Any]] = await sender_of(calls).send([call.job() for call in calls])
    return [handle_of_line(handle, call.links()) for handle, call in zip(handles, calls, strict=True)]


def sender_of(calls: Sequence[Signature[Any]]) -> Any:
    """The App whose tasks these are. Raises ConfigurationError for those of several."""
    senders = {id(call.asked.task.sender): call.asked.task.sender for call in calls}
    if len(senders) > 1:
        raise ConfigurationError("calls of tasks of several Apps cannot be sent together")
    return next(iter(senders.values()))


def handle_of_line(handle: JobHandle[Any], links: int) -> JobHandle[Any]:
    """The handle of so many calls, one after another, of which this one is the first."""
    if links == 1:
        return handle
    ids = [handle.id]
    for _ in range(links - 1):
        ids.append(link_id(ids[-1]))
    return ChainHandle(handle.client, ids)


class ChainHandle(JobHandle[R]):
    """The jobs of a chain, from outside. It stands where the last of them that was sent does."""

    def __init__(self, client: TaskClient, ids: Sequence[JobId]) -> None:
        super().__init__(client, ids[-1])
        self.links = [JobHandle[Any](client, id) for id in ids]
        """The handles of all, in order. Those whose turn has not come are not there yet."""

    @property
    def line(self) -> Sequence[JobHandle[Any]]:
        """See `links`."""
        return self.links

    async def get(self, timeout: timedelta | float | None = None) -> R:
        """The result of the last. Raises what the first that fails would raise: TaskFailed, TaskCancelled; WaitTimeout."""
        clock = self.client.clock
        until = None if timeout is None else clock.now() + as_seconds(timeout)
        for link in self.links[:-1]:
            left = None if until is None else until - clock.now()
            if left is not None and left <= 0:
                raise WaitTimeout(f"the chain of job {self.links[0].id} has not ended in time")
            try:
                await link.get(left)
            except JobNotFound:
                # It has returned, and its result was not kept; the next one was sent with that.
                continue
        return await super().get(None if until is None else max(0.0, until - clock.now()))

    async def view(self) -> JobView:
        """All that is known of the last of them that was sent. Raises JobNotFound."""
        views = {view.id: view for view in await (await self.client.reach()).look([link.id for link in self.links])}
        for link in reversed(self.links):
            if link.id in views:
                return views[link.id]
        return await super().view()

    async def cancel(self) -> bool:
        """Ask for the end of the one whose turn it is; none follows then. False if all had ended before."""
        for link in self.links:
            if await link.cancel():
                return True
        return False

    async def retry(self) -> bool:
        """Queue the one again that stopped the chain; the others follow. Returns whether it is queued."""
        view = await self.view()
        return view.status is not JobStatus.DONE and await JobHandle[Any](self.client, view.id).retry()

    def __repr__(self) -> str:
        return f"<chain of {len(self.links)} jobs from {self.links[0].id}>"


def _members(given: object, where: str) -> Iterator[Signature[Any]]:
    if isinstance(given, Signature):
        yield cast("Signature[Any]", given)
    elif isinstance(given, Group) and where != "on_failure":
        yield from given.members
    elif isinstance(given, Iterable) and where == "group()":
        for each in cast("Iterable[object]", given):
            yield from _members(each, where)
    else:
        raise ConfigurationError(f"{where} takes calls to be sent, such as task.s(1), not {given!r}")
