-- Jobs. A job is claimable while it is queued and has no owner. Lists of ids come as one JSON array.

-- name: send
-- index: the primary key and holdfast_job_unique, to leave alone what is there
INSERT INTO holdfast_job
    (shard, id, name, payload, queue, priority, created_at, due_at, unique_key, expires_at, waiter, gate, gate_rule)
VALUES (0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING

-- name: send_one
-- index: as send
-- On the caller's own connection, whose driver may know parameters by name alone.
INSERT INTO holdfast_job
    (shard, id, name, payload, queue, priority, created_at, due_at, unique_key, expires_at, waiter, gate, gate_rule)
VALUES (
    0, :id, :name, :payload, :queue, :priority, :created_at, :due_at, :unique, :expires_at, :waiter, :gate, :gate_rule
)
ON CONFLICT DO NOTHING

-- name: known_jobs
-- index: holdfast_job primary key
SELECT id FROM holdfast_job WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids))

-- name: job_holders
-- index: holdfast_job_unique
SELECT unique_key, id FROM holdfast_job
WHERE shard = 0 AND unique_key IN (SELECT value FROM json_each(:uniques)) AND unique_key IS NOT NULL
  AND status = 'queued'

-- name: job_lanes
-- index: holdfast_job_claimable, one probe for each pair of queue and priority
-- The head of every lane, and the lease.
WITH RECURSIVE job_lane (head) AS (
    SELECT (
        SELECT rowid FROM holdfast_job WHERE shard = 0 AND owner IS NULL AND status = 'queued'
        ORDER BY queue, priority, due_at LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT n.rowid FROM holdfast_job n
        WHERE n.shard = 0 AND n.owner IS NULL AND n.status = 'queued'
          AND (n.queue, n.priority) > (h.queue, h.priority)
        ORDER BY n.queue, n.priority, n.due_at LIMIT 1
    )
    FROM job_lane JOIN holdfast_job h ON h.rowid = job_lane.head
)
SELECT 'lease' AS kind, '' AS queue, 0 AS priority, 0.0 AS due_at
FROM holdfast_lease WHERE shard = 0 AND worker = :worker
UNION ALL
SELECT 'job', j.queue, j.priority, j.due_at FROM job_lane JOIN holdfast_job j ON j.rowid = job_lane.head
WHERE NOT EXISTS (SELECT 1 FROM holdfast_paused_queue p WHERE p.shard = 0 AND p.queue = j.queue)

-- name: claim_jobs
-- index: holdfast_job_claimable, one lane
UPDATE holdfast_job SET owner = :worker, claims = claims + 1
WHERE rowid IN (
    SELECT rowid FROM holdfast_job
    WHERE shard = 0 AND owner IS NULL AND status = 'queued'
      AND queue = :queue AND priority = :priority AND due_at <= :now
    ORDER BY due_at LIMIT :room
)
RETURNING id, name, payload, queue, priority, due_at, attempt, claims, losses, expires_at, gate, gate_rule

-- name: next_job
-- index: holdfast_job_claimable, one lane
SELECT min(due_at) AS due_at FROM holdfast_job
WHERE shard = 0 AND owner IS NULL AND status = 'queued' AND queue = :queue AND priority = :priority AND due_at > :now

-- name: held_jobs
-- index: holdfast_job primary key
SELECT id, claims, waiter, cancelled FROM holdfast_job
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND owner = :worker

-- name: settle_gone
-- index: holdfast_job primary key
DELETE FROM holdfast_job WHERE shard = 0 AND id = ?

-- name: settle_kept
-- index: holdfast_job primary key
-- A job that was to be tried again, and meanwhile cancelled, is cancelled.
UPDATE holdfast_job
SET status = CASE WHEN :status = 'queued' AND cancelled THEN 'cancelled' ELSE :status END,
    owner = NULL, due_at = coalesce(:due_at, due_at), attempt = attempt + :failed,
    losses = CASE WHEN :status = 'queued' AND :failed = 0 THEN losses ELSE 0 END,
    ended_at = coalesce(:ended_at, CASE WHEN cancelled THEN :due_at END),
    keep_until = coalesce(:keep_until, CASE WHEN :status = 'queued' AND cancelled THEN :due_at + 3600 END),
    reason = :reason, outcome = coalesce(:outcome, outcome), gate_paid = gate_paid AND :failed = 0
WHERE shard = 0 AND id = :id

-- name: wait_for_jobs
-- index: holdfast_lease primary key
UPDATE holdfast_lease SET waits = :waits WHERE shard = 0 AND worker = :worker

