"""Chords: calls that are sent at once, and one that is sent with all their results when the last of them has returned."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, TypeVar, cast

from holdfast.clock import as_seconds
from holdfast.errors import ConfigurationError, JobNotFound, UnsupportedError
from holdfast.ids import JobId, uuid7
from holdfast.model.job import Job, JobStatus, JobView
from holdfast.runtime.chords import CALLBACK_KEPT, MEMBERS_KEPT, Members, callback_jobs, join_links
from holdfast.runtime.following import link_id
from holdfast.runtime.messages import Chain, Link
from holdfast.tasks.client import CANCELLED_KEPT, JobHandle, TaskClient
from holdfast.tasks.signature import Group, Signature, group, handle_of_line, sender_of

R = TypeVar("R")


class Chord(Generic[R]):
    """Calls to be sent at once, and the one that follows them all."""

    def __init__(self, calls: Sequence[Signature[Any]], callback: Signature[R]) -> None:
        self.calls = calls
        self.callback = callback
        for each in calls:
            _check_member(each)

    def delay(self) -> Coroutine[Any, Any, ChordHandle[R]]:
        """Send the calls, in few statements. The handle is that of what follows them."""
        sender = sender_of([*self.calls, self.callback])
        return sender.give(self._send(sender))

    async def _send(self, sender: Any) -> ChordHandle[R]:
        if not sender.tasks.broker.home.traits.finds_jobs:
            raise UnsupportedError(
                "a chord looks at the results of its members, and nobody finds these jobs by their ids: keep them in "
                "a database or in Redis (tasks_url=), or call the tasks in a workflow"
            )
        lengths = [each.links() for each in self.calls]
        kept = max([_kept(each) for each in self.calls], default=0.0)
        members = Members(JobId(uuid7()), sender.now(), kept, lengths)
        callback = _remembered(self.callback.chain())
        jobs = [_member(each, members, number, callback) for number, each in enumerate(self.calls)]
        handles = await sender.send(jobs or callback_jobs(members, callback, list[Any], now=sender.now()))
        client: TaskClient = handles[0].client
        ends = [len(each.last().following()) for each in self.calls]
        return ChordHandle(client, members, ends, self.callback.links())


def _check_member(call: Signature[Any]) -> None:
    chosen = call.asked.chosen
    if chosen.id is not None or chosen.unique:
        raise ConfigurationError(f"id= and unique= cannot be given to a call of a chord ({call.asked.task.name})")
    if call.last().asked.chosen.acks == "early":
        raise ConfigurationError(f'nothing can follow {call.last()!r}: with acks="early" nobody knows how it ends')


def _kept(call: Signature[Any]) -> float:
    """For how many seconds a member's own result is to be kept."""
    asked = call.last().asked
    return asked.task.result_ttl if asked.chosen.result_ttl is None else asked.chosen.result_ttl


def _remembered(callback: Chain) -> Chain:
    """The callback, kept long enough to be told from one that was not sent."""
    first, *rest = callback
    message = first.message._replace(keep=max(first.message.keep or 0.0, CALLBACK_KEPT))
    return (first._replace(message=message), *rest)


def _member(call: Signature[Any], members: Members, number: int, callback: Chain) -> Job:
    """The job of a member, by whose end, or the end of the last of its line, the chord is looked at."""
    joined, failed = join_links(members, number, callback)
    then, otherwise = call.chains(), call.failure_chains()
    chosen = replace(call.asked.chosen, id=members.first(number))
    if members.lengths[number] == 1:
        chosen = replace(chosen, result_ttl=max(_kept(call), MEMBERS_KEPT))
        then = (*then, (joined,))
    else:
        [line] = then
        *between, last = [_failing(each, failed) for each in line]
        keep = max(last.message.keep or 0.0, MEMBERS_KEPT)
        message = last.message._replace(then=(*last.message.then, (joined,)), keep=keep)
        then = ((*between, last._replace(message=message)),)
    if failed is not None:
        otherwise = (*otherwise, (failed,))
    return call.asked.task.job(call.args, call.kwargs, chosen, then=then, otherwise=otherwise)


def _failing(link: Link, failed: Link | None) -> Link:
    if failed is None:
        return link
    return link._replace(message=link.message._replace(otherwise=(*link.message.otherwise, (failed,))))


class _Calls:
    """The calls of a chord that has no callback yet."""

    def __init__(self, calls: Sequence[Signature[Any]]) -> None:
        self._calls = calls

    def __call__(self, callback: Signature[R], *, on_failure: Signature[Any] | None = None) -> Chord[R]:
        """The chord with this callback."""
        return chord(self._calls, callback, on_failure=on_failure)


