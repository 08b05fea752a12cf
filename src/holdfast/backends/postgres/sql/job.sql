-- Jobs. A job is claimable while it is queued and has no owner; whoever holds it has its claim's number.
-- Ids come sorted and without doubles, so that all writers lock in one order. A comparison wrapped by IS TRUE keeps the
-- planner from taking the index of owners where an id is given.

-- name: send
-- index: the primary key and holdfast_job_unique, to leave alone what is there; holdfast_lease whole (a row per worker)
-- `first`: none of them was sent before, so that none can be in a bundle; all of these are looked at otherwise.
-- A notification makes commits wait for each other: there is one only while some worker waits for jobs.
WITH made AS (
    INSERT INTO holdfast_job
        (shard, id, name, payload, queue, priority, created_at, due_at, unique_key, expires_at, waiter, gate, gate_rule, plain)
    SELECT :shard, s.*
    FROM unnest(
        :ids::text[], :names::text[], :payloads::bytea[], :queues::text[], :priorities::int[], :created_ats::float8[],
        :due_ats::float8[], :uniques::text[], :expires_ats::float8[], :waiters::text[], :gates::text[],
        :gate_rules::text[], :plains::bool[]
    ) AS s (
        id, name, payload, queue, priority, created_at, due_at, unique_key, expires_at, waiter, gate, gate_rule, plain
    )
    WHERE :first::bool OR (s.id IN (SELECT unnest(ids) FROM holdfast_bundle WHERE shard = :shard)) IS NOT TRUE
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT array_agg(made.id) AS ids,
       CASE
           WHEN count(*) > 0 AND EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND waits)
               THEN pg_notify(:channel::text, '') IS NOT NULL
       END AS told
FROM made

-- name: send_alike
-- index: the primary key, to leave alone what is there; holdfast_lease whole (a row per worker), and holdfast_bundle whole
-- if they are plain
-- As `send`, of jobs that differ in little: what all have in common is said once, which halves the work on both sides.
WITH made AS (
    INSERT INTO holdfast_job (shard, id, name, payload, queue, priority, created_at, due_at, plain)
    SELECT :shard, s.id, :name::text, s.payload, :queue::text, :priority::int, s.created_at, s.due_at, :plain::bool
    FROM unnest(:ids::text[], :payloads::bytea[], :created_ats::float8[], :due_ats::float8[])
        AS s (id, payload, created_at, due_at)
    WHERE NOT :plain::bool OR (s.id IN (SELECT unnest(ids) FROM holdfast_bundle WHERE shard = :shard)) IS NOT TRUE
    ON CONFLICT DO NOTHING
    RETURNING id
)
SELECT array_agg(made.id) AS ids,
       CASE
           WHEN count(*) > 0 AND EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND waits)
               THEN pg_notify(:channel::text, '') IS NOT NULL
       END AS told
FROM made

-- name: send_new
-- index: holdfast_lease whole (a row per worker)
-- As `send_alike`, of ids that nobody has yet: to look for each costs a quarter of the whole. Raises where one is there.
WITH made AS (
    INSERT INTO holdfast_job (shard, id, name, payload, queue, priority, created_at, due_at, plain)
    SELECT :shard, s.id, :name::text, s.payload, :queue::text, :priority::int, s.created_at, s.due_at, :plain::bool
    FROM unnest(:ids::text[], :payloads::bytea[], :created_ats::float8[], :due_ats::float8[])
        AS s (id, payload, created_at, due_at)
)
SELECT CASE
           WHEN EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND waits)
               THEN pg_notify(:channel::text, '') IS NOT NULL
       END AS told

-- name: job_holders
-- index: holdfast_job_unique
SELECT j.*
FROM unnest(:uniques::text[]) AS u (unique_key)
CROSS JOIN LATERAL (
    SELECT j.unique_key, j.id FROM holdfast_job j
    WHERE j.shard = :shard AND j.unique_key = u.unique_key AND j.status = 'queued' OFFSET 0
) j

