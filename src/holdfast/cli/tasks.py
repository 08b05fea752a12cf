"""`holdfast tasks …` and `holdfast dlq …`: list, show and cancel jobs; read, replay, purge and export dead letters."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from holdfast.app import App
from holdfast.cli.common import Group, jobs_app, json_option, run
from holdfast.cli.tables import listing, room, show, show_json
from holdfast.ids import JobId
from holdfast.model.job import JobFilter, JobStatus, JobView, Reason
from holdfast.observe.jobs import job_facts, why
from holdfast.observe.moments import iso, relative, to_the_second
from holdfast.tasks import JobHandle, pause_queues, paused_queues, resume_queues
from holdfast.tasks.acting import act_on_dead, cancel_jobs


@click.group(cls=Group)
def tasks() -> None:
    """Look at jobs, the calls of tasks, and act on them."""


@click.group(cls=Group)
def dlq() -> None:
    """The dead letters: jobs that failed for good, kept until they are replayed or purged."""


# --- jobs


@tasks.command("list")
@jobs_app
@json_option
@click.option("--name", help="Only those of this task; its function alone will do.")
@click.option("--queue", help="Only those of this queue.")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]))
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
def list_(
    app: App,
    as_json: bool,
    name: str | None,
    queue: str | None,
    status: str | None,
    limit: int,
) -> None:
    """List jobs, newest first."""
    filter = JobFilter(name=name, queue=queue, status=JobStatus(status) if status else None, limit=limit)
    _list(app, run(app, lambda app: app.tasks.broker.find(filter)), as_json=as_json)


@tasks.command("show")
@click.argument("id")
@jobs_app
@json_option
def show_job(id: str, app: App, as_json: bool) -> None:
    """Show a job: its arguments, where it stands, its result or its last error."""
    _show(app, id, as_json=as_json)


@tasks.command("cancel")
@click.argument("ids", nargs=-1, required=True)
@jobs_app
@json_option
def cancel(ids: tuple[str, ...], app: App, as_json: bool) -> None:
    """Ask jobs to end: at once where they wait, by a CancelledError where they run."""

    async def cancelled(app: App) -> dict[str, str]:
        return await cancel_jobs(app.tasks, _ids(ids))

    _say(run(app, cancelled), ("asked to end", "cancelled"), as_json=as_json)


# --- queues


@tasks.command("pause")
@click.argument("queues", nargs=-1, required=True)
@jobs_app
@json_option
def pause(queues: tuple[str, ...], app: App, as_json: bool) -> None:
    """Let no worker take jobs of these queues until they are resumed. What runs goes on."""

    async def paused(app: App) -> dict[str, str]:
        before = await paused_queues(app)
        await pause_queues(app, *queues)
        return {queue: "was paused already" if queue in before else "paused" for queue in queues}

    _say(run(app, paused), ("paused", "was paused already"), as_json=as_json)


@tasks.command("resume")
@click.argument("queues", nargs=-1, required=True)
@jobs_app
@json_option
def resume(queues: tuple[str, ...], app: App, as_json: bool) -> None:
    """Let workers take jobs of these queues again."""

    async def resumed(app: App) -> dict[str, str]:
        before = await paused_queues(app)
        await resume_queues(app, *queues)
        return {queue: "resumed" if queue in before else "was not paused" for queue in queues}

    _say(run(app, resumed), ("resumed", "was not paused"), as_json=as_json)


@tasks.command("paused")
@jobs_app
@json_option
def paused(app: App, as_json: bool) -> None:
    """List the queues that are paused, and how many jobs wait in each."""

    async def found(app: App) -> list[dict[str, Any]]:
        return [
            {
                "queue": queue,
                "since": iso(since),
                "waiting": await app.tasks.broker.count(JobFilter(queue=queue, status=JobStatus.QUEUED)),
            }
            for queue, since in (await paused_queues(app)).items()
        ]

    rows = run(app, found)
    if as_json:
        show_json(rows)
    else:
        show(rows)


# --- dead letters


def dead_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what chooses among dead letters."""
    for option in (
        click.option(
            "--reason", type=click.Choice([reason.value for reason in Reason]), help="Only those dead for it."
        ),
        click.option("--queue", help="Only those of this queue."),
        click.option("--name", help="Only those of this task; its function alone will do."),
    ):
        command = option(command)
    return jobs_app(json_option(command))


