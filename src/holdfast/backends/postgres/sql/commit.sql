-- One commit of many instances is one statement, put together from the parts its batch needs, in this order.
-- Everything in it depends on the lease: locked before anything else, it is there until the commit is done, or it is
-- gone and nothing happens. All parts see one snapshot; what may have changed since is read through row locks.

-- name: commit_lease
-- index: holdfast_lease primary key
-- FOR KEY SHARE lets heartbeats through (they change no key) and makes whoever deletes the lease wait.
WITH lease AS (
    SELECT worker FROM holdfast_lease WHERE shard = :shard AND worker = :worker::text FOR KEY SHARE
)

-- name: commit_locked
-- index: holdfast_instance primary key
-- The instances whose rows change: by their own commit (`mine`), or because something is delivered to them (`told`).
-- `signals_seen` is what this statement's snapshot knows, `signals` what the locked row says: where they are the same, the
-- snapshot has all that was ever delivered.
, locked AS (
    SELECT :shard AS shard, c.*, i.owner, i.standing, i.signals,
           c.mine AND i.owner = :worker::text AND coalesce(c.claim, i.claims) = i.claims AS held,
           (SELECT v.signals FROM holdfast_instance v WHERE v.shard = :shard AND v.id = c.id) AS signals_seen
    FROM unnest(
        :ids::text[], :mine::bool[], :stepped::bool[], :closes::text[], :statuses::text[], :outcomes::bytea[],
        :reasons::text[], :moments::float8[], :base_seqs::int[], :base_ats::float8[], :told_ats::float8[],
        :claims::int[]
    ) AS c (id, mine, stepped, close, status, outcome, reason, moment, base_seq, base_at, told_at, claim)
    CROSS JOIN LATERAL (
        SELECT i.owner, i.claims, i.status AS standing, i.signals FROM holdfast_instance i
        WHERE i.shard = :shard AND i.id = c.id
        FOR NO KEY UPDATE
    ) i
    WHERE EXISTS (SELECT FROM lease)
)

-- name: commit_append
-- index: the primary key of the partition
-- The lease is enough: an instance leaves a live worker only by that worker's own commits, and a dead one's lease goes
-- first. A repeated commit finds its rows there.
, appended AS (
    INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload)
    SELECT :shard, s.*
    FROM unnest(:step_ids::text[], :step_seqs::int[], :step_ats::float8[], :step_fulls::bool[], :step_payloads::bytea[])
        AS s (instance, seq, at, "full", payload)
    WHERE EXISTS (SELECT FROM lease)
    ON CONFLICT DO NOTHING
    {returning}
)

-- name: commit_append_owned
-- index: the primary key of the partition
-- Where rows are locked anyway, their owner is checked as well.
, appended AS (
    INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload)
    SELECT :shard, s.instance, s.seq, s.at, s."full", s.payload
    FROM unnest(
        :step_ids::text[], :step_seqs::int[], :step_ats::float8[], :step_fulls::bool[], :step_payloads::bytea[],
        :step_locked::bool[]
    ) AS s (instance, seq, at, "full", payload, locked)
    WHERE EXISTS (SELECT FROM lease)
      AND (NOT s.locked OR s.instance IN (SELECT id FROM locked WHERE held))
    ON CONFLICT DO NOTHING
    RETURNING instance
)

