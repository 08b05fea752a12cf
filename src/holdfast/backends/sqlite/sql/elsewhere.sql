-- Jobs that lie with another broker. Their rows have an owner that is no worker, so that nobody claims them.

-- name: expect_jobs
-- index: holdfast_job primary key
INSERT INTO holdfast_job
    (shard, id, name, payload, queue, priority, created_at, due_at, expires_at, waiter, owner, keep_until)
VALUES (0, :id, :name, :payload, :queue, :priority, :created_at, :due_at, :expires_at, :waiter, :owner, :keep_until)
ON CONFLICT (shard, id) DO UPDATE
SET status = 'queued', owner = excluded.owner, attempt = 1, cancelled = 0, ended_at = NULL,
    keep_until = excluded.keep_until, reason = NULL, outcome = NULL, progress = NULL
WHERE :again AND status <> 'queued'

-- name: conclude_job
-- index: holdfast_job primary key
-- The first end that is told counts.
INSERT INTO holdfast_job
    (shard, id, name, payload, queue, priority, created_at, due_at, waiter, attempt, status, ended_at, keep_until,
     reason, outcome)
VALUES (0, :id, :name, :payload, :queue, :priority, :created_at, :due_at, :waiter, :attempt, :status, :ended_at,
        :keep_until, :reason, :outcome)
ON CONFLICT (shard, id) DO UPDATE
SET status = excluded.status, attempt = excluded.attempt, owner = NULL, ended_at = excluded.ended_at,
    keep_until = excluded.keep_until, reason = excluded.reason, outcome = excluded.outcome
WHERE owner = :owner
RETURNING id, waiter

-- name: recalled_jobs
-- index: holdfast_job primary key
SELECT id FROM holdfast_job
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND +owner = :owner AND cancelled
