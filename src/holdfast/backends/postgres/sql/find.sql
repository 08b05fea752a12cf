-- Listings. A statement is `find` or `count`, the conditions its filter needs, and for `find` its end.
-- The shard is checked and not sought (IS TRUE): its key would invite a read of all of it, to be sorted.

-- name: find
-- index: holdfast_instance_created (or holdfast_instance_parent), newest first
SELECT id, name, program, status, queue, priority, created_at, ended_at, due_at, owner, parent, parent_call, reason, tags,
       NULL::bytea AS outcome
FROM holdfast_instance WHERE (shard = :shard) IS TRUE

-- name: count
SELECT count(*) AS number FROM holdfast_instance WHERE (shard = :shard) IS TRUE

-- name: tally
SELECT status, count(*) AS number FROM holdfast_instance WHERE (shard = :shard) IS TRUE GROUP BY status

-- name: find_end
ORDER BY created_at DESC, id DESC LIMIT :limit::int

-- name: find_by_name
AND (name = :name::text OR right(name, length(:class::text)) IN (:class::text, :inner::text))

-- name: find_by_status
AND status = :status::text

-- name: find_by_parent
AND parent = :parent::text

-- name: find_by_tag
AND strpos(' ' || tags || ' ', :tag::text) > 0

-- name: find_by_created_after
AND created_at > :created_after::float8

-- name: find_by_created_before
AND created_at < :created_before::float8

-- name: find_by_page
AND (created_at, id) < (:page_at::float8, :page_id::text)

-- name: find_by_ids
AND id = ANY(:ids::text[])