-- name: commit_changed
-- index: holdfast_instance primary key, holdfast_inbox primary key
-- `own`: the commit is this owner's, and was not applied by an earlier try (then its steps are not new).
-- `unread`: something is in its inbox that this commit does not consume, so it does not let go.
, judged AS MATERIALIZED (
    SELECT l.*,
           coalesce(l.held AND (NOT l.stepped OR l.id IN (SELECT instance FROM appended)), false) AS own,
           l.told_at IS NOT NULL OR l.signals <> l.signals_seen
               OR l.close = 'release' AND (
                   SELECT true FROM holdfast_inbox b
                   WHERE b.shard = :shard AND b.instance = l.id AND (
                       (b.instance, b.id) IN (
                           SELECT c.instance, c.id
                           FROM unnest(:consumed_instances::text[], :consumed_ids::text[]) AS c (instance, id)
                       )
                   ) IS NOT TRUE
                   LIMIT 1
               ) IS NOT NULL AS unread
    FROM locked l
),
changed AS (
    UPDATE holdfast_instance i
    SET status = CASE
            WHEN j.own AND j.close = 'end' THEN j.status WHEN j.own AND j.close = 'park' THEN 'parked' ELSE i.status
        END,
        owner = CASE
            WHEN j.own AND j.close IN ('end', 'park') THEN NULL
            WHEN j.own AND j.close = 'release' AND NOT j.unread THEN NULL
            ELSE i.owner
        END,
        due_at = CASE
            WHEN j.own AND j.close IN ('end', 'park') THEN NULL
            WHEN j.own AND j.close = 'release' AND NOT j.unread THEN j.moment
            WHEN i.owner IS NULL AND i.status = 'pending' AND j.told_at IS NOT NULL
                THEN least(coalesce(i.due_at, j.told_at), j.told_at)
            ELSE i.due_at
        END,
        signals = i.signals + (j.told_at IS NOT NULL)::int,
        ended_at = CASE WHEN j.own AND j.close = 'end' THEN j.moment ELSE i.ended_at END,
        outcome = CASE WHEN j.own AND j.close = 'end' THEN j.outcome ELSE i.outcome END,
        reason = CASE WHEN j.own AND j.close = 'park' THEN j.reason ELSE i.reason END,
        base_at = CASE WHEN j.own AND j.base_seq > i.base_seq THEN j.base_at ELSE i.base_at END,
        base_seq = CASE WHEN j.own AND j.base_seq > i.base_seq THEN j.base_seq ELSE i.base_seq END,
        recoveries = CASE WHEN j.own THEN 0 ELSE i.recoveries END
    FROM judged j
    WHERE i.shard = ANY(ARRAY[j.shard]) AND i.id = j.id
      AND (j.own OR (j.told_at IS NOT NULL AND i.status IN ('pending', 'parked')))
    RETURNING i.id, i.owner, i.claims, i.status, i.waiter, j.own
)

-- name: commit_started
-- index: the primary keys, to leave alone what is there
, made AS (
    INSERT INTO holdfast_instance
        (shard, id, name, program, queue, priority, due_at, base_at, created_at, parent, parent_call, waiter, tags,
         signals)
    SELECT :shard, s.id, s.name, s.program, s.queue, s.priority, s.due_at, s.created_at, s.created_at,
           s.parent, s.parent_call, s.waiter, s.tags, s.told::int
    FROM unnest(
        :start_ids::text[], :start_names::text[], :start_programs::text[], :start_queues::text[],
        :start_priorities::int[], :start_due_ats::float8[], :start_created_ats::float8[], :start_parents::text[],
        :start_parent_calls::text[], :start_waiters::text[], :start_tags::text[], :start_told::bool[],
        :start_sources::text[]
    ) AS s (id, name, program, queue, priority, due_at, created_at, parent, parent_call, waiter, tags, told, source)
    WHERE EXISTS (SELECT FROM lease) AND (s.source IS NULL OR s.source IN (SELECT instance FROM appended))
    ON CONFLICT DO NOTHING
    RETURNING id
),
seeded AS (
    INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload)
    SELECT :shard, s.id, 0, s.at, true, s.payload
    FROM unnest(:start_ids::text[], :start_created_ats::float8[], :start_inputs::bytea[]) AS s (id, at, payload)
    WHERE (s.id IN (SELECT id FROM made)) IS TRUE
)

