"""Pages of dead letters: a listing, replay and purge of some or of all that a filter chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from holdfast.ids import JobId
from holdfast.model.job import JobFilter, JobStatus, Reason
from holdfast.observe.jobs import job_facts, why
from holdfast.tasks.acting import act_on_dead
from holdfast.web.paging import PAGE, cut, read_place
from holdfast.web.site import Site, first, is_script


async def listed(site: Site, request: Request) -> Response:
    """Dead letters, newest first, those that the filters choose."""
    query = request.query_params
    chosen = _chosen(query.get("name", ""), query.get("queue", ""), query.get("reason", ""))
    app = await site.app()
    filter = JobFilter(status=JobStatus.DEAD, **chosen, limit=PAGE + 1, before=read_place(query.get("before")))
    views, after = cut(await app.tasks.broker.find(filter))
    facts = {"dead_letters": [job_facts(view) for view in views], "next": after}
    return site.page(
        request, "dead.html", facts=facts, views=views, why=why, after=after, chosen=chosen, reasons=list(Reason)
    )


async def replay(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Queue dead letters again, as they were sent."""
    ids, chosen = _which(form)
    client = (await site.app()).tasks
    done, found = await act_on_dead(client, client.replay, ids, **chosen)
    return site.done(request, form, {"": _words("replayed", done, found, len(ids))}, well=done == max(found, len(ids)))


async def purge(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Remove dead letters for ever; asks first."""
    ids, chosen = _which(form)
    client = (await site.app()).tasks
    sure = first(form, "sure") == "yes"
    if is_script(request):
        if not sure:
            raise HTTPException(400, "Dead letters are removed for ever: say sure=yes.")
    elif not (sure and ids):
        count = len(ids) or await client.broker.count(JobFilter(status=JobStatus.DEAD, **chosen))
        told = first(form, "count")
        # More may have died since the question was asked: then it is asked again.
        if not (sure and told.isdigit() and len(told) < 10 and count <= int(told)):
            back = first(form, "back")
            return site.page(request, "purge.html", ids=ids, chosen=chosen, count=count, all=not ids, back=back)
    done, found = await act_on_dead(client, client.purge, ids, **chosen)
    return site.done(request, form, {"": _words("purged", done, found, len(ids))}, well=done == max(found, len(ids)))


def _which(form: Mapping[str, list[str]]) -> tuple[list[JobId], dict[str, Any]]:
    """The ids that are meant, or else the filter. Raises HTTPException where a form means neither."""
    chosen = _chosen(first(form, "name"), first(form, "queue"), first(form, "reason"))
    ids = [JobId(id) for id in dict.fromkeys(form.get("id", []))]
    if first(form, "all") == "yes":
        return [], chosen
    if not ids:
        raise HTTPException(400, "Nothing was chosen: mark some dead letters first.")
    return ids, chosen


def _chosen(name: str, queue: str, reason: str) -> dict[str, Any]:
    if reason and reason not in set(Reason):
        raise HTTPException(400, f"{reason!r} is no reason of a death.")
    return {"name": name or None, "queue": queue or None, "reason": Reason(reason) if reason else None}


def _words(verb: str, done: int, found: int, named: int) -> str:
    missing = f"; {named - found} are not among the dead letters" if found < named else ""
    left = f"; {found - done} stay, because a job with their unique text is there" if done < found else ""
    return f"{done} {verb}{left}{missing}"
