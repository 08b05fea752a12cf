-- Listings. A statement is `find` or `count`, the conditions its filter needs, and for `find` its end.

-- name: find
-- index: holdfast_instance_created (or holdfast_instance_parent), newest first
SELECT id, name, program, status, queue, priority, created_at, ended_at, due_at, owner, parent, parent_call, reason, tags,
       NULL AS outcome
FROM holdfast_instance WHERE shard = 0

-- name: count
SELECT count(*) AS number FROM holdfast_instance WHERE shard = 0

-- name: tally
SELECT status, count(*) AS number FROM holdfast_instance WHERE shard = 0 GROUP BY status

-- name: find_end
ORDER BY created_at DESC, id DESC LIMIT :limit

-- name: find_by_name
AND (name = :name OR substr(name, -length(:class)) IN (:class, :inner))

-- name: find_by_status
AND status = :status

-- name: find_by_parent
AND parent = :parent

-- name: find_by_tag
AND instr(' ' || tags || ' ', :tag) > 0

-- name: find_by_created_after
AND created_at > :created_after

-- name: find_by_created_before
AND created_at < :created_before

-- name: find_by_page
AND (created_at, id) < (:page_at, :page_id)

-- name: find_by_ids
AND id IN (SELECT value FROM json_each(:ids))