-- name: claim_jobs
-- index: holdfast_job_claimable (twice a lane and once for each row taken), holdfast_paused_queue primary key
-- Lanes as in `claim`, and as there it does not wait for the disk. No row in the answer: the lease is gone. A row with `ids` is
-- the bundle of this claim.
WITH RECURSIVE lease AS (
    SELECT worker, set_config('synchronous_commit', 'off', true) FROM holdfast_lease
    WHERE shard = :shard AND worker = :worker::text FOR KEY SHARE
),
head AS (
    (
        SELECT queue, priority, due_at FROM holdfast_job
        WHERE shard = :shard AND owner IS NULL AND status = 'queued'
        ORDER BY queue, priority, due_at LIMIT 1
    )
    UNION ALL
    SELECT n.queue, n.priority, n.due_at
    FROM head h CROSS JOIN LATERAL (
        SELECT i.queue, i.priority, i.due_at FROM holdfast_job i
        WHERE i.shard = :shard AND i.owner IS NULL AND i.status = 'queued'
          AND (i.queue, i.priority) > (h.queue, h.priority)
        ORDER BY i.queue, i.priority, i.due_at LIMIT 1
    ) n
),
lane AS (
    SELECT queue, priority, due_at FROM head h
    WHERE (:any_queue::bool OR queue = ANY(:queues::text[]))
      AND NOT EXISTS (SELECT FROM holdfast_paused_queue p WHERE p.shard = :shard AND p.queue = h.queue)
),
picked AS (
    SELECT p.ctid, p.plain
    FROM (SELECT * FROM lane WHERE due_at <= :now::float8 ORDER BY priority DESC, due_at) l
    CROSS JOIN LATERAL (
        SELECT c.ctid, c.plain FROM holdfast_job c
        WHERE c.shard = :shard AND c.owner IS NULL AND c.status = 'queued'
          AND c.queue = l.queue AND c.priority = l.priority AND c.due_at <= :now::float8
        ORDER BY c.due_at LIMIT :room::int
        FOR UPDATE SKIP LOCKED
    ) p
    WHERE EXISTS (SELECT FROM lease)
    LIMIT :room::int
),
claimed AS (
    UPDATE holdfast_job j
    SET owner = :worker::text, ticket = :ticket::int8, claims = j.claims + 1
    WHERE j.ctid = ANY(ARRAY(SELECT ctid FROM picked WHERE NOT plain))
    RETURNING j.id, j.name, j.payload, j.queue, j.priority, j.due_at, j.attempt, j.claims, j.losses, j.expires_at, j.gate,
              j.gate_rule
),
loose AS (
    DELETE FROM holdfast_job j WHERE j.ctid = ANY(ARRAY(SELECT ctid FROM picked WHERE plain))
    RETURNING j.id, j.name, j.payload, j.queue, j.priority, j.created_at, j.due_at
),
bundle AS (
    INSERT INTO holdfast_bundle
        (shard, worker, ticket, gone, ids, names, payloads, queues, priorities, created_ats, due_ats)
    SELECT :shard, :worker::text, :ticket::int8, repeat('0', count(*)::int)::varbit, array_agg(id), array_agg(name),
           array_agg(payload), array_agg(queue), array_agg(priority), array_agg(created_at), array_agg(due_at)
    FROM loose HAVING count(*) > 0
    RETURNING ids, names, payloads, queues, priorities, due_ats
),
taken AS (
    SELECT c.*, NULL::text[] AS ids, NULL::text[] AS names, NULL::bytea[] AS payloads, NULL::text[] AS queues,
           NULL::int[] AS priorities, NULL::float8[] AS due_ats
    FROM claimed c
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, b.* FROM bundle b
)
SELECT c.*,
       (
           SELECT min(n.due_at)
           FROM lane l CROSS JOIN LATERAL (
               SELECT i.due_at FROM holdfast_job i
               WHERE i.shard = :shard AND i.owner IS NULL AND i.status = 'queued'
                 AND i.queue = l.queue AND i.priority = l.priority AND i.due_at > :now::float8
               ORDER BY i.due_at LIMIT 1
           ) n
       ) AS next_due
FROM lease LEFT JOIN taken c ON true

-- name: jobs_under
-- index: holdfast_job_owner, holdfast_bundle primary key
SELECT id, name, payload, queue, priority, due_at, attempt, claims, losses, expires_at, gate, gate_rule, ticket,
       NULL::int AS place, NULL::int AS size
FROM holdfast_job WHERE shard = :shard AND owner = :worker::text AND ticket = ANY(:tickets::int8[])
UNION ALL
SELECT id, name, payload, queue, priority, due_at, 1, 1, 0, NULL, NULL, NULL, ticket, place, size
FROM holdfast_bundled WHERE shard = :shard AND worker = :worker::text AND ticket = ANY(:tickets::int8[])

-- One settlement of many jobs is one statement, put together from the parts it needs, in this order.

-- name: settle_lease
-- index: holdfast_lease primary key
WITH lease AS (
    SELECT worker FROM holdfast_lease WHERE shard = :shard AND worker = :worker::text FOR KEY SHARE
)

