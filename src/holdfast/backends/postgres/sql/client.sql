-- What clients ask. `:shard` is given with every statement. Whatever changes several instances locks them in the order
-- of their ids first, so that no two of these statements can wait for each other in a circle: arrays come sorted, and
-- ORDER BY id || '' sorts as Python does (keys are compared byte by byte) without leading the planner to an index.
-- Rows are always reached from what is given, key by key, however small a table seemed when the plan was made: a lateral
-- subquery with a lock or an OFFSET is never turned around by the planner, nor is a join with `shard = ANY(ARRAY[shard])`
-- (a plain = would make the whole index, read in its order, look like another way).

-- name: start
-- index: the primary keys, to leave alone what is there; holdfast_lease whole (a row per worker)
-- The wrapping of IN by IS TRUE keeps it a hashed lookup: as a join, 2,000 rows by 2,000 would be compared in pairs.
-- A notification makes commits wait for each other, so there is one only where some worker has nothing to do; then it
-- wakes that worker a round trip earlier than one sent afterwards.
WITH made AS (
    INSERT INTO holdfast_instance
        (shard, id, name, program, queue, priority, due_at, base_at, created_at, parent, parent_call, waiter, tags)
    SELECT :shard, s.id, s.name, s.program, s.queue, s.priority, s.due_at, s.created_at, s.created_at,
           s.parent, s.parent_call, s.waiter, s.tags
    FROM unnest(
        :ids::text[], :names::text[], :programs::text[], :queues::text[], :priorities::int[], :due_ats::float8[],
        :created_ats::float8[], :parents::text[], :parent_calls::text[], :waiters::text[], :tags::text[]
    ) AS s (id, name, program, queue, priority, due_at, created_at, parent, parent_call, waiter, tags)
    ON CONFLICT DO NOTHING
    RETURNING id
),
journal AS (
    INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload)
    SELECT :shard, s.id, 0, s.at, true, s.payload
    FROM unnest(:ids::text[], :created_ats::float8[], :inputs::bytea[]) AS s (id, at, payload)
    WHERE (s.id IN (SELECT id FROM made)) IS TRUE
)
SELECT array_agg(made.id) AS ids,
       CASE
           WHEN count(*) > 0 AND EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND idle)
               THEN pg_notify(:channel::text, '') IS NOT NULL
       END AS told
FROM made

-- name: deliver
-- index: holdfast_instance primary key, holdfast_inbox primary key
-- The row lock puts this in order with the owner's release: either it sees the new count, or this sees no owner.
WITH target AS (
    SELECT :shard AS shard, u.id, u.at
    FROM unnest(:ids::text[], :ats::float8[]) AS u (id, at)
    CROSS JOIN LATERAL (
        SELECT i.id FROM holdfast_instance i
        WHERE i.shard = :shard AND i.id = u.id AND i.status IN ('pending', 'parked')
        FOR NO KEY UPDATE
    ) i
),
put AS (
    INSERT INTO holdfast_inbox (shard, instance, id, kind, key, payload, at)
    SELECT :shard, d.*
    FROM unnest(
        :instances::text[], :delivery_ids::text[], :kinds::text[], :keys::text[], :payloads::bytea[],
        :delivery_ats::float8[]
    ) AS d (instance, id, kind, key, payload, at)
    WHERE (d.instance IN (SELECT id FROM target)) IS TRUE
    ON CONFLICT DO NOTHING
)
UPDATE holdfast_instance i
SET signals = i.signals + 1,
    due_at = CASE
        WHEN i.owner IS NULL AND i.status = 'pending' THEN least(coalesce(i.due_at, t.at), t.at) ELSE i.due_at
    END
FROM target t WHERE i.shard = ANY(ARRAY[t.shard]) AND i.id = t.id
RETURNING i.id, i.owner, i.status, EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND idle) AS idle

