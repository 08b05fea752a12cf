"""The `Broker` port on PostgreSQL, beside the store in one database and over its connections."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from operator import itemgetter
from typing import Any

from holdfast.backends.callers import POSTGRES, execute
from holdfast.backends.gates import next_moment, openings, rule_of
from holdfast.backends.jobs import (
    Kept,
    as_cancelled,
    as_claimed_job,
    as_depths,
    as_job_view,
    by_urgency,
    job_filter_parts,
    kept,
)
from holdfast.backends.postgres.bundles import Bundled, bundled_jobs, is_plain, place_of, tickets_of, unpacking
from holdfast.backends.postgres.gates import admit, let_through, lock
from holdfast.backends.postgres.line import AlreadyThere, Line, Transaction
from holdfast.backends.postgres.statements import TEXTS, Statement, chosen, compiled
from holdfast.backends.shared import SHARD, Row, split_waiters
from holdfast.errors import LeaseLost, StoreError, StoreUnavailable
from holdfast.ids import JobId, WorkerId
from holdfast.model.job import (
    CancelledJobs,
    ClaimedJob,
    ClaimedJobs,
    Job,
    JobFilter,
    JobView,
    QueueDepth,
    SettledJobs,
    Settlement,
)
from holdfast.ports import JOB_CHANNEL, Store

REPLAY_TRIES = 5

MOST_UNSURE = 100_000
"""So many ids are remembered of jobs that may have been sent."""

SEEK_TRIES = 5
"""How often a job is sought that moves from row to bundle or back meanwhile."""


class PostgresBroker:
    """Jobs in a PostgreSQL database. Opens and closes nothing: its connections are the store's."""

    def __init__(
        self, store: Store, *, writer: Callable[[], Line], reader: Callable[[], Line], schema: str | None = None
    ) -> None:
        self._store = store
        self._schema = schema
        self._writer = writer
        self._reader = reader
        self._doubtful: dict[WorkerId, list[int]] = defaultdict(list)
        """Tickets of claims whose answers may have got lost."""
        self._unsure: dict[JobId, None] = {}
        """Plain jobs that may have been sent, though it was said that they were not; the oldest first."""
        self._written: dict[WorkerId, dict[tuple[JobId, int], Sequence[tuple[str, JobId]]]] = {}
        """Of settlements that failed half-way: what was settled nonetheless, by job and claim, and who is to be told."""

    @property
    def home(self) -> Store:
        return self._store

    # --- clients

    async def send(self, jobs: Sequence[Job]) -> Sequence[JobId]:
        if not jobs:
            return []
        ordered = _in_order(jobs)
        first = not any(job.id in self._unsure for job in ordered)
        try:
            new = await self._send(ordered, first=first)
        except BaseException:
            # It may have happened: whoever repeats the call must find those that a worker has in a bundle by then.
            self._unsure |= {job.id: None for job in ordered if is_plain(job)}
            for id in list(self._unsure)[:-MOST_UNSURE]:
                del self._unsure[id]
            raise
        return list(dict.fromkeys(job.id for job in jobs if job.id in new))

    async def _send(self, ordered: Sequence[Job], *, first: bool) -> set[JobId]:
        """Send them, in their order; `first`: none was sent before, so that none is in a bundle. Return which are new."""
        if _are_alike(ordered):
            values = {"channel": JOB_CHANNEL, **_common(ordered)}
            if first:
                # Where one is there it was sent by whoever gave it its id, or by this very call whose answer was lost.
                with suppress(AlreadyThere, StoreUnavailable):
                    await self._writer().fetch_once("send_new", **values)
                    return {job.id for job in ordered}
            [row] = await self._writer().fetch("send_alike", **values)
        else:
            values = {"channel": JOB_CHANNEL, **_columns(ordered)}
            rows: Sequence[Row] = []
            if first:
                with suppress(StoreUnavailable):
                    rows = await self._writer().fetch_once("send", first=True, **values)
            [row] = rows or await self._writer().fetch("send", first=False, **values)
        return set(row["ids"] or ())

    async def send_through(self, connection: Any, jobs: Sequence[Job]) -> None:
        text = TEXTS["send"].replace(":shard", f"{SHARD}::int")
        if self._schema is not None:
            # The caller's search path is the caller's.
            text = text.replace("holdfast_", f"{self._schema}.holdfast_")
        values = {"channel": JOB_CHANNEL, "first": True, **_columns(_in_order(jobs))}
        await execute(connection, POSTGRES, text, values)

    async def holders(self, unique: Sequence[str]) -> Mapping[str, JobId]:
        rows = await self._reader().fetch("job_holders", uniques=list(unique))
        return {row["unique_key"]: JobId(row["id"]) for row in rows}

    async def look(self, ids: Sequence[JobId], *, waiter: str | None = None) -> Sequence[JobView]:
        if waiter is None or not self._store.traits.notifies:
            return [as_job_view(row) for row in await self._look(ids)]
        # First ask to be told, then look: an ending in between is seen, or told.
        asking: Sequence[str] = ids
        rows: Sequence[Row] = []
        for _ in range(SEEK_TRIES):
            await self._await(asking, waiter)
            rows = await self._look(ids)
            asking = [
                row["id"] for row in rows if row["status"] == "queued" and waiter not in split_waiters(row["waiter"])
            ]
            if not asking:
                break
            # In a bundle it has no row that could say who waits; or it has got one since.
            await self._unpack([row["id"] for row in rows if row["bundled"]])
        return [as_job_view(row) for row in rows]

    async def _await(self, ids: Sequence[str], waiter: str) -> None:
        rows = await self._reader().fetch("await_job", ids=sorted(set(ids)), waiter=waiter)
        if any(row["passed_over"] for row in rows):
            await self._store.notify({JOB_CHANNEL: ""})

    async def _look(self, ids: Sequence[str]) -> Sequence[Row]:
        return await self._reader().fetch("look_at_jobs", ids=list(ids))

    async def _unpack(
        self, ids: Sequence[str], *, worker: WorkerId | None = None, tickets: Collection[int] | None = None
    ) -> None:
        """Make those of these jobs that lie in bundles rows of their own, held as before.

        `worker`: only of those that it holds; `tickets`: only of these bundles of its.
        """
        statement = unpacking(worker is not None, tickets is not None)
        await self._writer().fetch(statement, ids=sorted(set(ids)), worker=worker, tickets=sorted(set(tickets or ())))

    async def find(self, filter: JobFilter) -> Sequence[JobView]:
        statement, values = chosen("find_jobs", job_filter_parts(filter), end="find_jobs_end")
        return [as_job_view(row) for row in await self._reader().fetch(statement, limit=filter.limit, **values)]

    async def count(self, filter: JobFilter) -> int:
        statement, values = chosen("count_jobs", job_filter_parts(filter))
        return (await self._reader().fetch(statement, **values))[0]["number"]

    async def cancel(self, ids: Sequence[JobId], *, now: float, keep_until: float | None) -> CancelledJobs:
        found: list[CancelledJobs] = []
        for _ in range(SEEK_TRIES):
            found.append(await self._cancel(ids, now=now, keep_until=keep_until))
            ids = sorted(set(ids).difference(found[-1].ended, found[-1].asked))
            # What lies in a bundle has no row to be changed, or has got one since.
            if not ids or not (ids := [row["id"] for row in await self._look(ids) if row["status"] == "queued"]):
                break
            await self._unpack(ids)
        return CancelledJobs(
            ended=[id for each in found for id in each.ended], asked=[id for each in found for id in each.asked]
        )

    async def _cancel(self, ids: Sequence[str], *, now: float, keep_until: float | None) -> CancelledJobs:
        wanted = sorted(set(ids))
        gates = sorted({row["gate"] for row in await self._reader().fetch("gates_of", ids=wanted)})
        # Of jobs that come to be queued meanwhile, only those of these gates: the others are as if sent after this.
        values = {"ids": wanted, "gates": gates, "now": now, "keep_until": keep_until}

        async def work(transaction: Transaction) -> tuple[list[Row], bool]:
            await lock(transaction, gates)
            rows = await transaction.fetch("cancel_jobs", **values)
            ended = Counter(row["gate"] for row in rows if row["owner"] is None and row["gate"] is not None)
            return rows, await let_through(transaction, ended)

        if gates:
            rows, waits = await self._writer().transact(work)
        else:
            rows, waits = await self._writer().fetch("cancel_jobs", **values), False
        answer, news = as_cancelled(rows)
        await self._store.notify({**news, JOB_CHANNEL: ""} if waits else news)
        return answer

    async def replay(self, ids: Sequence[JobId], *, now: float) -> Sequence[JobId]:
        for tries in range(REPLAY_TRIES):
            try:
                rows = await self._writer().fetch("replay_jobs", ids=sorted(set(ids)), now=now)
                break
            except AlreadyThere:
                # Another job got a unique text while this looked; the next look sees it.
                if tries == REPLAY_TRIES - 1:
                    raise
        else:
            raise AssertionError("unreachable")
        if any(row["waits"] for row in rows):
            await self._store.notify({JOB_CHANNEL: ""})
        return [JobId(row["id"]) for row in rows]

    async def purge(self, ids: Sequence[JobId]) -> Sequence[JobId]:
        return [JobId(row["id"]) for row in await self._writer().fetch("purge_jobs", ids=sorted(set(ids)))]

    # --- queues

    async def pause(self, queues: Sequence[str], *, now: float) -> None:
        await self._writer().fetch("pause_queues", queues=sorted(set(queues)), now=now)

    async def resume(self, queues: Sequence[str]) -> None:
        [row] = await self._writer().fetch("resume_queues", queues=sorted(set(queues)))
        if row["waits"]:
            await self._store.notify({JOB_CHANNEL: ""})

    async def paused(self) -> Mapping[str, float]:
        return {row["queue"]: row["since"] for row in await self._reader().fetch("paused_queues")}

    async def depths(self, *, now: float, most: int) -> Sequence[QueueDepth]:
        return as_depths(await self._reader().fetch("depths", now=now, most=most), most)

    # --- workers

    async def claim(self, worker: WorkerId, *, queues: Sequence[str], room: int, now: float) -> ClaimedJobs:
        if worker in self._doubtful:
            rows = await self._reader().fetch("jobs_under", worker=worker, tickets=self._doubtful[worker])
            del self._doubtful[worker]
            if rows:
                # What else is due was not looked at.
                jobs = [as_claimed_job(row, place_of(row, row["ticket"])) for row in by_urgency(rows)]
                return ClaimedJobs(jobs=jobs, next_due=now)
        ticket = random.getrandbits(62)
        try:
            rows = await self._reader().fetch_once(
                "claim_jobs",
                worker=worker,
                ticket=ticket,
                any_queue="*" in queues,
                queues=list(queues),
                room=room,
                now=now,
            )
        except BaseException as error:
            if isinstance(error, StoreUnavailable) or not isinstance(error, Exception):
                # It may have happened: the next claim asks.
                self._doubtful[worker].append(ticket)
            raise
        if not rows:
            raise LeaseLost.of(worker)
        taken = [((-row["priority"], row["due_at"]), as_claimed_job(row)) for row in rows if row["id"] is not None]
        taken += [each for row in rows if row["ids"] is not None for each in bundled_jobs(row, ticket)]
        taken.sort(key=itemgetter(0))
        return ClaimedJobs(jobs=[job for _, job in taken], next_due=next_moment(rows[0]["next_due"]))

    async def admit(self, worker: WorkerId, jobs: Sequence[ClaimedJob], *, now: float) -> Sequence[JobId]:
        return await self._writer().transact(lambda transaction: admit(transaction, worker, jobs, now))

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement]) -> SettledJobs:
        chosen = {(each.id, each.claim): each for each in settlements}
        written = self._written.pop(worker, {})
        before = [SettledJobs(waiters=told) for key, told in written.items() if key in chosen]
        rows = [(each, kept(each.outcome)) for key, each in chosen.items() if key not in written]
        written = {key: told for key, told in written.items() if key not in chosen}
        done: list[tuple[Sequence[Settlement], SettledJobs]] = []
        try:
            if any(each.receipt is not None for each, _ in rows):
                gone, rows = await self._settle_bundled(worker, rows)
                done.append((gone, SettledJobs()))
                if stay := [each for each, row in rows if each.receipt is not None and row is not None]:
                    await self._unpack([each.id for each in stay], worker=worker, tickets=tickets_of(stay))
            # One statement would lock those that go before those that stay, not in the order of their ids.
            parts = ([pair for pair in rows if pair[1] is None], [pair for pair in rows if pair[1] is not None])
            for part in filter(None, parts):
                done.append(([each for each, _ in part], await self._settle_part(worker, part)))
        except StoreError as error:
            if not isinstance(error, LeaseLost):
                # It is asked again, and must not hear that these were not this worker's.
                for part, answer in done:
                    written |= {
                        (each.id, each.claim): [pair for pair in answer.waiters if pair[1] == each.id]
                        for each in part
                        if each.id not in answer.lost
                    }
            raise
        finally:
            if written:
                self._written.setdefault(worker, {}).update(written)
        return SettledJobs.of([*before, *[answer for _, answer in done]])

    async def _settle_bundled(
        self, worker: WorkerId, rows: Sequence[tuple[Settlement, Kept | None]]
    ) -> tuple[list[Settlement], list[tuple[Settlement, Kept | None]]]:
        """Settle those that are in bundles and leave nothing; return them, and the rest, which will have rows."""
        gone = [each for each, row in rows if each.receipt is not None and row is None]
        rest = [pair for pair in rows if pair[0].receipt is None or pair[1] is not None]
        if not gone:
            return [], rest
        bundled = Bundled(gone)
        statement, values = bundled.statement(_follow_columns(gone))
        [answer] = await self._writer().fetch(statement, worker=worker, **values)
        if not answer["alive"]:
            raise LeaseLost.of(worker)
        missed = bundled.missed(answer)
        ids = {each.id for each in missed}
        return [each for each in gone if each.id not in ids], [*rest, *[(each, None) for each in missed]]

    async def _settle_part(self, worker: WorkerId, rows: Sequence[tuple[Settlement, Kept | None]]) -> SettledJobs:
        """Settle, and let those be claimed that come next at the gates of these jobs."""
        gates = openings(each for each, _ in rows)
        if not gates:
            return await self._settle(self._writer(), worker, rows)

        async def work(transaction: Transaction) -> tuple[SettledJobs, bool]:
            await lock(transaction, gates)
            return await self._settle(transaction, worker, rows), await let_through(transaction, gates)

        answer, waits = await self._writer().transact(work)
        if waits:
            await self._store.notify({JOB_CHANNEL: ""})
        return answer

    async def _settle(
        self, line: Line | Transaction, worker: WorkerId, rows: Sequence[tuple[Settlement, Kept | None]]
    ) -> SettledJobs:
        statement, values = settlement(rows)
        [row] = await line.fetch(statement, worker=worker, **values)
        if not row["alive"]:
            raise LeaseLost.of(worker)
        settled: Sequence[str] = row["settled"] or ()
        pairs = zip(row["ids"] or (), row["waiters"] or (), strict=True)
        return SettledJobs(
            lost=frozenset({each.id for each, _ in rows}.difference(settled))
            if len(settled) < len(rows)
            else frozenset(),
            waiters=[(channel, JobId(id)) for id, waiter in pairs for channel in split_waiters(waiter)],
        )

    async def unwanted(self, worker: WorkerId, ids: Sequence[JobId]) -> Sequence[JobId]:
        return [JobId(row["id"]) for row in await self._reader().fetch("job_unwanted", worker=worker, ids=list(ids))]

    async def report(self, worker: WorkerId, progress: Mapping[JobId, bytes]) -> None:
        if missed := await self._report(worker, progress):
            await self._unpack(list(missed), worker=worker)
            await self._report(worker, {id: progress[id] for id in missed})

    async def _report(self, worker: WorkerId, progress: Mapping[JobId, bytes]) -> set[JobId]:
        """Write it; return of which there is no row."""
        if not progress:
            return set()
        ids = sorted(progress)
        rows = await self._writer().fetch("report", worker=worker, ids=ids, progress=[progress[id] for id in ids])
        return set(ids).difference(row["id"] for row in rows)

    async def wait_for_jobs(self, worker: WorkerId, waits: bool) -> None:
        await self._reader().fetch("wait_for_jobs", worker=worker, waits=waits)

    # --- upkeep

    async def lacks(self, *, keyed: Sequence[str]) -> Sequence[str]:
        return []

    async def sweep_jobs(self, *, now: float, batch: int) -> int:
        await self._reader().fetch("sweep_gates", now=now, batch=batch)
        return len(await self._reader().fetch("sweep_jobs", now=now, batch=batch))