def acting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds how dead letters are named or chosen, and has one of these ways be given."""

    @functools.wraps(command)
    def chosen(
        *,
        ids: tuple[str, ...],
        every: bool,
        name: str | None,
        queue: str | None,
        reason: str | None,
        **given: Any,
    ) -> Any:
        filtered = not (name is None and queue is None and reason is None)
        if not (ids or every or filtered):
            raise click.UsageError(
                "which dead letters? Name them by their ids, choose them by --name, --queue or --reason, or say --all."
            )
        if ids and (every or filtered):
            raise click.UsageError(
                "ids name dead letters by themselves; --name, --queue, --reason and --all choose others."
            )
        return command(ids=_ids(ids), wanted=_wanted(name, queue, reason), **given)

    everything = click.option("--all", "every", is_flag=True, help="All that there are.")
    return click.argument("ids", nargs=-1)(dead_options(everything(chosen)))


def _ids(ids: tuple[str, ...]) -> list[JobId]:
    return [JobId(id) for id in ids]


def _wanted(name: str | None, queue: str | None, reason: str | None) -> dict[str, Any]:
    return {"name": name, "queue": queue, "reason": Reason(reason) if reason else None}


@dlq.command("list")
@dead_options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
def list_dead(app: App, as_json: bool, limit: int, **chosen: str | None) -> None:
    """List dead letters, newest first."""
    _list(app, run(app, lambda app: app.tasks.dead(limit=limit, **_wanted(**chosen))), as_json=as_json)


dlq.add_command(
    click.Command("read", callback=list_dead.callback, params=list_dead.params, help="As `list`.", hidden=True)
)


@dlq.command("show")
@click.argument("id")
@jobs_app
@json_option
def show_dead(id: str, app: App, as_json: bool) -> None:
    """Show a dead letter: its arguments, why it died, and the traceback."""
    _show(app, id, as_json=as_json)


@dlq.command("replay")
@acting_options
def replay(ids: list[JobId], app: App, as_json: bool, wanted: dict[str, Any]) -> None:
    """Queue dead letters again: those named, or those that the options choose."""
    done, found = run(app, lambda app: act_on_dead(app.tasks, app.tasks.replay, ids, **wanted))
    _tell(done, found, ids, "replayed", as_json=as_json)


@dlq.command("purge")
@acting_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(ids: list[JobId], app: App, as_json: bool, yes: bool, wanted: dict[str, Any]) -> None:
    """Remove dead letters for ever: those named, or those that the options choose. `export` keeps a copy."""
    if not ids and not yes:
        click.confirm("Remove all dead letters that these options choose?", abort=True)
    done, found = run(app, lambda app: act_on_dead(app.tasks, app.tasks.purge, ids, **wanted))
    _tell(done, found, ids, "purged", as_json=as_json)


@dlq.command("export")
@dead_options
def export(app: App, as_json: bool, **chosen: str | None) -> None:
    """Print dead letters as JSON, one a line, with their payloads."""

    async def found(app: App) -> list[JobView]:
        return await app.tasks.all_dead(**_wanted(**chosen))

    for view in run(app, found):
        click.echo(json.dumps(job_facts(view)))


def _tell(done: int, found: int, ids: Sequence[JobId], verb: str, *, as_json: bool) -> None:
    if as_json:
        show_json({verb: done, "found": found})
    else:
        left = "" if done == found else f"; {found - done} stay, because a job with their unique text is there"
        missing = f"; {len(set(ids)) - found} are not among the dead letters" if found < len(set(ids)) else ""
        click.echo(f"{done} {verb}{left}{missing}")
    if done < max(found, len(set(ids))):
        raise SystemExit(1)


# --- showing


def _list(app: App, views: Sequence[JobView], *, as_json: bool) -> None:
    if as_json:
        show_json([job_facts(view) for view in views])
        return
    now, fitted = app.clock.now(), room() is not None

    def moment(at: float) -> str:
        return relative(at, now) if fitted else to_the_second(at)

    listing(
        [
            {
                "id": view.id,
                "task": view.name.rpartition(":")[2] if fitted else view.name,
                "status": view.status.value,
                "attempt": view.attempt,
                "created": moment(view.created_at),
                "due": moment(view.due_at) if view.status is JobStatus.QUEUED else None,
                "why": why(view),
            }
            for view in views
        ],
        columns=["id", "task", "status", "attempt", "created", "due"],
        cut=["task"],
        spare=["due", "attempt"],
        note="why",
    )


def _show(app: App, id: str, *, as_json: bool) -> None:
    async def found(app: App) -> JobView:
        return await JobHandle[Any](app.tasks, id).view()

    view = run(app, found)
    row = job_facts(view)
    if as_json:
        show_json(row)
        return
    # Its lines are read and copied as they are: whatever the width, none is cut.
    trace = row.pop("traceback")
    show([{"name": name, "value": value} for name, value in row.items() if value not in (None, "")], headed=False)
    if trace:
        click.echo(f"\n{trace.rstrip()}")


def _say(said: dict[str, str], well: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        show_json([{"id": id, "outcome": words} for id, words in said.items()])
    else:
        for id, words in said.items():
            click.echo(f"{id}: {words}")
    if any(words not in well for words in said.values()):
        raise SystemExit(1)
