"""Counting: what one worker process did, in plain numbers. Knows no exporter, and decides nothing.

The event loop counts, without a lock; whoever reads may do so from any thread, and may find a number one behind another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Literal, NamedTuple

from holdfast.model.instance import Status
from holdfast.model.job import Again, Cancelled, ClaimedJob, Done, Failed, Outcome, Returned
from holdfast.task import ACTIONS

Labels = tuple[str, ...]
Series = dict[Labels, list[float]]
"""The numbers of one metric, by the values of its labels: one number, or those of a histogram's buckets and their sum."""
Numbers = dict[str, Series]
"""The series of each metric, by its name."""

SERIES_LIMIT = 1000
"""Series of one metric, at most: names of queues are the senders' to choose."""
OTHER = "(other)"
"""The labels of what comes beyond that."""
UNKNOWN = "(unknown)"
"""The task of jobs whose name no task here has."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)

Kind = Literal["counter", "gauge", "histogram"]
AttemptKind = Literal["job", "batch", "call"]


class Metric(NamedTuple):
    """What a number means."""

    kind: Kind
    words: str
    labels: Labels = ()
    buckets: tuple[float, ...] = ()
    """Of a histogram: the upper bounds, each included, but for the last one, which is infinite."""
    worst: bool = False
    """Of a gauge: over several processes the highest counts, not the sum."""


METRICS: Mapping[str, Metric] = {
    "holdfast_jobs_total": Metric(
        "counter",
        "Jobs that were settled. Outcome: done, retried, failed (for good), cancelled, or returned unbegun.",
        ("task", "queue", "outcome"),
    ),
    "holdfast_dead_letters_total": Metric(
        "counter",
        "Jobs that became dead letters. Reason: failed, expired, unknown, unreadable or lost.",
        ("task", "queue", "reason"),
    ),
    "holdfast_attempts_total": Metric(
        "counter",
        "Attempts that ended. Kind: job, batch of jobs, or call of a workflow. Outcome: returned, raised, timed_out or dropped.",
        ("task", "kind", "outcome"),
    ),
    "holdfast_attempt_duration_seconds": Metric(
        "histogram", "How long attempts took. Kind: job, batch or call.", ("task", "kind"), _SECONDS
    ),
    "holdfast_instances_ended_total": Metric(
        "counter",
        "Workflow instances that ended or were parked. Status: done, failed, cancelled or parked.",
        ("workflow", "status"),
    ),
    "holdfast_claims_total": Metric("counter", "Claims that were answered. Kind: job or instance.", ("kind",)),
    "holdfast_claimed_total": Metric(
        "counter", "Jobs and instances that were claimed. Kind: job or instance.", ("kind",)
    ),
    "holdfast_commit_size": Metric(
        "histogram",
        "How many jobs were settled, or steps of instances written, in one commit. Kind: job or instance.",
        ("kind",),
        _SIZES,
    ),
    "holdfast_commit_duration_seconds": Metric(
        "histogram", "How long commits took, with waits for the database. Kind: job or instance.", ("kind",), _SECONDS
    ),
    "holdfast_jobs_lost_total": Metric(
        "counter", "Outcomes of jobs that were dropped: others held these jobs by then."
    ),
    "holdfast_leases_lost_total": Metric("counter", "Leases that workers lost, and with them all they held."),
    "holdfast_jobs_held": Metric("gauge", "Jobs that workers hold, running or about to."),
    "holdfast_attempts_running": Metric("gauge", "Attempts that run: of jobs, and of calls of workflows."),
    "holdfast_attempts_waiting": Metric("gauge", "Attempts that wait in a worker for room."),
    "holdfast_room": Metric("gauge", "Attempts that can run at once, less what stuck threads take away."),
    "holdfast_threads_stuck": Metric("gauge", "Threads whose calls go on although their time is over."),
    "holdfast_instances_resident": Metric("gauge", "Workflow instances in the memory of workers."),
    "holdfast_heartbeat_age_seconds": Metric(
        "gauge", "For how long the longest unrenewed lease was not renewed.", worst=True
    ),
    "holdfast_event_loop_lag_seconds": Metric("gauge", "By how much the slowest event loop is late.", worst=True),
    "holdfast_processes": Metric("gauge", "Worker processes that are alive."),
    "holdfast_processes_ready": Metric("gauge", "Worker processes that take work."),
    "holdfast_queue_depth": Metric(
        "gauge",
        "Jobs in a queue, over all workers everywhere. State: waiting, delayed, running or dead.",
        ("queue", "state"),
        worst=True,
    ),
    "holdfast_process_restarts_total": Metric(
        "counter", "Worker processes that were replaced. Reason: died, recycled or reloaded.", ("reason",)
    ),
}
"""All that is measured, by name."""


class Tally:
    """Numbers that only grow, one for each combination of labels."""

    __slots__ = ("series",)

    def __init__(self) -> None:
        self.series: Series = {}

    def add(self, labels: Labels, number: float = 1) -> None:
        """Count so many more."""
        found = self.series.get(labels)
        if found is None:
            found = _begun(self.series, labels, 1)
        found[0] += number


class Spread:
    """How values are spread over buckets."""

    __slots__ = ("_buckets", "series")

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self.series: Series = {}
        self._buckets = buckets

    def add(self, labels: Labels, value: float) -> None:
        """Count one more, of that value."""
        found = self.series.get(labels)
        if found is None:
            found = _begun(self.series, labels, len(self._buckets) + 2)
        found[bisect_left(self._buckets, value)] += 1
        found[-1] += value


def _begun(series: Series, labels: Labels, length: int) -> list[float]:
    if len(series) >= SERIES_LIMIT:
        labels = (OTHER,) * len(labels)
    return series.setdefault(labels, [0] * length)


class Counts:
    """What a worker counts. Its methods are called once for each job, attempt, claim and commit, and only add."""

    def __init__(self) -> None:
        self._all: dict[str, Tally | Spread] = {}
        self.jobs = self._tally("holdfast_jobs_total")
        self.dead_letters = self._tally("holdfast_dead_letters_total")
        self.attempts = self._tally("holdfast_attempts_total")
        self.durations = self._spread("holdfast_attempt_duration_seconds")
        self.ended = self._tally("holdfast_instances_ended_total")
        self.claims = self._tally("holdfast_claims_total")
        self.claimed_of = self._tally("holdfast_claimed_total")
        self.sizes = self._spread("holdfast_commit_size")
        self.commits = self._spread("holdfast_commit_duration_seconds")
        self.jobs_lost = self._tally("holdfast_jobs_lost_total")
        self.leases_lost = self._tally("holdfast_leases_lost_total")
        # What should be nought is seen to be so.
        self.jobs_lost.add((), 0)
        self.leases_lost.add((), 0)

    def _tally(self, name: str) -> Tally:
        made = self._all[name] = Tally()
        return made

    def _spread(self, name: str) -> Spread:
        made = self._all[name] = Spread(METRICS[name].buckets)
        return made

    def concluded(self, job: ClaimedJob, outcome: Outcome) -> None:
        """What becomes of a job was decided."""
        name = job.name if job.name in ACTIONS else UNKNOWN
        self.jobs.add((name, job.queue, _OUTCOMES[type(outcome)]))
        if isinstance(outcome, Failed) and outcome.dead:
            self.dead_letters.add((name, job.queue, outcome.reason))

    def attempted(self, name: str, kind: AttemptKind, outcome: str, seconds: float) -> None:
        """An attempt that had begun has ended."""
        self.attempts.add((name, kind, outcome))
        self.durations.add((name, kind), seconds)

    def finished(self, workflow: str, status: Status) -> None:
        """An instance has ended, or was parked."""
        self.ended.add((workflow, status))

    def claimed(self, kind: Literal["job", "instance"], number: int) -> None:
        """A claim was answered with so many."""
        self.claims.add((kind,))
        self.claimed_of.add((kind,), number)

    def committed(self, kind: Literal["job", "instance"], number: int, seconds: float) -> None:
        """So many were written together."""
        self.sizes.add((kind,), number)
        self.commits.add((kind,), seconds)

    def numbers(self) -> Numbers:
        """A copy of all numbers so far."""
        return {
            name: {labels: list(values) for labels, values in list(counted.series.items())}
            for name, counted in self._all.items()
        }


_OUTCOMES: Mapping[type[Outcome], str] = {
    Done: "done",
    Again: "retried",
    Failed: "failed",
    Cancelled: "cancelled",
    Returned: "returned",
}


def only_counted(numbers: Numbers) -> Numbers:
    """Without gauges: what a process that has ended leaves behind."""
    return {name: series for name, series in numbers.items() if METRICS[name].kind != "gauge"}


def add_numbers(total: Numbers, more: Numbers) -> None:
    """Add to the numbers of some processes those of another one."""
    for name, series in more.items():
        metric = METRICS.get(name)
        if metric is None:
            # Told by a process of another release.
            continue
        into = total.setdefault(name, {})
        for labels, values in series.items():
            found = into.get(labels) or _begun(into, labels, len(values))
            for place, value in enumerate(values):
                found[place] = max(found[place], value) if metric.worst else found[place] + value
