-- name: save_schedule
-- index: holdfast_schedule primary key
-- A replaced row takes a version of its own, so that a tick computed from the old one does not fire.
INSERT INTO holdfast_schedule AS s (id, spec, next_at, paused, last_at, skipped, version)
VALUES (:id::text, :spec::bytea, :next_at::float8, :paused::bool, :last_at::float8, :skipped::int,
        :version::int)
ON CONFLICT (id) DO UPDATE
SET spec = excluded.spec, next_at = excluded.next_at, paused = excluded.paused, last_at = excluded.last_at,
    skipped = excluded.skipped,
    version = s.version + 1
WHERE :replace::bool
RETURNING s.id

-- name: delete_schedule
-- index: holdfast_schedule primary key
DELETE FROM holdfast_schedule WHERE id = :id::text RETURNING id

-- name: schedules
SELECT id, spec, next_at, paused, last_at, skipped, version FROM holdfast_schedule ORDER BY id

-- name: fire
-- index: holdfast_schedule primary key; the primary keys, to leave alone what is there
WITH fired AS (
    UPDATE holdfast_schedule
    SET spec = :spec::bytea, next_at = :next_at::float8, paused = :paused::bool, last_at = :last_at::float8,
        skipped = :skipped::int,
        version = :version::int + 1
    WHERE id = :id::text AND version = :version::int
    RETURNING id
),
made AS (
    INSERT INTO holdfast_instance
        (shard, id, name, program, queue, priority, due_at, base_at, created_at, parent, parent_call, waiter, tags)
    SELECT :shard, s.id, s.name, s.program, s.queue, s.priority, s.due_at, s.created_at, s.created_at,
           s.parent, s.parent_call, s.waiter, s.tags
    FROM unnest(
        :ids::text[], :names::text[], :programs::text[], :queues::text[], :priorities::int[], :due_ats::float8[],
        :created_ats::float8[], :parents::text[], :parent_calls::text[], :waiters::text[], :tags::text[]
    ) AS s (id, name, program, queue, priority, due_at, created_at, parent, parent_call, waiter, tags)
    WHERE EXISTS (SELECT FROM fired)
    ON CONFLICT DO NOTHING
    RETURNING id
),
journal AS (
    INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload)
    SELECT :shard, s.id, 0, s.at, true, s.payload
    FROM unnest(:ids::text[], :created_ats::float8[], :inputs::bytea[]) AS s (id, at, payload)
    WHERE (s.id IN (SELECT id FROM made)) IS TRUE
)
SELECT (SELECT count(*) FROM made) AS made, EXISTS (SELECT FROM holdfast_lease WHERE shard = :shard AND idle) AS idle
FROM fired