-- name: depths
-- index: holdfast_job_claimable (one probe for each queue, then at most so many entries of it), holdfast_job_owner,
-- holdfast_job_ended
WITH RECURSIVE line (queue) AS (
    SELECT min(queue) FROM holdfast_job WHERE shard = 0 AND owner IS NULL AND status = 'queued'
    UNION ALL
    SELECT (
        SELECT min(n.queue) FROM holdfast_job n
        WHERE n.shard = 0 AND n.owner IS NULL AND n.status = 'queued' AND n.queue > l.queue
    )
    FROM line l WHERE l.queue IS NOT NULL
)
SELECT l.queue, 'queued' AS kind, (
    SELECT count(*) FROM (
        SELECT 1 FROM holdfast_job j
        WHERE j.shard = 0 AND j.owner IS NULL AND j.status = 'queued' AND j.queue = l.queue LIMIT :most
    )
) AS number
FROM line l WHERE l.queue IS NOT NULL
UNION ALL
SELECT l.queue, 'delayed', (
    SELECT count(*) FROM (
        SELECT j.due_at FROM holdfast_job j
        WHERE j.shard = 0 AND j.owner IS NULL AND j.status = 'queued' AND j.queue = l.queue LIMIT :most
    ) WHERE due_at > :now AND due_at < 1e15
)
FROM line l WHERE l.queue IS NOT NULL
UNION ALL
SELECT queue, 'running', count(*) FROM (SELECT queue FROM holdfast_job WHERE owner IS NOT NULL LIMIT :most) GROUP BY queue
UNION ALL
SELECT queue, 'dead', count(*) FROM (SELECT queue FROM holdfast_job WHERE status = 'dead' AND status <> 'queued' LIMIT :most) GROUP BY queue

-- Jobs before another one at a gate are those that run, and those that were sent before it and are due.

-- name: at_gate
-- index: holdfast_job primary key, holdfast_job_gate, holdfast_job_inside, holdfast_gate primary key
SELECT j.gate_paid, n.next_at,
       (
           SELECT count(*) FROM (
               SELECT 1 FROM holdfast_job e
               WHERE e.shard = 0 AND e.gate = :gate AND e.gate IS NOT NULL AND e.status = 'queued'
                 AND (-e.priority, e.created_at, e.id) < (-j.priority, j.created_at, j.id)
                 AND (e.owner IS NOT NULL OR e.due_at <= :now OR e.due_at >= 1e15)
               ORDER BY -e.priority, e.created_at, e.id LIMIT :room
           )
       ) + (
           SELECT count(*) FROM (
               SELECT 1 FROM holdfast_job r
               WHERE r.shard = 0 AND r.gate = :gate AND r.gate IS NOT NULL AND r.owner IS NOT NULL AND r.admitted = r.claims
                 AND (-r.priority, r.created_at, r.id) > (-j.priority, j.created_at, j.id)
               LIMIT :room
           )
       ) AS before
FROM holdfast_job j LEFT JOIN holdfast_gate n ON n.shard = 0 AND n.name = :gate
WHERE j.shard = 0 AND j.id = :id AND j.owner = :worker AND j.claims = :claim

-- name: pass_gate
-- index: holdfast_job primary key
-- With a moment it goes back, and comes again then; without it may run.
UPDATE holdfast_job
SET owner = CASE WHEN :due_at IS NULL THEN owner END, due_at = coalesce(:due_at, due_at),
    admitted = CASE WHEN :due_at IS NULL THEN claims END, gate_paid = :paid
WHERE shard = 0 AND id = :id AND owner = :worker

-- name: keep_rate
-- index: holdfast_gate primary key
INSERT INTO holdfast_gate (shard, name, next_at) VALUES (0, :name, :next_at)
ON CONFLICT (shard, name) DO UPDATE SET next_at = excluded.next_at

-- name: open_gate
-- index: holdfast_job_gate, in order
UPDATE holdfast_job SET due_at = created_at
WHERE rowid IN (
    SELECT b.rowid FROM holdfast_job b
    WHERE b.shard = 0 AND b.gate = :gate AND b.gate IS NOT NULL AND b.status = 'queued' AND b.owner IS NULL
      AND b.due_at >= 1e15
    ORDER BY -b.priority, b.created_at, b.id LIMIT :count
)

-- name: sweep_gates
-- index: holdfast_gate_next
DELETE FROM holdfast_gate WHERE rowid IN (
    SELECT rowid FROM holdfast_gate WHERE next_at < :now ORDER BY next_at LIMIT :batch
)