-- name: settle_gone
-- index: holdfast_job primary key
, gone AS (
    DELETE FROM holdfast_job j
    USING (
        SELECT :shard AS shard, u.* FROM unnest(:gone_ids::text[], :gone_claims::int[]) AS u (id, claim) OFFSET 0
    ) u
    WHERE j.shard = ANY(ARRAY[u.shard]) AND j.id = u.id AND (j.owner = :worker::text) IS TRUE AND j.claims = u.claim
      AND EXISTS (SELECT FROM lease)
    RETURNING j.id, j.waiter
)

-- name: settle_kept
-- index: holdfast_job primary key
-- A job that was to be tried again, and meanwhile cancelled, is cancelled.
, kept AS (
    UPDATE holdfast_job j
    SET status = CASE WHEN u.status = 'queued' AND j.cancelled THEN 'cancelled' ELSE u.status END,
        owner = NULL, due_at = coalesce(u.due_at, j.due_at), attempt = j.attempt + u.failed,
        losses = CASE WHEN u.status = 'queued' AND u.failed = 0 THEN j.losses ELSE 0 END,
        ended_at = coalesce(u.ended_at, CASE WHEN j.cancelled THEN u.due_at END),
        keep_until = coalesce(u.keep_until, CASE WHEN u.status = 'queued' AND j.cancelled THEN u.due_at + 3600 END),
        reason = u.reason, outcome = coalesce(u.outcome, j.outcome), gate_paid = j.gate_paid AND u.failed = 0
    FROM (
        SELECT :shard AS shard, k.*
        FROM unnest(
            :kept_ids::text[], :kept_claims::int[], :statuses::text[], :kept_due_ats::float8[], :failed::int[],
            :ended_ats::float8[], :keep_untils::float8[], :reasons::text[], :outcomes::bytea[]
        ) AS k (id, claim, status, due_at, failed, ended_at, keep_until, reason, outcome) OFFSET 0
    ) u
    WHERE j.shard = ANY(ARRAY[u.shard]) AND j.id = u.id AND (j.owner = :worker::text) IS TRUE AND j.claims = u.claim
      AND EXISTS (SELECT FROM lease)
    RETURNING j.id, CASE WHEN j.status <> 'queued' THEN j.waiter END AS waiter
)

-- name: settle_bundled
-- index: holdfast_bundle primary key
-- `fresh`: what was settled now, the places of `mask` that had not gone before.
, bundle AS (
    SELECT b.*, u.mask::varbit AS mask
    FROM unnest(:tickets::int8[], :masks::text[]) AS u (ticket, mask)
    CROSS JOIN LATERAL (
        SELECT b.shard, b.worker, b.ticket, b.gone FROM holdfast_bundle b
        WHERE b.shard = :shard AND b.worker = :worker::text AND b.ticket = u.ticket AND EXISTS (SELECT FROM lease)
        FOR UPDATE
    ) b
),
dealt AS (
    SELECT shard, worker, ticket, gone | mask AS gone, mask & ~gone AS fresh, position(B'0' IN gone | mask) = 0 AS whole
    FROM bundle
),
emptied AS (
    DELETE FROM holdfast_bundle b USING dealt d
    WHERE b.shard = ANY(ARRAY[d.shard]) AND b.worker = d.worker AND b.ticket = d.ticket AND d.whole
),
lessened AS (
    UPDATE holdfast_bundle b SET gone = d.gone FROM dealt d
    WHERE b.shard = ANY(ARRAY[d.shard]) AND b.worker = d.worker AND b.ticket = d.ticket AND NOT d.whole
)

-- name: settle_bundled_sources
, settled AS (
    SELECT u.id
    FROM unnest(:sources::text[], :source_tickets::int8[], :source_places::int[]) AS u (id, ticket, place)
    JOIN dealt d ON d.ticket = u.ticket
    WHERE get_bit(d.fresh, u.place) = 1
)

-- name: settle_bundled_answer
SELECT array_agg(d.ticket) AS tickets, array_agg(d.fresh::text) AS fresh, (SELECT count(*) FROM lease) AS alive FROM dealt d

-- Unpacking makes jobs of bundles rows, held as before. It is put together from how they are sought, and the rest: by their
-- ids, by their ids among those that one worker holds, or by their places.