def chord(
    calls: Group | Iterable[Signature[Any]],
    callback: Signature[R] | None = None,
    *,
    on_failure: Signature[Any] | None = None,
) -> Any:
    """Calls to be sent at once, and `callback`, which is sent once when all have returned; RESULT in it is the list of results.

    Where one fails for good, `on_failure` (or that of the callback) is sent once, with the exception where ERROR stands; the
    callback still comes if what failed is replayed, and then returns. `chord(calls)(callback)` is the same.

        await chord([count.s(1), count.s(2)], add_up.s(RESULT), on_failure=tell.s(ERROR)).delay()
    """
    members = group(*calls.members) if isinstance(calls, Group) else group(calls)
    if callback is None:
        return _Calls(members.members)
    if not isinstance(cast("object", callback), Signature):
        raise ConfigurationError(
            f"the callback of a chord is a call to be sent, such as task.s(RESULT), not {callback!r}"
        )
    copied = callback.copy()
    if on_failure is not None:
        copied.fail_to(on_failure)
    return Chord([each.copy() for each in members.members], copied)


class ChordHandle(JobHandle[R]):
    """The jobs of a chord, from outside. It stands where the callback does, and before that where its members do."""

    def __init__(self, client: TaskClient, members: Members, ends: Sequence[int], links: int) -> None:
        self.callback: JobHandle[R] = handle_of_line(JobHandle(client, members.callback), links)
        """The handle of what follows; its job is not there before all members have returned."""
        super().__init__(client, self.callback.id)
        lines = enumerate(members.lengths)
        self.members = [handle_of_line(JobHandle[Any](client, members.first(n)), length) for n, length in lines]
        """The handles of the members, in order."""
        self._joins = [link_id(members.last(number), end) for number, end in enumerate(ends)]

    async def get(self, timeout: timedelta | float | None = None) -> R:
        """The result of the callback. Raises what the first member to fail raises: TaskFailed, TaskCancelled; or WaitTimeout."""
        clock = self.client.clock
        until = None if timeout is None else clock.now() + as_seconds(timeout)

        def left() -> float | None:
            return None if until is None else max(0.0, until - clock.now())

        await _all_ended(self.members, left())
        # The callback is sent by one of these: before they have ended, it may not be there.
        await _all_ended([JobHandle[Any](self.client, id) for id in self._joins], left())
        return await self.callback.get(left())

    async def view(self) -> JobView:
        """All that is known of the callback; before it is sent, of a member that failed, or else of one that has not ended."""
        try:
            return await self.callback.view()
        except JobNotFound:
            views = sorted(await self._views(), key=_rank)
            if not views:
                raise
            return views[0]

    async def cancel(self) -> bool:
        """Ask for the end of all members that have not ended, and of the callback. False if all had ended before."""
        now = self.client.clock.now()
        answer = await (await self.client.reach()).cancel(self._ids(), now=now, keep_until=now + CANCELLED_KEPT)
        return bool(answer.ended or answer.asked)

    async def retry(self) -> bool:
        """Queue those again that have failed; the callback follows the members. Returns whether any is queued."""
        return bool(await self.client.replay([view.id for view in await self._views() if _has_failed(view)]))

    async def _views(self) -> Sequence[JobView]:
        return await (await self.client.reach()).look(self._ids())

    def _ids(self) -> list[JobId]:
        """All its jobs, whether they are there or not."""
        return [link.id for handle in (*self.members, self.callback) for link in handle.line]

    def __repr__(self) -> str:
        return f"<chord of {len(self.members)} members before job {self.id}>"


async def _all_ended(handles: Sequence[JobHandle[Any]], timeout: float | None) -> None:
    """Wait for the ends of all. Raises what the first that fails raises; what is not kept has returned."""
    waiting = [asyncio.ensure_future(_ended(handle, timeout)) for handle in handles]
    try:
        await asyncio.gather(*waiting)
    finally:
        for each in waiting:
            each.cancel()


async def _ended(handle: JobHandle[Any], timeout: float | None) -> None:
    try:
        await handle.get(timeout)
    except JobNotFound:
        return


def _has_failed(view: JobView) -> bool:
    return view.status.ended and view.status is not JobStatus.DONE


def _rank(view: JobView) -> int:
    """Those that have failed come first, then those that have not ended."""
    return 0 if _has_failed(view) else 2 if view.status.ended else 1
