"""Pages of jobs: a listing, one job, and what can be done to it."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from holdfast.codec import describe, loads
from holdfast.ids import JobId
from holdfast.model.job import JobFilter, JobStatus, JobView
from holdfast.observe.jobs import call_of, follows, job_facts, why
from holdfast.tasks import JobHandle
from holdfast.tasks.acting import cancel_jobs
from holdfast.web.events import job_version
from holdfast.web.paging import PAGE, cut, read_place
from holdfast.web.site import Site, first


async def listed(site: Site, request: Request) -> Response:
    """Jobs, newest first, those that the filters choose."""
    query = request.query_params
    status = query.get("status") or None
    if status is not None and status not in set(JobStatus):
        raise HTTPException(400, f"{status!r} is no status of a job.")
    chosen = {"status": status, "queue": query.get("queue") or None, "name": query.get("name") or None}
    filter = JobFilter(
        status=JobStatus(status) if status else None,
        queue=chosen["queue"],
        name=chosen["name"],
        limit=PAGE + 1,
        before=read_place(query.get("before")),
    )
    app = await site.app()
    views, after = cut(await app.tasks.broker.find(filter))
    facts = {"jobs": [job_facts(view) for view in views], "next": after}
    return site.page(
        request, "tasks.html", facts=facts, views=views, why=why, after=after, chosen=chosen, statuses=site.statuses
    )


async def show(site: Site, request: Request) -> Response:
    """One job with all that is known of it."""
    id = request.query_params.get("id", "")
    app = await site.app()
    view = await JobHandle(app.tasks, id).view()
    return site.page(
        request,
        "task.html",
        facts=job_facts(view),
        view=view,
        job=job_facts(view),
        call=call_of(view),
        result=describe(loads(view.outcome)) if view.status is JobStatus.DONE and view.outcome else None,
        follows=list(follows(view.payload)),
        version=await job_version(site, id) if site.traits.finds_jobs and not view.status.ended else None,
        cancels=site.traits.finds_jobs and not view.status.ended,
        again=_can_be_sent_again(site, view),
    )


def _can_be_sent_again(site: Site, view: JobView) -> bool:
    return view.status.ended and (site.traits.lists_all or view.status is JobStatus.DEAD)


async def cancel(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Ask jobs to end."""
    said = await cancel_jobs((await site.app()).tasks, [JobId(id) for id in form.get("id", [])])
    return site.done(request, form, said, well=set(said.values()) <= {"cancelled", "asked to end"})


async def retry(site: Site, request: Request, form: dict[str, list[str]]) -> Response:
    """Queue a job again that has ended."""
    id = first(form, "id")
    queued = await JobHandle((await site.app()).tasks, id).retry()
    words = "queued again" if queued else "not queued: it has not ended, or a job with its unique text is there"
    return site.done(request, form, {id: words}, well=queued)
