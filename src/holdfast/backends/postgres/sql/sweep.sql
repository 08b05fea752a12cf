-- name: expired_instances
-- index: holdfast_instance_created; nothing ends before it was created
SELECT id FROM holdfast_instance
WHERE (shard = :shard) IS TRUE AND created_at < :ended_before::float8 AND ended_at < :ended_before::float8
ORDER BY created_at LIMIT :batch::int

-- name: partitions
-- index: the catalogue's own
SELECT c.relname AS name FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid
WHERE h.inhparent = 'holdfast_journal'::regclass

-- name: still_needed
-- A read of one old partition ({partition}); holdfast_instance primary key
-- Living instances that could not be recovered without rows of this partition.
SELECT DISTINCT s.instance AS id
FROM {partition} s JOIN holdfast_instance i ON i.shard = s.shard AND i.id = s.instance
WHERE s.shard = :shard AND s.at < :before::float8 AND i.ended_at IS NULL AND s.seq >= i.base_seq
ORDER BY 1 LIMIT :batch::int

-- name: carry_locked
-- index: holdfast_instance primary key
SELECT id FROM holdfast_instance
WHERE shard = :shard AND id = ANY(:ids::text[]) AND ended_at IS NULL
ORDER BY id || '' FOR NO KEY UPDATE

-- name: carry
-- index: the partition's primary key, holdfast_instance primary key
-- The rows move into today's partition. No needed row is older than `before` then, and the base says so.
WITH moved AS (
    DELETE FROM {partition} s USING holdfast_instance i
    WHERE s.shard = :shard AND s.instance = ANY(:ids::text[]) AND s.at < :before::float8
      AND i.shard = :shard AND i.id = s.instance AND s.seq >= i.base_seq
    RETURNING s.instance, s.seq, s."full", s.payload
),
kept AS (
    INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload)
    SELECT :shard, instance, seq, :now::float8, "full", payload FROM moved
    ON CONFLICT DO NOTHING
)
UPDATE holdfast_instance i SET base_at = greatest(i.base_at, :before::float8)
WHERE i.shard = :shard AND i.id = ANY(:ids::text[])
RETURNING i.id

-- name: drop_other
-- A read of the default partition, which is empty as long as clocks are right
WITH doomed AS (
    SELECT s.instance, s.seq, s.at FROM holdfast_journal_other s
    LEFT JOIN holdfast_instance i ON i.shard = s.shard AND i.id = s.instance
    WHERE s.shard = :shard AND s.at < :before::float8 AND (i.id IS NULL OR i.ended_at IS NOT NULL OR s.seq < i.base_seq)
    LIMIT :batch::int
)
DELETE FROM holdfast_journal_other s USING doomed d
WHERE s.shard = :shard AND s.instance = d.instance AND s.seq = d.seq AND s.at = d.at
RETURNING s.seq
