"""Plain numbers, added up over processes, and shown as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from holdfast import App, Retry
from holdfast.errors import ConfigurationError
from holdfast.ids import JobId
from holdfast.model.job import ClaimedJob, Done, Failed, Reason
from holdfast.observe import metrics
from holdfast.observe.metrics import Exposition
from holdfast.runtime import counting
from holdfast.runtime.counting import OTHER, SERIES_LIMIT, UNKNOWN, Counts, Numbers, add_numbers, only_counted


def shown(numbers: Numbers) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, kind = Exposition(lambda: numbers).answer("text/plain")
    assert kind.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def claimed(name: str, queue: str = "default") -> ClaimedJob:
    return ClaimedJob(JobId("j"), name, b"", queue, 1, 1)


def test_a_histogram_has_what_is_at_most_each_bound():
    counts = Counts()
    for seconds in (0.0005, 0.001, 0.002, 400.0):
        counts.attempted("a", "job", "returned", seconds)
    found = shown(counts.numbers())
    labels = (("kind", "job"), ("task", "a"))

    def bucket(bound: str) -> float:
        return found["holdfast_attempt_duration_seconds_bucket", (labels[0], ("le", bound), labels[1])]

    assert [bucket(bound) for bound in ("0.001", "0.0025", "300.0", "+Inf")] == [2, 3, 3, 4]
    assert found["holdfast_attempt_duration_seconds_count", labels] == 4
    assert found["holdfast_attempt_duration_seconds_sum", labels] == pytest.approx(400.0035)


def test_names_that_only_senders_know_make_no_series_of_their_own():
    counts = Counts()
    for number in range(3 * SERIES_LIMIT):
        counts.concluded(claimed(f"no-such-task-{number}"), Failed(Reason.UNKNOWN, b"", 0.0))
        counts.concluded(claimed("x", queue=f"queue-{number}"), Done(b"", 0.0))
    numbers = counts.numbers()
    assert numbers["holdfast_dead_letters_total"] == {(UNKNOWN, "default", "unknown"): [3 * SERIES_LIMIT]}
    jobs = numbers["holdfast_jobs_total"]
    assert len(jobs) == SERIES_LIMIT + 1
    assert sum(values[0] for values in jobs.values()) == 6 * SERIES_LIMIT
    assert jobs[(OTHER,) * 3][0] > SERIES_LIMIT


def test_numbers_of_processes_add_up_and_of_some_the_worst_counts():
    total: Numbers = {}
    one, other = Counts(), Counts()
    one.claimed("job", 3)
    other.claimed("job", 4)
    for counts, lag in ((one, 0.5), (other, 0.25)):
        told = counts.numbers() | {"holdfast_event_loop_lag_seconds": {(): [lag]}, "holdfast_jobs_held": {(): [1]}}
        add_numbers(total, told)
    assert total["holdfast_claimed_total"] == {("job",): [7]}
    assert total["holdfast_event_loop_lag_seconds"] == {(): [0.5]}
    assert total["holdfast_jobs_held"] == {(): [2]}
    assert "holdfast_jobs_held" not in only_counted(total)
    assert one.numbers()["holdfast_claimed_total"] == {("job",): [3]}
    add_numbers(total, {"holdfast_of_another_release": {(): [1]}})
    assert "holdfast_of_another_release" not in total


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(metrics.importlib, "import_module", missing)
    with pytest.raises(ConfigurationError, match=r"pip install 'holdfast\[metrics\]'"):
        Exposition(dict)


async def test_where_no_port_is_set_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("this counts")

    for name in ("_tally", "_spread", "concluded", "attempted", "claimed", "committed", "finished"):
        monkeypatch.setattr(counting.Counts, name, refuse)
    app = App("test", url=f"sqlite:///{tmp_path}/store.db")

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async with app:
        worker = app.start_worker()
        assert await (await double.delay(4)).get() == 8
        assert worker.counts is None


async def test_counting_adds_no_statement(postgres_url: str):
    """A job at a time and no polling: as many statements with metrics as without."""
    spent: list[int] = []
    for port in (None, 9100):
        app = App("test", url=postgres_url, metrics_port=port, lease_seconds=3600)

        @app.task(name="again", retries=1)
        async def again(n: int) -> int:
            return n

        async with app:
            await app.start_worker().ready.wait()
            await (await again.delay(0)).get()
            before = app.store.statements  # type: ignore[attr-defined]
            for n in range(20):
                await (await again.delay(n)).get()
            spent.append(app.store.statements - before)  # type: ignore[attr-defined]
    # Whether a claim meets the next job or comes before it is chance.
    assert spent[1] <= spent[0] * 1.25, spent


async def test_what_a_worker_does_is_counted_by_outcome(tmp_path: Path):
    app = App("test", url=f"sqlite:///{tmp_path}/store.db", metrics_port=9100, default_retries=0)
    tries: list[int] = []

    @app.task(name="shaky", retries=3)
    async def shaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise Retry(delay=0)

    @app.task(name="broken")
    async def broken() -> None:
        raise ValueError("no")

    @app.batch_task(name="pairs", size=2, within=30)
    async def pairs(items: list[int]) -> None: ...

    async with app:
        worker = app.start_worker()
        for job in await pairs.delay_many([1, 2]):
            await job.get()
        await (await shaky.delay()).get()
        with pytest.raises(Exception, match="no"):
            await (await broken.delay()).get()
        assert worker.counts is not None
        numbers = worker.counts.numbers()
    assert numbers["holdfast_jobs_total"] == {
        ("shaky", "default", "retried"): [1],
        ("shaky", "default", "done"): [1],
        ("broken", "default", "failed"): [1],
        ("pairs", "default", "done"): [2],
    }
    assert numbers["holdfast_dead_letters_total"] == {("broken", "default", "failed"): [1]}
    assert numbers["holdfast_attempts_total"] == {
        ("shaky", "job", "raised"): [1],
        ("shaky", "job", "returned"): [1],
        ("broken", "job", "raised"): [1],
        ("pairs", "batch", "returned"): [1],
    }
    assert numbers["holdfast_commit_size"]["job",][-1] == 5
