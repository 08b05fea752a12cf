-- Claims. A lane is a pair of queue and priority; its head is the earliest due. Walking the heads costs one index probe
-- a lane, so that neither sleepers nor other queues' backlog cost anything.
-- A claim does not wait for the disk. What its worker writes on account of it comes later in the server's log, so that it
-- cannot outlast the claim; and what is lost with the server is due again, as after any crash.

-- name: claim
-- index: holdfast_instance_claimable (twice a lane and once for each row taken), the primary key of one partition of the
--        journal, holdfast_call_claimable
-- Lanes go by priority, then by the age of their head; a nested loop takes from one only when those before it are empty.
-- A row that changed its place since the snapshot is left for the next claim: whoever changed it is about to notify.
-- No row in the answer: the lease is gone. Holding it keeps whoever ends it waiting, and then seeing what was taken.
WITH RECURSIVE lease AS (
    SELECT worker, set_config('synchronous_commit', 'off', true) FROM holdfast_lease
    WHERE shard = :shard AND worker = :worker::text FOR KEY SHARE
),
head AS (
    (
        SELECT queue, priority, due_at FROM holdfast_instance
        WHERE shard = :shard AND owner IS NULL AND status = 'pending' AND due_at IS NOT NULL
        ORDER BY queue, priority, due_at LIMIT 1
    )
    UNION ALL
    SELECT n.queue, n.priority, n.due_at
    FROM head h CROSS JOIN LATERAL (
        SELECT i.queue, i.priority, i.due_at FROM holdfast_instance i
        WHERE i.shard = :shard AND i.owner IS NULL AND i.status = 'pending' AND i.due_at IS NOT NULL
          AND (i.queue, i.priority) > (h.queue, h.priority)
        ORDER BY i.queue, i.priority, i.due_at LIMIT 1
    ) n
),
lane AS (
    SELECT queue, priority, due_at FROM head WHERE :any_queue::bool OR queue = ANY(:queues::text[])
),
claimed AS (
    UPDATE holdfast_instance i
    SET owner = :worker::text, ticket = :ticket::int8, claims = i.claims + 1
    WHERE i.ctid = ANY(ARRAY(
        SELECT p.ctid
        FROM (SELECT * FROM lane WHERE due_at <= :now::float8 ORDER BY priority DESC, due_at) l
        CROSS JOIN LATERAL (
            SELECT c.ctid FROM holdfast_instance c
            WHERE c.shard = :shard AND c.owner IS NULL AND c.status = 'pending' AND c.due_at IS NOT NULL
              AND c.queue = l.queue AND c.priority = l.priority AND c.due_at <= :now::float8
            ORDER BY c.due_at LIMIT :room::int
            FOR NO KEY UPDATE SKIP LOCKED
        ) p
        WHERE EXISTS (SELECT FROM lease)
        LIMIT :room::int
    ))
    RETURNING i.id, i.name, i.program, i.queue, i.priority, i.due_at, i.base_seq, i.base_at, i.claims, i.created_at,
              i.parent, i.parent_call, i.recoveries, i.signals > 0 AS told
)
SELECT c.*, j.at, j.payload,
       CASE
           WHEN :any_queue::bool THEN EXISTS (SELECT FROM holdfast_call WHERE shard = :shard AND owner IS NULL)
           ELSE EXISTS (
               SELECT FROM holdfast_call WHERE shard = :shard AND owner IS NULL AND queue = ANY(:queues::text[])
           )
       END AS calls,
       (
           SELECT min(n.due_at)
           FROM lane l CROSS JOIN LATERAL (
               SELECT i.due_at FROM holdfast_instance i
               WHERE i.shard = :shard AND i.owner IS NULL AND i.status = 'pending' AND i.due_at IS NOT NULL
                 AND i.queue = l.queue AND i.priority = l.priority AND i.due_at > :now::float8
               ORDER BY i.due_at LIMIT 1
           ) n
       ) AS next_due
