-- Leases, claims and the inbox.

-- name: enlist
INSERT INTO holdfast_lease (shard, worker, host, pid, queues, started_at, expires_at, beat, lease, version)
VALUES (0, :worker, :host, :pid, :queues, :now, :expires_at, :now, :lease, :version)
ON CONFLICT (shard, worker) DO UPDATE SET expires_at = excluded.expires_at, beat = excluded.beat

-- name: lease
-- index: holdfast_lease primary key
SELECT 1 FROM holdfast_lease WHERE shard = 0 AND worker = :worker

-- name: beat
-- index: holdfast_lease primary key
UPDATE holdfast_lease SET expires_at = :expires_at, beat = :now, lease = :lease WHERE shard = 0 AND worker = :worker

-- name: census
-- A read of the whole lease table: a row per worker.
SELECT count(*) AS workers, coalesce(sum(idle), 0) AS idle, coalesce(sum(expires_at < :now), 0) AS expired
FROM holdfast_lease WHERE shard = 0

-- name: bury
-- A read of the whole lease table: a row per worker.
DELETE FROM holdfast_lease WHERE shard = 0 AND expires_at < :now RETURNING worker

-- name: discharge
-- index: holdfast_lease primary key
DELETE FROM holdfast_lease WHERE shard = 0 AND worker = :worker

-- name: recover_instances
-- index: holdfast_instance_owner, then holdfast_journal unique (shard, instance, seq) for the last step
-- Only takeovers without a step in between add up.
UPDATE holdfast_instance AS i
SET owner = NULL, due_at = :now,
    (recoveries, recovered_seq) = (
        SELECT CASE WHEN max(j.seq) > i.recovered_seq THEN 1 ELSE i.recoveries + 1 END, max(j.seq)
        FROM holdfast_journal j WHERE j.shard = 0 AND j.instance = i.id
    )
WHERE shard = 0 AND owner = :worker

-- name: free_instances
-- index: holdfast_instance_owner
UPDATE holdfast_instance SET owner = NULL, due_at = :now WHERE shard = 0 AND owner = :worker

-- name: free_calls
-- index: holdfast_call_owner
UPDATE holdfast_call SET owner = NULL, due_at = :now WHERE shard = 0 AND owner = :worker

-- name: idle
-- index: holdfast_lease primary key
UPDATE holdfast_lease SET idle = :idle WHERE shard = 0 AND worker = :worker

-- name: workers
-- index: holdfast_instance_owner and holdfast_job_owner for the counts
SELECT l.*, (SELECT count(*) FROM holdfast_instance i WHERE i.shard = 0 AND i.owner = l.worker)
    + (SELECT count(*) FROM holdfast_job j WHERE j.shard = 0 AND j.owner = l.worker) AS owned
FROM holdfast_lease l WHERE l.shard = 0 AND l.expires_at >= :now ORDER BY l.started_at, l.worker

-- name: lanes
-- index: holdfast_instance_claimable and holdfast_call_claimable, one probe for each pair of queue and priority
-- The head of every lane (the earliest due of its queue and priority), so that sleepers cost nothing; and the lease.
WITH RECURSIVE
instance_lane (head) AS (
    SELECT (
        SELECT rowid FROM holdfast_instance
        WHERE shard = 0 AND owner IS NULL AND status = 'pending' AND due_at IS NOT NULL
        ORDER BY queue, priority, due_at LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT n.rowid FROM holdfast_instance n
        WHERE n.shard = 0 AND n.owner IS NULL AND n.status = 'pending' AND n.due_at IS NOT NULL
          AND (n.queue, n.priority) > (h.queue, h.priority)
        ORDER BY n.queue, n.priority, n.due_at LIMIT 1
    )
    FROM instance_lane JOIN holdfast_instance h ON h.rowid = instance_lane.head
),
call_lane (head) AS (
    SELECT (
        SELECT rowid FROM holdfast_call WHERE shard = 0 AND owner IS NULL ORDER BY queue, priority, due_at LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT n.rowid FROM holdfast_call n
        WHERE n.shard = 0 AND n.owner IS NULL AND (n.queue, n.priority) > (h.queue, h.priority)
        ORDER BY n.queue, n.priority, n.due_at LIMIT 1
    )
    FROM call_lane JOIN holdfast_call h ON h.rowid = call_lane.head
)
SELECT 'lease' AS kind, '' AS queue, 0 AS priority, 0.0 AS due_at
FROM holdfast_lease WHERE shard = 0 AND worker = :worker
UNION ALL
SELECT 'instance', i.queue, i.priority, i.due_at
FROM instance_lane JOIN holdfast_instance i ON i.rowid = instance_lane.head
UNION ALL
SELECT 'call', c.queue, c.priority, c.due_at FROM call_lane JOIN holdfast_call c ON c.rowid = call_lane.head

-- name: claim_instances
-- index: holdfast_instance_claimable, one lane; holdfast_inbox primary key
UPDATE holdfast_instance SET owner = :worker, claims = claims + 1
WHERE rowid IN (
    SELECT rowid FROM holdfast_instance
    WHERE shard = 0 AND owner IS NULL AND status = 'pending' AND due_at IS NOT NULL
      AND queue = :queue AND priority = :priority AND due_at <= :now
    ORDER BY due_at LIMIT :room
)
RETURNING id, name, program, queue, due_at, base_seq, claims, created_at, parent, parent_call, recoveries,
          EXISTS (SELECT 1 FROM holdfast_inbox b WHERE b.shard = 0 AND b.instance = holdfast_instance.id) AS told

-- name: claimed_steps
-- index: holdfast_instance primary key, holdfast_journal unique (shard, instance, seq)
SELECT j.instance, j.seq, j.at, j."full", j.payload
FROM json_each(:ids) e
CROSS JOIN holdfast_instance i ON i.shard = 0 AND i.id = e.value
CROSS JOIN holdfast_journal j ON j.shard = 0 AND j.instance = i.id AND j.seq >= i.base_seq
ORDER BY j.instance, j.seq

-- name: claim_calls
-- index: holdfast_call_claimable, one lane
UPDATE holdfast_call SET owner = :worker
WHERE rowid IN (
    SELECT rowid FROM holdfast_call
    WHERE shard = 0 AND owner IS NULL AND queue = :queue AND priority = :priority AND due_at <= :now
    ORDER BY due_at LIMIT :room
)
RETURNING id, instance, call, name, queue, payload, due_at, priority, attempt

-- name: next_instance
-- index: holdfast_instance_claimable, one lane
SELECT min(due_at) AS due_at FROM holdfast_instance
WHERE shard = 0 AND owner IS NULL AND status = 'pending' AND due_at IS NOT NULL
  AND queue = :queue AND priority = :priority AND due_at > :now

-- name: next_call
-- index: holdfast_call_claimable, one lane
SELECT min(due_at) AS due_at FROM holdfast_call
WHERE shard = 0 AND owner IS NULL AND queue = :queue AND priority = :priority AND due_at > :now

-- name: held_calls
-- index: holdfast_call_owner
SELECT id FROM holdfast_call
WHERE shard = 0 AND owner = :worker AND id IN (SELECT value FROM json_each(:ids))

-- name: take_inbox
-- index: holdfast_instance primary key, for each row of all inboxes, which are nearly empty
SELECT b.instance, b.id, b.kind, b.key, b.payload, b.at
FROM holdfast_inbox b CROSS JOIN holdfast_instance i ON i.shard = 0 AND i.id = b.instance
WHERE b.shard = 0 AND i.owner = :worker
ORDER BY b.at, b.id