def _in_order(jobs: Sequence[Job]) -> list[Job]:
    """Without doubles, in the order of what they may have in common with others: their unique texts, then their ids.

    It is the same for all writers, so that none waits for another in a circle.
    """
    return sorted({job.id: job for job in reversed(jobs)}.values(), key=lambda job: (job.unique or "", job.id))


def _columns(jobs: Sequence[Job], prefix: str = "") -> dict[str, Any]:
    return {
        f"{prefix}ids": [job.id for job in jobs],
        f"{prefix}names": [job.name for job in jobs],
        f"{prefix}payloads": [job.payload for job in jobs],
        f"{prefix}queues": [job.queue for job in jobs],
        f"{prefix}priorities": [job.priority for job in jobs],
        f"{prefix}created_ats": [job.created_at for job in jobs],
        f"{prefix}due_ats": [job.due_at for job in jobs],
        f"{prefix}uniques": [job.unique for job in jobs],
        f"{prefix}expires_ats": [job.expires_at for job in jobs],
        f"{prefix}waiters": [job.waiter for job in jobs],
        f"{prefix}gates": [job.gate_name for job in jobs],
        f"{prefix}gate_rules": [rule_of(job.gate) for job in jobs],
        f"{prefix}plains": [is_plain(job) for job in jobs],
    }


