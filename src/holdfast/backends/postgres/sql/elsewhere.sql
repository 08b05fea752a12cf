-- Jobs that lie with another broker. Their rows have an owner that is no worker, so that nobody claims them.

-- name: expect_jobs
-- index: holdfast_job primary key
INSERT INTO holdfast_job
    (shard, id, name, payload, queue, priority, created_at, due_at, expires_at, waiter, owner, keep_until)
SELECT :shard, s.*, :owner::text, :keep_until::float8
FROM unnest(
    :ids::text[], :names::text[], :payloads::bytea[], :queues::text[], :priorities::int[], :created_ats::float8[],
    :due_ats::float8[], :expires_ats::float8[], :waiters::text[]
) AS s
ON CONFLICT (shard, id) DO UPDATE
SET status = 'queued', owner = excluded.owner, attempt = 1, cancelled = false, ended_at = NULL,
    keep_until = excluded.keep_until, reason = NULL, outcome = NULL, progress = NULL
WHERE :again::bool AND holdfast_job.status <> 'queued'

-- name: conclude_jobs
-- index: holdfast_job primary key
-- The first end that is told counts.
INSERT INTO holdfast_job
    (shard, id, name, payload, queue, priority, created_at, due_at, waiter, attempt, status, ended_at, keep_until,
     reason, outcome)
SELECT :shard, s.*
FROM unnest(
    :ids::text[], :names::text[], :payloads::bytea[], :queues::text[], :priorities::int[], :created_ats::float8[],
    :due_ats::float8[], :waiters::text[], :attempts::int[], :statuses::text[], :ended_ats::float8[],
    :keep_untils::float8[], :reasons::text[], :outcomes::bytea[]
) AS s
ON CONFLICT (shard, id) DO UPDATE
SET status = excluded.status, attempt = excluded.attempt, owner = NULL, ended_at = excluded.ended_at,
    keep_until = excluded.keep_until, reason = excluded.reason, outcome = excluded.outcome
WHERE (holdfast_job.owner = :owner::text) IS TRUE
RETURNING id, waiter

-- name: recalled_jobs
-- index: holdfast_job primary key
SELECT j.id
FROM unnest(:ids::text[]) AS u (id)
CROSS JOIN LATERAL (
    SELECT j.id FROM holdfast_job j
    WHERE j.shard = :shard AND j.id = u.id AND (j.owner = :owner::text) IS TRUE AND j.cancelled OFFSET 0
) j