-- name: await_ending
-- index: holdfast_instance primary key
-- Channels of clients, who look now and then anyway, make room for others; parents that have joined (hf_i_) never do.
-- `passed_over`: a claim that went on meanwhile has left this one alone, since its row was about to change.
WITH target AS (
    SELECT shard, id FROM holdfast_instance
    WHERE shard = :shard AND id = ANY(:ids::text[]) AND status IN ('pending', 'parked')
      AND strpos(' ' || coalesce(waiter, '') || ' ', ' ' || :waiter::text || ' ') = 0
    ORDER BY id || '' FOR NO KEY UPDATE
)
UPDATE holdfast_instance i
SET waiter = CASE
        WHEN i.waiter IS NULL THEN :waiter::text
        WHEN length(i.waiter) <= 1000 THEN i.waiter || ' ' || :waiter::text
        ELSE concat_ws(' ', (
            SELECT string_agg(w, ' ') FROM unnest(string_to_array(i.waiter, ' ')) w WHERE starts_with(w, 'hf_i_')
        ), :waiter::text)
    END
FROM target t WHERE i.shard = ANY(ARRAY[t.shard]) AND i.id = t.id
RETURNING i.owner IS NULL AND i.due_at IS NOT NULL
          AND EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND idle) AS passed_over

-- name: view
-- index: holdfast_instance primary key
SELECT id, name, program, status, queue, priority, created_at, ended_at, due_at, owner, parent, parent_call, reason, tags,
       outcome
FROM holdfast_instance WHERE shard = :shard AND id = ANY(:ids::text[])

-- name: history
-- index: the primary key of each of the journal's partitions
-- A row that is being carried into a younger partition is seen before or after its move, never twice.
SELECT seq, at, "full", payload FROM holdfast_journal
WHERE shard = :shard AND instance = :id::text AND seq > :after::int ORDER BY seq LIMIT :limit::int

-- name: latest_steps
-- index: holdfast_instance primary key; the primary key of the journal's partitions not older than the base
SELECT j.instance, j.seq, j.at, j."full", j.payload
FROM unnest(:ids::text[]) AS u (id)
CROSS JOIN LATERAL (
    SELECT i.id, i.base_seq, i.base_at FROM holdfast_instance i WHERE i.shard = :shard AND i.id = u.id OFFSET 0
) i
CROSS JOIN LATERAL (
    SELECT s.instance, s.seq, s.at, s."full", s.payload FROM holdfast_journal s
    WHERE s.shard = :shard AND s.instance = i.id AND s.seq >= i.base_seq AND s.at >= i.base_at - :slack::float8
    OFFSET 0
) j
ORDER BY j.instance, j.seq

-- name: family
-- index: holdfast_instance primary key, holdfast_instance_parent
WITH RECURSIVE family AS (
    SELECT id COLLATE "C" AS id FROM unnest(:ids::text[]) AS u (id)
    UNION
    SELECT c.id FROM family f CROSS JOIN LATERAL (
        SELECT c.id FROM holdfast_instance c WHERE (c.shard = :shard) IS TRUE AND c.parent = f.id OFFSET 0
    ) c
)
SELECT i.id, i.name, i.program, i.status, i.queue, i.priority, i.created_at, i.ended_at, i.due_at, i.owner, i.parent,
       i.parent_call, i.reason, i.tags, NULL::bytea AS outcome
FROM family f CROSS JOIN LATERAL (
    SELECT i.* FROM holdfast_instance i WHERE i.shard = :shard AND i.id = f.id OFFSET 0
) i

-- name: resume
-- index: holdfast_instance primary key
WITH target AS (
    SELECT shard, id FROM holdfast_instance
    WHERE shard = :shard AND id = ANY(:ids::text[]) AND status = 'parked'
    ORDER BY id || '' FOR NO KEY UPDATE
)
UPDATE holdfast_instance i SET status = 'pending', due_at = :now::float8, reason = NULL
FROM target t WHERE i.shard = ANY(ARRAY[t.shard]) AND i.id = t.id
RETURNING i.id, EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND idle) AS idle