-- name: unpack_any
-- index: holdfast_bundle whole (a row for each claim whose jobs run), then its primary key
WITH bundle AS (
    SELECT b.* FROM holdfast_bundle b
    WHERE b.shard = :shard
      AND EXISTS (SELECT FROM unnest(b.ids) AS x (id) WHERE (x.id IN (SELECT unnest(:ids::text[]))) IS TRUE)
    ORDER BY b.worker, b.ticket FOR UPDATE
)

-- name: unpack_own
-- index: holdfast_bundle primary key
WITH bundle AS (
    SELECT b.* FROM holdfast_bundle b
    WHERE b.shard = :shard AND b.worker = :worker::text
      AND EXISTS (SELECT FROM unnest(b.ids) AS x (id) WHERE (x.id IN (SELECT unnest(:ids::text[]))) IS TRUE)
    ORDER BY b.ticket FOR UPDATE
)

-- name: unpack_placed
-- index: holdfast_bundle primary key
WITH bundle AS (
    SELECT b.*
    FROM unnest(:tickets::int8[]) AS u (ticket)
    CROSS JOIN LATERAL (
        SELECT b.* FROM holdfast_bundle b
        WHERE b.shard = :shard AND b.worker = :worker::text AND b.ticket = u.ticket FOR UPDATE
    ) b
)

-- name: unpack_rest
, wanted AS (
    SELECT b.shard, b.worker, b.ticket, b.gone, p.*
    FROM bundle b
    CROSS JOIN LATERAL unnest(b.ids, b.names, b.payloads, b.queues, b.priorities, b.created_ats, b.due_ats)
        WITH ORDINALITY AS p (id, name, payload, queue, priority, created_at, due_at, place)
    WHERE (p.id IN (SELECT unnest(:ids::text[]))) IS TRUE AND get_bit(b.gone, p.place::int - 1) = 0
),
made AS (
    INSERT INTO holdfast_job
        (shard, id, name, payload, queue, priority, created_at, due_at, claims, owner, ticket)
    SELECT shard, id, name, payload, queue, priority, created_at, due_at, 1, worker, ticket FROM wanted ORDER BY id
    ON CONFLICT DO NOTHING
    RETURNING id
),
dealt AS (
    SELECT shard, worker, ticket, bit_or(set_bit(gone::bit varying, place::int - 1, 1)) AS gone
    FROM wanted JOIN made USING (id) GROUP BY shard, worker, ticket
),
emptied AS (
    DELETE FROM holdfast_bundle b USING dealt d
    WHERE b.shard = ANY(ARRAY[d.shard]) AND b.worker = d.worker AND b.ticket = d.ticket AND position(B'0' IN d.gone) = 0
),
lessened AS (
    UPDATE holdfast_bundle b SET gone = d.gone FROM dealt d
    WHERE b.shard = ANY(ARRAY[d.shard]) AND b.worker = d.worker AND b.ticket = d.ticket AND position(B'0' IN d.gone) > 0
)
SELECT id FROM made

-- name: settle_followed
-- index: the primary key and holdfast_job_unique, to leave alone what is there
, followed AS (
    INSERT INTO holdfast_job
        (shard, id, name, payload, queue, priority, created_at, due_at, unique_key, expires_at, waiter, gate, gate_rule)
    SELECT :shard, s.id, s.name, s.payload, s.queue, s.priority, s.created_at, s.due_at, s.unique_key, s.expires_at,
           s.waiter, s.gate, s.gate_rule
    FROM unnest(
        :follow_sources::text[], :follow_ids::text[], :follow_names::text[], :follow_payloads::bytea[],
        :follow_queues::text[], :follow_priorities::int[], :follow_created_ats::float8[], :follow_due_ats::float8[],
        :follow_uniques::text[], :follow_expires_ats::float8[], :follow_waiters::text[], :follow_gates::text[],
        :follow_gate_rules::text[]
    ) AS s (
        source, id, name, payload, queue, priority, created_at, due_at, unique_key, expires_at, waiter, gate, gate_rule
    )
    WHERE (s.source IN (SELECT id FROM settled)) IS TRUE
    ON CONFLICT DO NOTHING
)

-- name: settle_answer
SELECT array_agg(s.id) AS settled,
       array_agg(s.id) FILTER (WHERE s.waiter IS NOT NULL) AS ids,
       array_agg(s.waiter) FILTER (WHERE s.waiter IS NOT NULL) AS waiters,
       (SELECT count(*) FROM lease) AS alive
FROM settled s