-- name: report
-- index: holdfast_job primary key
UPDATE holdfast_job SET progress = :progress WHERE shard = 0 AND id = :id AND owner = :worker

-- name: pause_queues
INSERT INTO holdfast_paused_queue (shard, queue, since) SELECT 0, value, :now FROM json_each(:queues) WHERE true
ON CONFLICT DO NOTHING

-- name: resume_queues
DELETE FROM holdfast_paused_queue WHERE shard = 0 AND queue IN (SELECT value FROM json_each(:queues))

-- name: paused_queues
SELECT queue, since FROM holdfast_paused_queue WHERE shard = 0 ORDER BY queue

-- name: await_job
-- index: holdfast_job primary key
UPDATE holdfast_job
SET waiter = CASE WHEN waiter IS NULL OR length(waiter) > 1000 THEN :waiter ELSE waiter || ' ' || :waiter END
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND status = 'queued'
  AND instr(' ' || coalesce(waiter, '') || ' ', ' ' || :waiter || ' ') = 0

-- name: look_at_jobs
-- index: holdfast_job primary key
SELECT id, name, status, queue, priority, attempt, created_at, due_at, ended_at, owner, reason, payload, outcome, progress
FROM holdfast_job WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids))

-- name: find_jobs
SELECT id, name, status, queue, priority, attempt, created_at, due_at, ended_at, owner, reason, payload, outcome, progress
FROM holdfast_job WHERE shard = 0

-- name: count_jobs
SELECT count(*) AS number FROM holdfast_job WHERE shard = 0

-- name: find_jobs_end
ORDER BY created_at DESC, id DESC LIMIT :limit

-- name: jobs_by_name
AND (name = :name OR substr(name, -length(:function)) IN (:function, :inner))

-- name: jobs_by_queue
AND queue = :queue

-- name: jobs_that_wait
-- index: holdfast_job_claimable
AND status = 'queued' AND owner IS NULL

-- name: jobs_that_run
-- index: holdfast_job_owner
AND status = 'queued' AND owner IS NOT NULL

-- name: jobs_by_end
-- index: holdfast_job_ended, in order; only what its condition says leads to it
AND status = :status AND status <> 'queued'

-- name: jobs_by_reason
AND reason = :reason

-- name: jobs_by_ids
AND id IN (SELECT value FROM json_each(:ids))

-- name: jobs_by_page
AND (created_at, id) < (:page_at, :page_id)

-- name: cancel_jobs
-- index: holdfast_job primary key
UPDATE holdfast_job
SET cancelled = 1,
    status = CASE WHEN owner IS NULL THEN 'cancelled' ELSE status END,
    ended_at = CASE WHEN owner IS NULL THEN :now END,
    keep_until = CASE WHEN owner IS NULL THEN :keep_until END
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND status = 'queued'
RETURNING id, owner, waiter, gate

-- name: replay_job
-- index: holdfast_job primary key, holdfast_job_unique
UPDATE holdfast_job AS j
SET status = 'queued', due_at = :now, attempt = 1, losses = 0, ended_at = NULL, keep_until = NULL, reason = NULL,
    outcome = NULL, progress = NULL, cancelled = 0, expires_at = NULL,
    gate_paid = 0
WHERE shard = 0 AND id = :id AND status <> 'queued'
  AND (unique_key IS NULL OR NOT EXISTS (
      SELECT 1 FROM holdfast_job l
      WHERE l.shard = 0 AND l.unique_key = j.unique_key AND l.unique_key IS NOT NULL AND l.status = 'queued'
  ))

-- name: purge_jobs
-- index: holdfast_job primary key
DELETE FROM holdfast_job WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND status <> 'queued'
RETURNING id

-- name: recover_jobs
-- index: holdfast_job_owner
-- Whoever asked to cancel it while it ran has what he wanted: it runs no more.
UPDATE holdfast_job
SET owner = NULL, due_at = :now, losses = losses + :lost,
    status = CASE WHEN cancelled THEN 'cancelled' ELSE status END,
    ended_at = CASE WHEN cancelled THEN :now END,
    keep_until = CASE WHEN cancelled THEN :now + 3600 END
WHERE shard = 0 AND owner = :worker
RETURNING CASE WHEN cancelled THEN gate END AS gate

-- name: sweep_jobs
-- index: holdfast_job_kept
DELETE FROM holdfast_job WHERE rowid IN (
    SELECT rowid FROM holdfast_job WHERE shard = 0 AND keep_until < :now AND keep_until IS NOT NULL
    ORDER BY keep_until LIMIT :batch
)