-- name: commit_delivered
-- index: holdfast_inbox primary key
, delivered AS (
    INSERT INTO holdfast_inbox (shard, instance, id, kind, key, payload, at)
    SELECT :shard, d.instance, d.id, d.kind, d.key, d.payload, d.at
    FROM unnest(
        :inbox_sources::text[], :inbox_instances::text[], :inbox_ids::text[], :inbox_kinds::text[],
        :inbox_keys::text[], :inbox_payloads::bytea[], :inbox_ats::float8[]
    ) AS d (source, instance, id, kind, key, payload, at)
    WHERE (d.source IS NULL OR d.source IN (SELECT instance FROM appended))
      AND (
          d.instance IN (
              SELECT id FROM judged WHERE standing IN ('pending', 'parked') AND NOT (own AND close = 'end')
          )
          {or_made}
      )
    ON CONFLICT DO NOTHING
)

-- name: commit_consumed
-- index: holdfast_inbox primary key
, consumed AS (
    DELETE FROM holdfast_inbox WHERE ctid = ANY(ARRAY(
        SELECT b.ctid
        FROM unnest(:consumed_instances::text[], :consumed_ids::text[]) AS c (instance, id)
        CROSS JOIN LATERAL (
            SELECT b.ctid FROM holdfast_inbox b
            WHERE b.shard = :shard AND b.instance = c.instance AND b.id = c.id OFFSET 0
        ) b
        WHERE EXISTS (SELECT FROM lease)
    ))
)

-- name: commit_spilled
-- index: holdfast_call primary key
, spilled AS (
    INSERT INTO holdfast_call (shard, instance, id, call, name, queue, payload, due_at, priority, attempt)
    SELECT :shard, c.instance, c.id, c.call, c.name, c.queue, c.payload, c.due_at, c.priority, c.attempt
    FROM unnest(
        :call_sources::text[], :call_instances::text[], :call_ids::text[], :call_calls::text[], :call_names::text[],
        :call_queues::text[], :call_payloads::bytea[], :call_due_ats::float8[], :call_priorities::int[],
        :call_attempts::int[]
    ) AS c (source, instance, id, call, name, queue, payload, due_at, priority, attempt)
    WHERE EXISTS (SELECT FROM lease) AND (c.source IS NULL OR c.source IN (SELECT instance FROM appended))
    ON CONFLICT DO NOTHING
)

-- name: commit_recalled
-- index: holdfast_call primary key
, recalled AS (
    DELETE FROM holdfast_call k
    USING (
        SELECT :shard AS shard, c.*
        FROM unnest(:recalled_instances::text[], :recalled_ids::text[]) AS c (instance, id) OFFSET 0
    ) c
    WHERE k.shard = ANY(ARRAY[c.shard]) AND k.instance = c.instance AND k.id = c.id
      AND EXISTS (SELECT FROM lease)
)

-- name: commit_ended
-- index: holdfast_inbox primary key, holdfast_call primary key
-- A delivery that this commit waited for is not in its snapshot: its row goes with the instance, at the sweep.
, ended_inbox AS (
    DELETE FROM holdfast_inbox WHERE ctid = ANY(ARRAY(
        SELECT b.ctid FROM judged j
        CROSS JOIN LATERAL (
            SELECT b.ctid FROM holdfast_inbox b WHERE b.shard = :shard AND b.instance = j.id OFFSET 0
        ) b
        WHERE j.own AND j.close = 'end'
    ))
),
ended_calls AS (
    DELETE FROM holdfast_call k
    USING judged j
    WHERE j.own AND j.close = 'end' AND k.shard = ANY(ARRAY[j.shard]) AND k.instance = j.id
)

-- name: commit_trimmed
-- index: the primary key of each of the journal's partitions
, trimmed AS (
    DELETE FROM holdfast_journal s
    USING (
        SELECT :shard AS shard, t.* FROM unnest(:trim_ids::text[], :trim_belows::int[]) AS t (instance, below) OFFSET 0
    ) t
    WHERE s.shard = ANY(ARRAY[t.shard]) AND s.instance = t.instance AND s.seq < t.below
      AND EXISTS (SELECT FROM lease)
)

