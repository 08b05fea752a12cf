-- Version 1. Moments are Unix seconds. Every key starts with the shard (0 while there is one); other indexes do not, or
-- they would serve for reading a whole shard where a key is given.

-- A worker's lease: the row exists for as long as the worker is alive. `idle`: it has nothing to do; `waits`: it has room
-- for jobs, and found none.
CREATE TABLE holdfast_lease (
    shard INTEGER NOT NULL,
    worker TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    queues TEXT NOT NULL,
    started_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    beat REAL NOT NULL,
    idle INTEGER NOT NULL DEFAULT 0,
    waits INTEGER NOT NULL DEFAULT 0,
    lease REAL NOT NULL,
    version TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (shard, worker)
) WITHOUT ROWID;

-- `due_at` NULL: asleep until something is delivered.
-- `base_seq`: the latest full journal row. `recovered_seq`: the last step when a lost worker was last relieved of it.
CREATE TABLE holdfast_instance (
    shard INTEGER NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    program TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    owner TEXT,
    due_at REAL,
    base_seq INTEGER NOT NULL DEFAULT 0,
    claims INTEGER NOT NULL DEFAULT 0,
    recoveries INTEGER NOT NULL DEFAULT 0,
    recovered_seq INTEGER NOT NULL DEFAULT -1,
    created_at REAL NOT NULL,
    ended_at REAL,
    parent TEXT,
    parent_call TEXT,
    waiter TEXT,
    reason TEXT,
    tags TEXT NOT NULL DEFAULT '',
    outcome BLOB,
    PRIMARY KEY (shard, id)
);

CREATE INDEX holdfast_instance_claimable ON holdfast_instance (shard, queue, priority, due_at)
    WHERE owner IS NULL AND status = 'pending' AND due_at IS NOT NULL;

CREATE INDEX holdfast_instance_owner ON holdfast_instance (owner) WHERE owner IS NOT NULL;

CREATE INDEX holdfast_instance_created ON holdfast_instance (created_at, id);

CREATE INDEX holdfast_instance_parent ON holdfast_instance (parent, created_at) WHERE parent IS NOT NULL;

-- Append-only; `place` grows with time, so that old rows are found without an index over `at`.
CREATE TABLE holdfast_journal (
    place INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL,
    instance TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    "full" INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (shard, instance, seq)
);

CREATE TABLE holdfast_inbox (
    shard INTEGER NOT NULL,
    instance TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    payload BLOB NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (shard, instance, id)
) WITHOUT ROWID;

-- Calls handed to other workers.
CREATE TABLE holdfast_call (
    shard INTEGER NOT NULL,
    instance TEXT NOT NULL,
    id TEXT NOT NULL,
    call TEXT NOT NULL,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    payload BLOB NOT NULL,
    due_at REAL NOT NULL,
    priority INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    owner TEXT,
    PRIMARY KEY (shard, instance, id)
);

CREATE INDEX holdfast_call_claimable ON holdfast_call (shard, queue, priority, due_at) WHERE owner IS NULL;

CREATE INDEX holdfast_call_owner ON holdfast_call (owner) WHERE owner IS NOT NULL;

-- A job is held while it has an owner, and claimable while it is queued without one. `cancelled`: its holder is to end it.
-- `losses`: how often in a row a worker was lost that held it. `keep_until` NULL: until a person acts.
CREATE TABLE holdfast_job (
    shard INTEGER NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    payload BLOB NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued',
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    created_at REAL NOT NULL,
    due_at REAL NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 1,
    claims INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    unique_key TEXT,
    expires_at REAL,
    waiter TEXT,
    ended_at REAL,
    keep_until REAL,
    reason TEXT,
    outcome BLOB,
    progress BLOB,
    gate TEXT,
    gate_rule TEXT,
    gate_paid INTEGER NOT NULL DEFAULT 0,
    admitted INTEGER,
    PRIMARY KEY (shard, id)
);

CREATE INDEX holdfast_job_claimable ON holdfast_job (shard, queue, priority, due_at)
    WHERE owner IS NULL AND status = 'queued';

CREATE INDEX holdfast_job_owner ON holdfast_job (owner) WHERE owner IS NOT NULL;

CREATE UNIQUE INDEX holdfast_job_unique ON holdfast_job (shard, unique_key)
    WHERE unique_key IS NOT NULL AND status = 'queued';

CREATE INDEX holdfast_job_ended ON holdfast_job (status, created_at) WHERE status <> 'queued';

CREATE INDEX holdfast_job_kept ON holdfast_job (keep_until) WHERE keep_until IS NOT NULL;

-- A job with a gate runs once it was admitted under the claim of that number. One that has to wait behind its gate is due in
-- the year 31 million. `gate_rule`: how many run at once, seconds between two beginnings, how many may begin at once after a
-- pause. `gate_paid`: its moment was reckoned by the gate's rate already.
CREATE INDEX holdfast_job_gate ON holdfast_job (shard, gate, (-priority), created_at, id)
    WHERE gate IS NOT NULL AND status = 'queued';

CREATE INDEX holdfast_job_inside ON holdfast_job (shard, gate) WHERE gate IS NOT NULL AND owner IS NOT NULL;

-- Gates with a rate: when the next job may begin.
CREATE TABLE holdfast_gate (
    shard INTEGER NOT NULL,
    name TEXT NOT NULL,
    next_at REAL NOT NULL,
    PRIMARY KEY (shard, name)
);

CREATE INDEX holdfast_gate_next ON holdfast_gate (next_at);

-- Queues whose jobs nobody claims for now.
CREATE TABLE holdfast_paused_queue (
    shard INTEGER NOT NULL,
    queue TEXT NOT NULL,
    since REAL NOT NULL,
    PRIMARY KEY (shard, queue)
);

CREATE TABLE holdfast_program (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    signature TEXT NOT NULL,
    created_at REAL NOT NULL
);

CREATE TABLE holdfast_schedule (
    id TEXT PRIMARY KEY,
    spec BLOB NOT NULL,
    next_at REAL,
    paused INTEGER NOT NULL,
    last_at REAL,
    skipped INTEGER NOT NULL,
    version INTEGER NOT NULL
);
