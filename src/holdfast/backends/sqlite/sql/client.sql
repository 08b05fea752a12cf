-- What clients ask. Lists of ids come as one JSON array.

-- name: existing
-- index: holdfast_instance primary key
SELECT id FROM holdfast_instance WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids))

-- name: start_instance
INSERT INTO holdfast_instance
    (shard, id, name, program, queue, priority, due_at, created_at, parent, parent_call, waiter, tags)
VALUES (0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: start_journal
INSERT INTO holdfast_journal (shard, instance, seq, at, "full", payload) VALUES (0, ?, 0, ?, 1, ?)

-- name: receivers
-- index: holdfast_instance primary key
SELECT id, owner, status FROM holdfast_instance
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND status IN ('pending', 'parked')

-- name: put_inbox
INSERT INTO holdfast_inbox (shard, instance, id, kind, key, payload, at) VALUES (0, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING

-- name: wake
-- index: holdfast_instance primary key
UPDATE holdfast_instance SET due_at = min(coalesce(due_at, ?), ?)
WHERE shard = 0 AND id = ? AND owner IS NULL AND status = 'pending'

-- name: await_ending
-- index: holdfast_instance primary key
-- Channels of clients, who look now and then anyway, make room for others; parents that have joined (hf_i_) never do.
UPDATE holdfast_instance
SET waiter = CASE
        WHEN waiter IS NULL THEN :waiter
        WHEN length(waiter) <= 1000 THEN waiter || ' ' || :waiter
        ELSE coalesce((
            SELECT group_concat(value, ' ') FROM json_each('["' || replace(waiter, ' ', '","') || '"]')
            WHERE substr(value, 1, 5) = 'hf_i_'
        ) || ' ', '') || :waiter
    END
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND status IN ('pending', 'parked')
  AND instr(' ' || coalesce(waiter, '') || ' ', ' ' || :waiter || ' ') = 0

-- name: view
-- index: holdfast_instance primary key
SELECT id, name, program, status, queue, priority, created_at, ended_at, due_at, owner, parent, parent_call, reason, tags,
       outcome
FROM holdfast_instance WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids))

-- name: history
-- index: holdfast_journal unique (shard, instance, seq)
SELECT seq, at, "full", payload FROM holdfast_journal
WHERE shard = 0 AND instance = :id AND seq > :after ORDER BY seq LIMIT :limit

-- name: family
-- index: holdfast_instance primary key, holdfast_instance_parent
WITH RECURSIVE family (id) AS (
    SELECT value FROM json_each(:ids)
    UNION
    SELECT c.id FROM family f CROSS JOIN holdfast_instance c ON c.parent = f.id WHERE c.shard = 0
)
SELECT i.id, i.name, i.program, i.status, i.queue, i.priority, i.created_at, i.ended_at, i.due_at, i.owner, i.parent,
       i.parent_call, i.reason, i.tags, NULL AS outcome
FROM family f CROSS JOIN holdfast_instance i ON i.shard = 0 AND i.id = f.id

-- name: resume
-- index: holdfast_instance primary key
UPDATE holdfast_instance SET status = 'pending', due_at = :now, reason = NULL
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND status = 'parked'
RETURNING id

-- name: dismissible
-- index: holdfast_instance primary key, holdfast_journal unique (shard, instance, seq)
SELECT i.id, i.waiter,
       (SELECT max(j.seq) FROM holdfast_journal j WHERE j.shard = 0 AND j.instance = i.id) AS last_seq
FROM holdfast_instance i
WHERE i.shard = 0 AND i.id IN (SELECT value FROM json_each(:ids)) AND i.owner IS NULL AND i.status IN ('pending', 'parked')

-- name: dismiss
-- index: holdfast_instance primary key
UPDATE holdfast_instance SET status = ?, outcome = ?, reason = ?, ended_at = ?, due_at = NULL, recoveries = 0
WHERE shard = 0 AND id = ?

-- name: ended_of
-- index: holdfast_instance primary key
SELECT id FROM holdfast_instance
WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids)) AND status IN ('done', 'failed', 'cancelled')

-- name: delete_instances
-- index: holdfast_instance primary key
DELETE FROM holdfast_instance WHERE shard = 0 AND id IN (SELECT value FROM json_each(:ids))

-- name: delete_journals
-- index: holdfast_journal unique (shard, instance, seq)
DELETE FROM holdfast_journal WHERE shard = 0 AND instance IN (SELECT value FROM json_each(:ids))

-- name: save_program
INSERT INTO holdfast_program (hash, name, text, signature, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING

-- name: load_programs
-- index: holdfast_program primary key
SELECT hash, name, text, signature FROM holdfast_program WHERE hash IN (SELECT value FROM json_each(:hashes))