def _follow_columns(settlements: Iterable[Settlement]) -> dict[str, Any]:
    """The columns of what follows, and of which settlement each; empty where nothing does."""
    follow = {job.id: (each.id, job) for each in settlements for job in each.follow}
    if not follow:
        return {}
    ordered = _in_order([job for _, job in follow.values()])
    return {"follow_sources": [follow[job.id][0] for job in ordered]} | _columns(ordered, "follow_")


def _are_alike(jobs: Sequence[Job]) -> bool:
    """Whether they are many, and plain calls of one task in one lane."""
    first, plain = jobs[0], is_plain(jobs[0])
    return len(jobs) > 1 and all(
        job.name == first.name
        and job.queue == first.queue
        and job.priority == first.priority
        and job.unique is None
        and job.expires_at is None
        and job.waiter is None
        and job.gate is None
        and is_plain(job) is plain
        for job in jobs
    )


def _common(jobs: Sequence[Job]) -> dict[str, Any]:
    """The columns of jobs that are alike."""
    return {
        "name": jobs[0].name,
        "queue": jobs[0].queue,
        "priority": jobs[0].priority,
        "plain": is_plain(jobs[0]),
        "ids": [job.id for job in jobs],
        "payloads": [job.payload for job in jobs],
        "created_ats": [job.created_at for job in jobs],
        "due_ats": [job.due_at for job in jobs],
    }