-- name: job_unwanted
-- index: holdfast_job primary key, holdfast_bundle primary key
SELECT u.id
FROM unnest(:ids::text[]) AS u (id)
LEFT JOIN LATERAL (
    SELECT true AS wanted FROM holdfast_job j
    WHERE j.shard = :shard AND j.id = u.id AND (j.owner = :worker::text) IS TRUE AND NOT j.cancelled OFFSET 0
) j ON true
WHERE j.wanted IS NULL
  AND (u.id IN (SELECT id FROM holdfast_bundled WHERE shard = :shard AND worker = :worker::text)) IS NOT TRUE

-- name: wait_for_jobs
-- index: holdfast_lease primary key
-- Does not wait for the disk: a word lost with the server costs one wait until the next look.
UPDATE holdfast_lease SET waits = :waits::bool WHERE shard = :shard AND worker = :worker::text
RETURNING set_config('synchronous_commit', 'off', true)

-- name: report
-- index: holdfast_job primary key
UPDATE holdfast_job j SET progress = u.progress
FROM (SELECT :shard AS shard, r.* FROM unnest(:ids::text[], :progress::bytea[]) AS r (id, progress) OFFSET 0) u
WHERE j.shard = ANY(ARRAY[u.shard]) AND j.id = u.id AND (j.owner = :worker::text) IS TRUE
RETURNING j.id

-- name: pause_queues
INSERT INTO holdfast_paused_queue (shard, queue, since)
SELECT :shard, u.queue, :now::float8 FROM unnest(:queues::text[]) AS u (queue)
ON CONFLICT DO NOTHING

-- name: resume_queues
-- The answer says whether some worker waits for jobs.
WITH resumed AS (
    DELETE FROM holdfast_paused_queue WHERE shard = :shard AND queue = ANY(:queues::text[]) RETURNING queue
)
SELECT count(*) > 0 AND EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND waits) AS waits FROM resumed

-- name: paused_queues
SELECT queue, since FROM holdfast_paused_queue WHERE shard = :shard ORDER BY queue

-- name: depths
-- index: holdfast_job_claimable (one probe for each queue, then at most so many entries of it), holdfast_job_owner,
-- holdfast_job_ended; holdfast_bundle whole (a row for each claim whose jobs run)
WITH RECURSIVE line AS (
    (
        SELECT queue FROM holdfast_job WHERE shard = :shard AND owner IS NULL AND status = 'queued'
        ORDER BY queue LIMIT 1
    )
    UNION ALL
    SELECT n.queue
    FROM line l
    CROSS JOIN LATERAL (
        SELECT j.queue FROM holdfast_job j
        WHERE j.shard = :shard AND j.owner IS NULL AND j.status = 'queued' AND j.queue > l.queue
        ORDER BY j.queue LIMIT 1
    ) n
),
queued AS (
    SELECT l.queue, n.number, n.delayed
    FROM line l
    CROSS JOIN LATERAL (
        SELECT count(*) AS number, count(*) FILTER (WHERE due_at > :now::float8 AND due_at < 1e15) AS delayed
        FROM (
            SELECT j.due_at FROM holdfast_job j
            WHERE j.shard = :shard AND j.owner IS NULL AND j.status = 'queued' AND j.queue = l.queue
            ORDER BY j.queue, j.priority, j.due_at LIMIT :most::int
        ) s
    ) n
)
SELECT queue, 'queued' AS kind, number FROM queued
UNION ALL
SELECT queue, 'delayed', delayed FROM queued
UNION ALL
SELECT queue, 'running', count(*)
FROM (
    (SELECT queue FROM holdfast_job WHERE owner IS NOT NULL AND (shard = :shard) IS TRUE ORDER BY owner LIMIT :most::int)
    UNION ALL
    (SELECT queue FROM holdfast_bundled WHERE shard = :shard LIMIT :most::int)
) r
GROUP BY queue
UNION ALL
SELECT queue, 'dead', count(*)
FROM (
    SELECT queue FROM holdfast_job WHERE status = 'dead' AND (shard = :shard) IS TRUE ORDER BY created_at LIMIT :most::int
) d
GROUP BY queue

-- Gates. Whoever looks at one, or lets the next job through, has locked it first, so that nothing changes in between: by one of
-- 64 locks, which come in one order. Jobs before another one are those that run, and those that were sent before it and
-- are due.

-- name: lock_gates
SELECT pg_advisory_xact_lock(1734437990, slot) IS NULL AS locked
FROM (SELECT DISTINCT hashtext(g.gate) & 63 AS slot FROM unnest(:gates::text[]) AS g (gate) ORDER BY slot) s

