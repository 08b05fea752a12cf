-- What an owner writes. All of it runs in one transaction that holds the write lock from its start.

-- name: standing
-- index: holdfast_instance primary key
SELECT id, owner, claims, waiter FROM holdfast_instance WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids))

-- name: has_step
-- index: holdfast_journal unique (shard, instance, seq)
SELECT 1 FROM holdfast_journal WHERE shard = 0 AND instance = :instance AND seq = :seq

-- name: append_step
INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload) VALUES (0, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING

-- name: rebase
-- index: holdfast_instance primary key
UPDATE holdfast_instance SET base_seq = max(base_seq, ?), recoveries = 0 WHERE shard = 0 AND id = ?

-- name: consume
-- index: holdfast_inbox primary key
DELETE FROM holdfast_inbox WHERE shard = 0 AND instance = ? AND id = ?

-- name: spill
INSERT INTO holdfast_call (shard, instance, id, call, name, queue, payload, due_at, priority, attempt)
VALUES (0, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING

-- name: recall
-- index: holdfast_call primary key
DELETE FROM holdfast_call WHERE shard = 0 AND instance = ? AND id = ?

-- name: trim
-- index: holdfast_journal unique (shard, instance, seq)
DELETE FROM holdfast_journal WHERE shard = 0 AND instance = ? AND seq < ?

-- name: end
-- index: holdfast_instance primary key
UPDATE holdfast_instance
SET status = ?, outcome = ?, ended_at = ?, owner = NULL, due_at = NULL, recoveries = 0
WHERE shard = 0 AND id = ?

-- name: clear_inbox
-- index: holdfast_inbox primary key
DELETE FROM holdfast_inbox WHERE shard = 0 AND instance IN (SELECT value FROM json_each(:ids))

-- name: clear_calls
-- index: holdfast_call primary key
DELETE FROM holdfast_call WHERE shard = 0 AND instance IN (SELECT value FROM json_each(:ids))

-- name: park
-- index: holdfast_instance primary key
UPDATE holdfast_instance SET status = 'parked', owner = NULL, due_at = NULL, reason = ?, recoveries = 0
WHERE shard = 0 AND id = ?

-- name: release
-- index: holdfast_instance primary key, holdfast_inbox primary key
-- Not while something is in its inbox that nobody has consumed.
UPDATE holdfast_instance SET owner = NULL, due_at = ?, recoveries = 0
WHERE shard = 0 AND id = ?
  AND NOT EXISTS (SELECT 1 FROM holdfast_inbox b WHERE b.shard = 0 AND b.instance = holdfast_instance.id)

-- name: owned_of
-- index: holdfast_instance primary key
SELECT id FROM holdfast_instance
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND owner = :worker

-- name: settle
-- index: holdfast_call primary key
DELETE FROM holdfast_call WHERE shard = 0 AND instance = :instance AND id = :id AND owner = :worker
