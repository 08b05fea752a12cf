-- name: expired_instances
-- index: holdfast_instance_created; nothing ends before it was created
SELECT id FROM holdfast_instance
WHERE shard = 0 AND created_at < :ended_before AND ended_at < :ended_before
ORDER BY created_at LIMIT :batch

-- name: old_history
-- index: the journal's own order, which is that of time; holdfast_instance primary key
-- `needed`: a living instance cannot be recovered without this row.
SELECT j.place, j.at, coalesce(i.ended_at IS NULL AND j.seq >= i.base_seq, 0) AS needed
FROM holdfast_journal j LEFT JOIN holdfast_instance i ON i.shard = 0 AND i.id = j.instance
WHERE j.place > :after ORDER BY j.place LIMIT :batch

-- name: drop_history
-- index: holdfast_journal integer primary key
DELETE FROM holdfast_journal WHERE place = ?