-- name: at_gates
-- index: holdfast_job primary key, holdfast_job_gate, holdfast_job_inside, holdfast_gate primary key
SELECT u.id, j.gate_paid, n.next_at,
       (
           SELECT count(*) FROM (
               SELECT FROM holdfast_job e
               WHERE e.shard = :shard AND e.gate = u.gate AND e.gate IS NOT NULL AND e.status = 'queued'
                 AND (-e.priority, e.created_at, e.id) < (-j.priority, j.created_at, j.id)
                 AND (e.owner IS NOT NULL OR e.due_at <= :now::float8 OR e.due_at >= 1e15)
               ORDER BY -e.priority, e.created_at, e.id LIMIT u.room
           ) earlier
       ) + (
           SELECT count(*) FROM (
               SELECT FROM holdfast_job r
               WHERE r.shard = :shard AND r.gate = u.gate AND r.gate IS NOT NULL AND r.owner IS NOT NULL
                 AND r.admitted = r.claims
                 AND (-r.priority, r.created_at, r.id) > (-j.priority, j.created_at, j.id)
               LIMIT u.room
           ) later
       ) AS before
FROM unnest(:ids::text[], :claims::int[], :gates::text[], :rooms::int[]) AS u (id, claim, gate, room)
CROSS JOIN LATERAL (
    SELECT j.priority, j.created_at, j.id, j.gate_paid FROM holdfast_job j
    WHERE j.shard = :shard AND j.id = u.id AND (j.owner = :worker::text) IS TRUE AND j.claims = u.claim OFFSET 0
) j
LEFT JOIN LATERAL (
    SELECT g.next_at FROM holdfast_gate g WHERE g.shard = :shard AND g.name = u.gate OFFSET 0
) n ON true

-- name: pass_gates
-- index: holdfast_job primary key
-- Those with a moment go back, and come again then; the others may run.
UPDATE holdfast_job j
SET owner = CASE WHEN u.due_at IS NULL THEN j.owner END, due_at = coalesce(u.due_at, j.due_at),
    admitted = CASE WHEN u.due_at IS NULL THEN j.claims END, gate_paid = u.paid
FROM (
    SELECT :shard AS shard, p.* FROM unnest(:ids::text[], :due_ats::float8[], :paid::bool[]) AS p (id, due_at, paid) OFFSET 0
) u
WHERE j.shard = ANY(ARRAY[u.shard]) AND j.id = u.id AND (j.owner = :worker::text) IS TRUE

-- name: keep_rates
-- index: holdfast_gate primary key
INSERT INTO holdfast_gate (shard, name, next_at)
SELECT :shard, u.name, u.next_at FROM unnest(:names::text[], :next_ats::float8[]) AS u (name, next_at)
ON CONFLICT (shard, name) DO UPDATE SET next_at = excluded.next_at

-- name: open_gates
-- index: holdfast_job_gate, in order
-- `waits`: whether some worker waits for jobs.
UPDATE holdfast_job SET due_at = created_at
WHERE ctid = ANY(ARRAY(
    SELECT b.ctid
    FROM unnest(:gates::text[], :counts::int[]) AS u (gate, count)
    CROSS JOIN LATERAL (
        SELECT b.ctid FROM holdfast_job b
        WHERE b.shard = :shard AND b.gate = u.gate AND b.gate IS NOT NULL AND b.status = 'queued'
          AND b.owner IS NULL AND b.due_at >= 1e15
        ORDER BY -b.priority, b.created_at, b.id LIMIT u.count
        FOR NO KEY UPDATE
    ) b
))
RETURNING EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND waits) AS waits

-- name: has_lease
-- index: holdfast_lease primary key
SELECT worker FROM holdfast_lease WHERE shard = :shard AND worker = :worker::text FOR KEY SHARE

-- name: gates_of
-- index: holdfast_job primary key
SELECT j.gate
FROM unnest(:ids::text[]) AS u (id)
CROSS JOIN LATERAL (
    SELECT j.gate FROM holdfast_job j
    WHERE j.shard = :shard AND j.id = u.id AND (j.gate IS NOT NULL) IS TRUE AND (j.status = 'queued') IS TRUE OFFSET 0
) j

-- name: gates_held
-- index: holdfast_job_owner
SELECT gate FROM holdfast_job WHERE shard = :shard AND owner = :worker::text AND (gate IS NOT NULL) IS TRUE

