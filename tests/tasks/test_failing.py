"""What a worker's log says of jobs that failed: a line for each failure, and nothing of what went well."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from holdfast import App, BackoffPolicy
from holdfast.testing import drain


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    """Level, phrase and fields of each line about jobs."""
    return [
        (record.levelname, phrase, record.__dict__["holdfast_fields"])
        for record in caplog.records
        if (phrase := record.__dict__.get("holdfast_phrase")) in ("attempt failed", "job failed")
    ]


async def test_an_attempt_that_failed_and_a_job_that_is_dead_are_a_line_each(
    app: App, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)

    @app.task(retries=1, backoff=BackoffPolicy(base_delay=90, jitter=0))
    async def fail() -> None:
        raise ValueError("over\ntwo lines")

    @app.task
    async def fine() -> None: ...

    job = await fail.delay()
    await fine.delay()
    await drain(app)
    first, second = told(caplog)
    again = {"task": fail.name, "job": job.id, "attempt": 1, "error": "ValueError: over two lines", "again_in": 90.0}
    assert first == ("WARNING", "attempt failed", again)
    trace = second[2].pop("exception")
    dead = {**again, "attempt": 2, "reason": "failed", "dead_letter": True}
    del dead["again_in"]
    assert second == ("ERROR", "job failed", dead)
    assert 'raise ValueError("over' in trace
    assert trace in caplog.text


async def test_what_never_ran_is_told_with_its_reason_and_without_a_traceback(
    app: App, caplog: pytest.LogCaptureFixture
):
    @app.task
    async def fine() -> None: ...

    job = fine.job((), {}, fine.jobs)
    await app.send([job._replace(name="nowhere:to_be_found")])
    await drain(app)
    [(level, _, fields)] = told(caplog)
    assert (level, fields["reason"], fields["task"]) == ("ERROR", "unknown", "nowhere:to_be_found")
    assert "import its module" in fields["error"]
    assert not fields.get("exception")


async def test_a_failure_that_is_kept_nowhere_is_told_so(app: App, caplog: pytest.LogCaptureFixture):
    @app.task(retries=0, dead_letter=False)
    async def fail() -> None:
        raise KeyError("gone")

    await fail.delay()
    await drain(app)
    [(_, _, fields)] = told(caplog)
    assert (fields["error"], fields["dead_letter"]) == ("KeyError: 'gone'", False)


async def test_each_job_of_a_batch_is_told_by_itself(app: App, caplog: pytest.LogCaptureFixture):
    @app.batch_task(size=3, within=1, retries=0)
    async def halve(numbers: list[int]) -> list[Any]:
        return [number // 2 if number % 2 == 0 else ValueError(f"{number} is odd") for number in numbers]

    jobs = await halve.map([1, 2, 3])
    await drain(app)
    assert [(fields["job"], fields["error"]) for _, _, fields in told(caplog)] == [
        (jobs[0].id, "ValueError: 1 is odd"),
        (jobs[2].id, "ValueError: 3 is odd"),
    ]
