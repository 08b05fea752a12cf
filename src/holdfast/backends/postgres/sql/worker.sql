-- Leases and inboxes.

-- name: enlist
INSERT INTO holdfast_lease (shard, worker, host, pid, queues, started_at, expires_at, beat, lease, version)
VALUES (:shard, :worker::text, :host::text, :pid::int, :queues::text, :now::float8, :expires_at::float8, :now::float8,
        :lease::float8, :version::text)
ON CONFLICT (shard, worker) DO UPDATE SET expires_at = excluded.expires_at, beat = excluded.beat

-- name: beat
-- index: holdfast_lease primary key; a read of the whole lease table (a row per worker) for the counts
-- Changes no key, so it never waits for a commit that holds the lease.
WITH beat AS (
    UPDATE holdfast_lease SET expires_at = :expires_at::float8, beat = :now::float8, lease = :lease::float8
    WHERE shard = :shard AND worker = :worker::text
    RETURNING worker
)
SELECT (SELECT count(*) FROM beat) AS alive, count(*) AS workers, count(*) FILTER (WHERE idle) AS idle,
       count(*) FILTER (WHERE expires_at < :now::float8 AND worker <> :worker::text) AS expired
FROM holdfast_lease WHERE shard = :shard

-- name: bury
-- A read of the whole lease table: a row per worker.
-- Waits for commits and claims that hold such a lease; what they wrote is seen by the statements after this one.
WITH expired AS (
    SELECT worker FROM holdfast_lease WHERE shard = :shard AND expires_at < :now::float8 ORDER BY worker FOR UPDATE
)
DELETE FROM holdfast_lease l USING expired e
WHERE l.shard = :shard AND l.worker = e.worker AND l.expires_at < :now::float8
RETURNING l.worker

-- name: discharge
-- index: holdfast_lease primary key
DELETE FROM holdfast_lease WHERE shard = :shard AND worker = :worker::text RETURNING worker

-- name: recover_instances
-- index: holdfast_instance_owner; the journal's primary keys for the last step
-- Only takeovers without a step in between add up.
WITH held AS (
    SELECT shard, id FROM holdfast_instance WHERE shard = :shard AND owner = :worker::text
    ORDER BY id || '' FOR NO KEY UPDATE
)
UPDATE holdfast_instance i
SET owner = NULL, due_at = :now::float8, recovered_seq = j.seq,
    recoveries = CASE WHEN j.seq > i.recovered_seq THEN 1 ELSE i.recoveries + 1 END
FROM held h
CROSS JOIN LATERAL (
    SELECT coalesce(max(j.seq), 0) AS seq FROM holdfast_journal j WHERE j.shard = :shard AND j.instance = h.id
) j
WHERE i.shard = ANY(ARRAY[h.shard]) AND i.id = h.id

-- name: free_instances
-- index: holdfast_instance_owner
WITH held AS (
    SELECT shard, id FROM holdfast_instance WHERE shard = :shard AND owner = :worker::text
    ORDER BY id || '' FOR NO KEY UPDATE
)
UPDATE holdfast_instance i SET owner = NULL, due_at = :now::float8
FROM held h WHERE i.shard = ANY(ARRAY[h.shard]) AND i.id = h.id

-- name: free_calls
-- index: holdfast_call_owner
WITH held AS (
    SELECT shard, instance, id FROM holdfast_call WHERE shard = :shard AND owner = :worker::text
    ORDER BY instance || '', id FOR NO KEY UPDATE
)
UPDATE holdfast_call c SET owner = NULL, due_at = :now::float8
FROM held h WHERE c.shard = ANY(ARRAY[h.shard]) AND c.instance = h.instance AND c.id = h.id

-- name: idle
-- index: holdfast_lease primary key
-- Does not wait for the disk: a word lost with the server costs one wait until the next look.
UPDATE holdfast_lease SET idle = :idle::bool WHERE shard = :shard AND worker = :worker::text
RETURNING set_config('synchronous_commit', 'off', true)

-- name: workers
-- index: holdfast_instance_owner and holdfast_job_owner for the counts
SELECT l.*, (SELECT count(*) FROM holdfast_instance i WHERE i.shard = :shard AND i.owner = l.worker)
    + (SELECT count(*) FROM holdfast_job j WHERE j.shard = :shard AND j.owner = l.worker)
    + (SELECT count(*) FROM holdfast_bundled b WHERE b.shard = :shard AND b.worker = l.worker) AS owned
FROM holdfast_lease l WHERE l.shard = :shard AND l.expires_at >= :now::float8 ORDER BY l.started_at, l.worker

-- name: held_calls
-- index: holdfast_call_owner
SELECT id FROM holdfast_call WHERE shard = :shard AND owner = :worker::text AND id = ANY(:ids::text[])

-- name: take_inbox
-- index: holdfast_inbox primary key, holdfast_instance_owner (not touched while all inboxes are empty)
SELECT b.*
FROM (
    SELECT id FROM holdfast_instance
    WHERE shard = :shard AND owner = :worker::text AND EXISTS (SELECT FROM holdfast_inbox WHERE shard = :shard)
    OFFSET 0
) i
CROSS JOIN LATERAL (
    SELECT b.instance, b.id, b.kind, b.key, b.payload, b.at FROM holdfast_inbox b
    WHERE b.shard = :shard AND b.instance = i.id OFFSET 0
) b
ORDER BY b.at, b.id