-- name: commit_answer
SELECT NULL::text AS id, NULL::text AS owner, NULL::int AS claims, NULL::text AS status, NULL::text AS waiter,
       false AS own
FROM lease

-- name: commit_answer_changed
SELECT c.id, c.owner, c.claims, c.status, c.waiter, c.own FROM lease LEFT JOIN changed c ON true

-- name: doubtful
-- index: holdfast_instance primary key, the primary key of each of the journal's partitions
-- Of commits that were not applied: whether an earlier try had applied them.
SELECT u.id, i.owner, i.claims, i.waiter,
       u.seq IS NOT NULL AND EXISTS (
           SELECT FROM holdfast_journal s WHERE s.shard = :shard AND s.instance = u.id AND s.seq = u.seq
       ) AS applied
FROM unnest(:ids::text[], :seqs::int[]) AS u (id, seq)
LEFT JOIN LATERAL (
    SELECT i.owner, i.claims, i.waiter FROM holdfast_instance i WHERE i.shard = :shard AND i.id = u.id OFFSET 0
) i ON true

-- name: settle
-- index: holdfast_lease, holdfast_instance, holdfast_call and holdfast_inbox primary keys
-- Instances are locked before their calls, as an ending does it.
WITH lease AS (
    SELECT worker FROM holdfast_lease WHERE shard = :shard AND worker = :worker::text FOR KEY SHARE
),
target AS (
    SELECT :shard AS shard, u.id, u.at
    FROM unnest(:ids::text[], :ats::float8[]) AS u (id, at)
    CROSS JOIN LATERAL (
        SELECT i.id FROM holdfast_instance i
        WHERE i.shard = :shard AND i.id = u.id AND i.status IN ('pending', 'parked')
        FOR NO KEY UPDATE
    ) i
    WHERE EXISTS (SELECT FROM lease)
),
gone AS (
    -- What this worker claimed nobody moves as long as its lease is held.
    DELETE FROM holdfast_call WHERE ctid = ANY(ARRAY(
        SELECT c.ctid
        FROM unnest(:call_instances::text[], :call_ids::text[]) AS u (instance, id)
        CROSS JOIN LATERAL (
            SELECT c.ctid, c.owner FROM holdfast_call c
            WHERE c.shard = :shard AND c.instance = u.instance AND c.id = u.id OFFSET 0
        ) c
        WHERE c.owner = :worker::text AND (SELECT count(*) FROM target) >= 0
    ))
    RETURNING instance, id
),
put AS (
    INSERT INTO holdfast_inbox (shard, instance, id, kind, key, payload, at)
    SELECT :shard, d.instance, d.id, d.kind, d.key, d.payload, d.at
    FROM unnest(
        :call_instances::text[], :call_ids::text[], :delivery_ids::text[], :kinds::text[], :keys::text[],
        :payloads::bytea[], :delivery_ats::float8[]
    ) AS d (instance, call, id, kind, key, payload, at)
    WHERE ((d.instance, d.call) IN (SELECT instance, id FROM gone)) IS TRUE
      AND (d.instance IN (SELECT id FROM target)) IS TRUE
    ON CONFLICT DO NOTHING
),
told AS (
    UPDATE holdfast_instance i
    SET signals = i.signals + 1,
        due_at = CASE
            WHEN i.owner IS NULL AND i.status = 'pending' THEN least(coalesce(i.due_at, t.at), t.at) ELSE i.due_at
        END
    FROM target t
    WHERE i.shard = ANY(ARRAY[t.shard]) AND i.id = t.id AND (t.id IN (SELECT instance FROM gone)) IS TRUE
    RETURNING i.id, i.owner, i.status
)
SELECT t.id, t.owner, t.status FROM lease LEFT JOIN told t ON true