-- name: sweep_gates
-- index: holdfast_gate_next
DELETE FROM holdfast_gate WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM holdfast_gate WHERE (shard = :shard) IS TRUE AND next_at < :now::float8
    ORDER BY next_at LIMIT :batch::int FOR UPDATE SKIP LOCKED
))

-- name: await_job
-- index: holdfast_job primary key
-- `passed_over`: a claim that went on meanwhile has left this one alone, since its row was about to change. In a bundle it
-- could not say who waits.
-- Does not wait for the disk, and so keeps claim and settlement waiting for a shorter time: clients look now and then anyway.
WITH target AS (
    SELECT j.*
    FROM unnest(:ids::text[]) AS u (id)
    CROSS JOIN LATERAL (
        SELECT j.shard, j.id FROM holdfast_job j
        WHERE j.shard = :shard AND j.id = u.id AND j.status = 'queued'
          AND strpos(' ' || coalesce(j.waiter, '') || ' ', ' ' || :waiter::text || ' ') = 0
        FOR NO KEY UPDATE
    ) j
)
UPDATE holdfast_job j
SET plain = false, waiter = CASE
        WHEN j.waiter IS NULL OR length(j.waiter) > 1000 THEN :waiter::text ELSE j.waiter || ' ' || :waiter::text
    END
FROM target t WHERE j.shard = ANY(ARRAY[t.shard]) AND j.id = t.id
RETURNING j.owner IS NULL AND EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND waits) AS passed_over,
          set_config('synchronous_commit', 'off', true)

-- name: look_at_jobs
-- index: holdfast_job primary key; holdfast_bundle whole (a row for each claim whose jobs run), if not all are found
WITH found AS MATERIALIZED (
    SELECT j.*
    FROM unnest(:ids::text[]) AS u (id)
    CROSS JOIN LATERAL (
        SELECT id, name, status, queue, priority, attempt, created_at, due_at, ended_at, owner, reason, payload, outcome,
               progress, waiter
        FROM holdfast_job j WHERE j.shard = :shard AND j.id = u.id OFFSET 0
    ) j
)
SELECT f.*, false AS bundled FROM found f
UNION ALL
SELECT id, name, 'queued', queue, priority, 1, created_at, due_at, NULL, worker, NULL, payload, NULL, NULL, NULL, true
FROM holdfast_bundled
WHERE (SELECT count(*) FROM found) < cardinality(:ids::text[])
  AND shard = :shard AND (id IN (SELECT unnest(:ids::text[]))) IS TRUE
  AND EXISTS (SELECT FROM unnest(ids) AS x (id) WHERE (x.id IN (SELECT unnest(:ids::text[]))) IS TRUE)

-- name: find_jobs
-- index: that of its conditions; without any it reads all jobs
-- The shard is checked and not sought (IS TRUE), as in other listings.
SELECT id, name, status, queue, priority, attempt, created_at, due_at, ended_at, owner, reason, payload, outcome, progress
FROM holdfast_known_job WHERE (shard = :shard) IS TRUE

-- name: count_jobs
SELECT count(*) AS number FROM holdfast_known_job WHERE (shard = :shard) IS TRUE

-- name: find_jobs_end
ORDER BY created_at DESC, id DESC LIMIT :limit::int

-- name: jobs_by_name
AND (name = :name::text OR right(name, length(:function::text)) IN (:function::text, :inner::text))

-- name: jobs_by_queue
AND queue = :queue::text

-- name: jobs_that_wait
-- index: holdfast_job_claimable
AND status = 'queued' AND owner IS NULL

-- name: jobs_that_run
-- index: holdfast_job_owner
AND status = 'queued' AND owner IS NOT NULL

-- name: jobs_by_end
-- index: holdfast_job_ended, in order; only what its condition says leads to it
AND status = :status::text AND status <> 'queued'

-- name: jobs_by_reason
AND reason = :reason::text

-- name: jobs_by_ids
AND shard = :shard AND id = ANY(:ids::text[])

-- name: jobs_by_page
AND (created_at, id) < (:page_at::float8, :page_id::text)

-- name: cancel_jobs
-- index: holdfast_job primary key
-- Those behind a gate only where that is locked.
WITH target AS (
    SELECT j.*
    FROM unnest(:ids::text[]) AS u (id)
    CROSS JOIN LATERAL (
        SELECT j.shard, j.id FROM holdfast_job j
        WHERE j.shard = :shard AND j.id = u.id AND j.status = 'queued'
          AND (j.gate IS NULL OR j.gate = ANY(:gates::text[]))
        FOR NO KEY UPDATE
    ) j
)
UPDATE holdfast_job j
SET cancelled = true,
    status = CASE WHEN j.owner IS NULL THEN 'cancelled' ELSE j.status END,
    ended_at = CASE WHEN j.owner IS NULL THEN :now::float8 END,
    keep_until = CASE WHEN j.owner IS NULL THEN :keep_until::float8 END