-- name: dismiss_locked
-- index: holdfast_instance primary key
-- Those that are to end and those that are told of it; the statements after this one see all that was written before.
SELECT i.id
FROM unnest(:ids::text[]) AS u (id)
CROSS JOIN LATERAL (
    SELECT i.id FROM holdfast_instance i WHERE i.shard = :shard AND i.id = u.id FOR NO KEY UPDATE
) i

-- name: dismiss
-- index: holdfast_instance, holdfast_inbox and holdfast_call primary keys; the primary key of each of the journal's
--        partitions
WITH fit AS (
    SELECT :shard AS shard, d.*
    FROM unnest(
        :ids::text[], :seqs::int[], :ats::float8[], :payloads::bytea[], :statuses::text[], :outcomes::bytea[],
        :reasons::text[]
    ) AS d (id, seq, at, payload, status, outcome, reason)
    CROSS JOIN LATERAL (
        SELECT i.id FROM holdfast_instance i
        WHERE i.shard = :shard AND i.id = d.id AND i.owner IS NULL AND i.status IN ('pending', 'parked') OFFSET 0
    ) i
    CROSS JOIN LATERAL (
        SELECT max(j.seq) AS seq FROM holdfast_journal j WHERE j.shard = :shard AND j.instance = d.id
    ) j
    WHERE j.seq = d.seq - 1
),
journal AS (
    INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload)
    SELECT shard, id, seq, at, false, payload FROM fit
),
inbox AS (
    DELETE FROM holdfast_inbox WHERE ctid = ANY(ARRAY(
        SELECT b.ctid FROM fit f
        CROSS JOIN LATERAL (
            SELECT b.ctid FROM holdfast_inbox b WHERE b.shard = :shard AND b.instance = f.id OFFSET 0
        ) b
    ))
),
calls AS (
    DELETE FROM holdfast_call k USING fit f WHERE k.shard = ANY(ARRAY[f.shard]) AND k.instance = f.id
)
UPDATE holdfast_instance i
SET status = f.status, outcome = f.outcome, reason = f.reason, ended_at = f.at, due_at = NULL, recoveries = 0
FROM fit f WHERE i.shard = ANY(ARRAY[f.shard]) AND i.id = f.id
RETURNING i.id, i.waiter

-- name: delete
-- index: holdfast_instance primary key, the primary key of each of the journal's partitions, holdfast_inbox primary key
WITH ended AS (
    SELECT id FROM holdfast_instance
    WHERE shard = :shard AND id = ANY(:ids::text[]) AND status IN ('done', 'failed', 'cancelled')
    ORDER BY id || '' FOR UPDATE
),
journal AS (
    DELETE FROM holdfast_journal WHERE shard = :shard AND instance = ANY(ARRAY(SELECT id FROM ended)) RETURNING seq
),
inbox AS (
    DELETE FROM holdfast_inbox WHERE ctid = ANY(ARRAY(
        SELECT b.ctid FROM ended e
        CROSS JOIN LATERAL (
            SELECT b.ctid FROM holdfast_inbox b WHERE b.shard = :shard AND b.instance = e.id OFFSET 0
        ) b
    ))
),
gone AS (
    DELETE FROM holdfast_instance WHERE shard = :shard AND id = ANY(ARRAY(SELECT id FROM ended)) RETURNING id
)
SELECT id, (SELECT count(*) FROM journal) AS steps FROM gone

-- name: save_programs
WITH new AS (
    SELECT * FROM unnest(:hashes::text[], :names::text[], :texts::text[], :signatures::text[])
        AS p (hash, name, text, signature)
    ORDER BY hash
)
INSERT INTO holdfast_program (hash, name, text, signature, created_at)
SELECT new.*, :now::float8 FROM new
ON CONFLICT DO NOTHING

-- name: load_programs
-- index: holdfast_program primary key
SELECT hash, name, text, signature FROM holdfast_program WHERE hash = ANY(:hashes::text[])

-- name: notify
SELECT pg_notify(channel, said) FROM unnest(:channels::text[], :texts::text[]) AS n (channel, said)