def settlement(rows: Sequence[tuple[Settlement, Kept | None]]) -> tuple[Statement, dict[str, Any]]:
    """One statement for all of it, with only the parts it needs; each settlement comes with what its job's row becomes."""
    rows = sorted(rows, key=lambda pair: pair[0].id)
    gone = [each for each, row in rows if row is None]
    stay = [(each, row) for each, row in rows if row is not None]
    follow = _follow_columns(each for each, _ in rows)
    values: dict[str, Any] = dict(follow)
    if gone:
        values |= {"gone_ids": [each.id for each in gone], "gone_claims": [each.claim for each in gone]}
    if stay:
        values |= {
            "kept_ids": [each.id for each, _ in stay],
            "kept_claims": [each.claim for each, _ in stay],
            "statuses": [row.status for _, row in stay],
            "kept_due_ats": [row.due_at for _, row in stay],
            "failed": [row.failed for _, row in stay],
            "ended_ats": [row.ended_at for _, row in stay],
            "keep_untils": [row.keep_until for _, row in stay],
            "reasons": [row.reason for _, row in stay],
            "outcomes": [row.outcome for _, row in stay],
        }
    return _settle_statement(bool(gone), bool(stay), bool(follow)), values


@cache
def _settle_statement(gone: bool, stay: bool, follow: bool) -> Statement:
    parts = [TEXTS["settle_lease"]]
    settled: list[str] = []
    if gone:
        parts.append(TEXTS["settle_gone"])
        settled.append("SELECT id, waiter FROM gone")
    if stay:
        parts.append(TEXTS["settle_kept"])
        settled.append("SELECT id, waiter FROM kept")
    parts.append(f", settled AS ({' UNION ALL '.join(settled)})")
    if follow:
        parts.append(TEXTS["settle_followed"])
    parts.append(TEXTS["settle_answer"])
    return compiled("\n".join(parts))
