"""Looking at jobs: those of given ids, and those that a filter wants. There are no indexes but of the dead letters:
other listings look at all jobs, in portions between which others have their turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from heapq import nlargest

from holdfast.backends.redis.line import Line
from holdfast.backends.redis.rows import as_view
from holdfast.ids import JobId
from holdfast.model.job import JobFilter, JobStatus, JobView

PORTION = 500
"""Jobs looked at in one call."""
COUNTED = 2000
"""Jobs of a kind that are counted one by one, at most: nothing else happens in the server meanwhile."""


async def look(line: Line, ids: Sequence[JobId], waiter: str | None = None) -> list[JobView]:
    """Those that exist, in the order of the ids; unfinished ones tell `waiter` when they end."""
    found: list[JobView] = []
    wanted = list(dict.fromkeys(ids))
    for at in range(0, len(wanted), PORTION):
        portion = wanted[at : at + PORTION]
        rows = zip(portion, *await line.run("look", waiter or "", *portion), strict=True)
        found += [as_view(id, *row) for id, *row in rows if row[0] is not None]
    return found


async def find(line: Line, key: str, filter: JobFilter) -> list[JobView]:
    """Those that the filter wants, newest first."""
    wanted = _wanted(filter)
    if filter.ids:
        return sorted(chosen(await look(line, filter.ids), wanted), key=_age, reverse=True)[: filter.limit]
    if filter.status is JobStatus.DEAD:
        return await _dead(line, key, filter, wanted)
    heads = [(view.created_at, view.id) async for view in _all(line) if wanted(view)]
    newest = [JobId(id) for _, id in nlargest(filter.limit, heads)]
    # What has changed meanwhile is not shown as what it was.
    return [view for view in await look(line, newest) if wanted(view)]


async def count(line: Line, filter: JobFilter) -> int:
    """How many the filter wants."""
    simple = filter.name is None and not (filter.reason or filter.ids or filter.before)
    if simple and filter.status is JobStatus.QUEUED:
        return await line.run("count", "queued", filter.queue or "")
    if simple and filter.queue is None and filter.status in (None, JobStatus.RUNNING, JobStatus.DEAD):
        return await line.run("count", filter.status.value if filter.status else "all", "")
    wanted = _wanted(filter)
    if filter.ids:
        return len(chosen(await look(line, filter.ids), wanted))
    return len({view.id async for view in _all(line) if wanted(view)})


def chosen(views: Sequence[JobView], wanted: Callable[[JobView], bool]) -> list[JobView]:
    return [view for view in views if wanted(view)]


async def _dead(line: Line, key: str, filter: JobFilter, wanted: Callable[[JobView], bool]) -> list[JobView]:
    """Dead letters, by their index."""
    found: list[JobView] = []
    at = await _after(line, f"{key}:dead", filter.before)
    while len(found) < filter.limit:
        portion = [JobId(id.decode()) for id in await line.ask("ZREVRANGE", f"{key}:dead", at, at + PORTION - 1)]
        found += chosen(await look(line, portion), wanted)
        if len(portion) < PORTION:
            break
        at += PORTION
    return found[: filter.limit]


async def _after(line: Line, index: str, before: tuple[float, str] | None) -> int:
    """Where a listing goes on that has come to `before`."""
    if before is None:
        return 0
    rank = await line.ask("ZREVRANK", index, before[1])
    return rank + 1 if rank is not None else await line.ask("ZCOUNT", index, f"({before[0]!r}", "+inf")


async def _all(line: Line) -> AsyncIterator[JobView]:
    """All jobs, without their messages and outcomes. One that moves meanwhile may come twice."""
    at = b"0"
    while True:
        at, ids, heads, held, ended = await line.run("scan", at, PORTION)
        for id, head, holder, end in zip(ids, heads, held, ended, strict=True):
            yield as_view(id.decode(), head, None, holder, end)
        if at == b"0":
            return


def _wanted(filter: JobFilter) -> Callable[[JobView], bool]:
    def wanted(view: JobView) -> bool:
        return (
            filter.wants_name(view.name)
            and (filter.queue is None or view.queue == filter.queue)
            and (filter.status is None or view.status is filter.status)
            and (filter.reason is None or view.reason == filter.reason)
            and (filter.before is None or _age(view) < filter.before)
        )

    return wanted


def _age(view: JobView) -> tuple[float, str]:
    return view.created_at, view.id
