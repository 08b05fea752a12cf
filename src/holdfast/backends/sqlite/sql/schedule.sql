-- name: schedule
-- index: holdfast_schedule primary key
SELECT version FROM holdfast_schedule WHERE id = :id

-- name: save_schedule
INSERT INTO holdfast_schedule (id, spec, next_at, paused, last_at, skipped, version)
VALUES (:id, :spec, :next_at, :paused, :last_at, :skipped, :version)
ON CONFLICT (id) DO UPDATE
SET spec = excluded.spec, next_at = excluded.next_at, paused = excluded.paused, last_at = excluded.last_at,
    skipped = excluded.skipped,
    version = excluded.version

-- name: delete_schedule
-- index: holdfast_schedule primary key
DELETE FROM holdfast_schedule WHERE id = :id

-- name: schedules
SELECT id, spec, next_at, paused, last_at, skipped, version FROM holdfast_schedule ORDER BY id

-- name: advance_schedule
-- index: holdfast_schedule primary key
UPDATE holdfast_schedule
SET spec = :spec, next_at = :next_at, paused = :paused, last_at = :last_at, skipped = :skipped, version = :version + 1
WHERE id = :id AND version = :version