FROM lease
LEFT JOIN claimed c ON true
LEFT JOIN LATERAL (
    SELECT s.at, s.payload FROM holdfast_journal s
    WHERE s.shard = :shard AND s.instance = c.id AND s.seq = 0 AND s.at = c.base_at AND c.claims = 1
    LIMIT 1
) j ON true

-- name: claimed_under
-- index: holdfast_instance_owner
SELECT id, name, program, queue, priority, due_at, base_seq, base_at, claims, created_at, parent, parent_call, recoveries,
       signals > 0 AS told
FROM holdfast_instance WHERE shard = :shard AND owner = :worker::text AND ticket = ANY(:tickets::int8[])

-- name: claimed_steps
-- index: the primary key of the journal's partitions not older than the base
SELECT j.instance, j.seq, j.at, j."full", j.payload
FROM unnest(:ids::text[], :base_seqs::int[], :since::float8[]) AS c (id, base_seq, since)
CROSS JOIN LATERAL (
    SELECT s.instance, s.seq, s.at, s."full", s.payload FROM holdfast_journal s
    WHERE s.shard = :shard AND s.instance = c.id AND s.seq >= c.base_seq AND s.at >= c.since
    OFFSET 0
) j

-- name: claim_calls
-- index: holdfast_call_claimable (twice a lane and once for each row taken)
WITH RECURSIVE lease AS (
    SELECT worker, set_config('synchronous_commit', 'off', true) FROM holdfast_lease
    WHERE shard = :shard AND worker = :worker::text FOR KEY SHARE
),
head AS (
    (
        SELECT queue, priority, due_at FROM holdfast_call WHERE shard = :shard AND owner IS NULL
        ORDER BY queue, priority, due_at LIMIT 1
    )
    UNION ALL
    SELECT n.queue, n.priority, n.due_at
    FROM head h CROSS JOIN LATERAL (
        SELECT i.queue, i.priority, i.due_at FROM holdfast_call i
        WHERE i.shard = :shard AND i.owner IS NULL AND (i.queue, i.priority) > (h.queue, h.priority)
        ORDER BY i.queue, i.priority, i.due_at LIMIT 1
    ) n
),
lane AS (
    SELECT queue, priority, due_at FROM head WHERE :any_queue::bool OR queue = ANY(:queues::text[])
),
claimed AS (
    UPDATE holdfast_call c SET owner = :worker::text, ticket = :ticket::int8
    WHERE c.ctid = ANY(ARRAY(
        SELECT p.ctid
        FROM (SELECT * FROM lane WHERE due_at <= :now::float8 ORDER BY priority DESC, due_at) l
        CROSS JOIN LATERAL (
            SELECT k.ctid FROM holdfast_call k
            WHERE k.shard = :shard AND k.owner IS NULL
              AND k.queue = l.queue AND k.priority = l.priority AND k.due_at <= :now::float8
            ORDER BY k.due_at LIMIT :room::int
            FOR NO KEY UPDATE SKIP LOCKED
        ) p
        WHERE EXISTS (SELECT FROM lease)
        LIMIT :room::int
    ))
    RETURNING c.id, c.instance, c.call, c.name, c.queue, c.payload, c.due_at, c.priority, c.attempt
)
SELECT c.*,
       (
           SELECT min(n.due_at)
           FROM lane l CROSS JOIN LATERAL (
               SELECT i.due_at FROM holdfast_call i
               WHERE i.shard = :shard AND i.owner IS NULL
                 AND i.queue = l.queue AND i.priority = l.priority AND i.due_at > :now::float8
               ORDER BY i.due_at LIMIT 1
           ) n
       ) AS next_due
FROM lease LEFT JOIN claimed c ON true

-- name: calls_under
-- index: holdfast_call_owner
SELECT id, instance, call, name, queue, payload, due_at, priority, attempt FROM holdfast_call
WHERE shard = :shard AND owner = :worker::text AND ticket = ANY(:tickets::int8[])