FROM target t WHERE j.shard = ANY(ARRAY[t.shard]) AND j.id = t.id
RETURNING j.id, j.owner, j.waiter, j.gate

-- name: replay_jobs
-- index: holdfast_job primary key, holdfast_job_unique
-- Of several ended jobs with one unique text the first is queued.
WITH target AS (
    SELECT j.*
    FROM unnest(:ids::text[]) AS u (id)
    CROSS JOIN LATERAL (
        SELECT j.shard, j.id, j.unique_key FROM holdfast_job j
        WHERE j.shard = :shard AND j.id = u.id AND (j.status <> 'queued') IS TRUE
        FOR NO KEY UPDATE
    ) j
)
UPDATE holdfast_job j
SET status = 'queued', due_at = :now::float8, attempt = 1, losses = 0, ended_at = NULL, keep_until = NULL,
    reason = NULL, outcome = NULL, progress = NULL, cancelled = false, expires_at = NULL, gate_paid = false
FROM target t
WHERE j.shard = ANY(ARRAY[t.shard]) AND j.id = t.id
  AND (t.unique_key IS NULL OR (
      t.id = (SELECT min(o.id) FROM target o WHERE o.unique_key = t.unique_key)
      AND NOT EXISTS (
          SELECT FROM holdfast_job l
          WHERE l.shard = :shard AND l.unique_key = t.unique_key AND l.unique_key IS NOT NULL AND l.status = 'queued'
      )
  ))
RETURNING j.id, EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND waits) AS waits

-- name: purge_jobs
-- index: holdfast_job primary key
DELETE FROM holdfast_job WHERE ctid = ANY(ARRAY(
    SELECT j.ctid
    FROM unnest(:ids::text[]) AS u (id)
    CROSS JOIN LATERAL (
        SELECT j.ctid FROM holdfast_job j WHERE j.shard = :shard AND j.id = u.id AND (j.status <> 'queued') IS TRUE FOR UPDATE
    ) j
))
RETURNING id

-- name: recover_bundles
-- index: holdfast_bundle primary key
-- What is unpacked meanwhile is unpacked before this, and found by the statement after it.
WITH bundle AS (
    DELETE FROM holdfast_bundle WHERE shard = :shard AND worker = :worker::text
    RETURNING gone, ids, names, payloads, queues, priorities, created_ats
)
INSERT INTO holdfast_job (shard, id, name, payload, queue, priority, created_at, due_at, claims, losses)
SELECT :shard, p.id, p.name, p.payload, p.queue, p.priority, p.created_at, :now::float8, 1, :lost::int
FROM bundle b
CROSS JOIN LATERAL unnest(b.ids, b.names, b.payloads, b.queues, b.priorities, b.created_ats)
    WITH ORDINALITY AS p (id, name, payload, queue, priority, created_at, place)
WHERE get_bit(b.gone, p.place::int - 1) = 0
ORDER BY p.id
ON CONFLICT DO NOTHING

-- name: recover_jobs
-- index: holdfast_job_owner
-- Whoever asked to cancel it while it ran has what he wanted: it runs no more.
WITH held AS (
    SELECT shard, id FROM holdfast_job WHERE shard = :shard AND owner = :worker::text
    ORDER BY id || '' FOR NO KEY UPDATE
)
UPDATE holdfast_job j
SET owner = NULL, due_at = :now::float8, losses = j.losses + :lost::int,
    status = CASE WHEN j.cancelled THEN 'cancelled' ELSE j.status END,
    ended_at = CASE WHEN j.cancelled THEN :now::float8 END,
    keep_until = CASE WHEN j.cancelled THEN :now::float8 + 3600 END
FROM held h WHERE j.shard = ANY(ARRAY[h.shard]) AND j.id = h.id
RETURNING CASE WHEN j.cancelled THEN j.gate END AS gate

-- name: sweep_jobs
-- index: holdfast_job_kept
DELETE FROM holdfast_job WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM holdfast_job
    WHERE (shard = :shard) IS TRUE AND keep_until < :now::float8 AND keep_until IS NOT NULL
    ORDER BY keep_until LIMIT :batch::int FOR UPDATE SKIP LOCKED
))
RETURNING id
