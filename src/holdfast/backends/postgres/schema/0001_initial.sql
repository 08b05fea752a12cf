-- Version 1. Moments are Unix seconds. Every key starts with the shard (0 while there is one), so that the tables can
-- be distributed by it; other indexes do not, or they would serve for reading a whole shard where a key is given.
-- No trigger, foreign key or function; ids and times come from the caller.
-- Texts in keys and indexes are compared byte by byte ("C"), as Python does: by a language's rules it would take twice the
-- time, and a new version of the system's rules would spoil the indexes.

-- A worker's lease: the row exists for as long as the worker is alive. `idle`: it has nothing to do; `waits`: it has room
-- for jobs, and found none.
CREATE TABLE holdfast_lease (
    shard int NOT NULL,
    worker text COLLATE "C" NOT NULL,
    host text NOT NULL,
    pid int NOT NULL,
    queues text NOT NULL,
    started_at float8 NOT NULL,
    expires_at float8 NOT NULL,
    beat float8 NOT NULL,
    idle bool NOT NULL DEFAULT false,
    waits bool NOT NULL DEFAULT false,
    lease float8 NOT NULL,
    version text NOT NULL DEFAULT '',
    PRIMARY KEY (shard, worker)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- The hot row of an instance. Signals and new bases change no indexed column, so these updates stay on their page.
-- `due_at` NULL: asleep until something is delivered. `signals`: how many deliveries there were; a release compares it.
-- `base_seq`: the latest full journal row, `base_at`: no row from it on is older. `ticket`: the claim that took it.
-- `recovered_seq`: the last step when a lost worker was last relieved of it.
CREATE TABLE holdfast_instance (
    shard int NOT NULL,
    id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    program text NOT NULL,
    status text COLLATE "C" NOT NULL DEFAULT 'pending',
    queue text COLLATE "C" NOT NULL,
    priority int NOT NULL,
    owner text COLLATE "C",
    ticket int8,
    due_at float8,
    signals int NOT NULL DEFAULT 0,
    base_seq int NOT NULL DEFAULT 0,
    base_at float8 NOT NULL,
    claims int NOT NULL DEFAULT 0,
    recoveries int NOT NULL DEFAULT 0,
    recovered_seq int NOT NULL DEFAULT -1,
    created_at float8 NOT NULL,
    ended_at float8,
    parent text COLLATE "C",
    parent_call text,
    waiter text,
    reason text,
    tags text NOT NULL DEFAULT '',
    outcome bytea,
    PRIMARY KEY (shard, id)
) WITH (
    fillfactor = 75,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 1000
);

CREATE INDEX holdfast_instance_claimable ON holdfast_instance (shard, queue, priority, due_at)
    WHERE owner IS NULL AND status = 'pending' AND due_at IS NOT NULL;

CREATE INDEX holdfast_instance_owner ON holdfast_instance (owner) WHERE owner IS NOT NULL;

-- Without the id, which would make it look like a way to find one.
CREATE INDEX holdfast_instance_created ON holdfast_instance (created_at);

CREATE INDEX holdfast_instance_parent ON holdfast_instance (parent, created_at) WHERE parent IS NOT NULL;

-- Append-only, a partition a day (UTC), made ahead at open and by sweeps. Old days are dropped whole.
CREATE TABLE holdfast_journal (
    shard int NOT NULL,
    instance text COLLATE "C" NOT NULL,
    seq int NOT NULL,
    at float8 NOT NULL,
    "full" bool NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (shard, instance, seq, at)
) PARTITION BY RANGE (at);

CREATE TABLE holdfast_journal_other PARTITION OF holdfast_journal DEFAULT;

CREATE TABLE holdfast_inbox (
    shard int NOT NULL,
    instance text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    payload bytea NOT NULL,
    at float8 NOT NULL,
    PRIMARY KEY (shard, instance, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Calls handed to other workers.
CREATE TABLE holdfast_call (
    shard int NOT NULL,
    instance text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    call text NOT NULL,
    name text NOT NULL,
    queue text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    due_at float8 NOT NULL,
    priority int NOT NULL,
    attempt int NOT NULL,
    owner text COLLATE "C",
    ticket int8,
    PRIMARY KEY (shard, instance, id)
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE INDEX holdfast_call_claimable ON holdfast_call (shard, queue, priority, due_at) WHERE owner IS NULL;

CREATE INDEX holdfast_call_owner ON holdfast_call (owner) WHERE owner IS NOT NULL;

-- A job is held while it has an owner, and claimable while it is queued without one. `cancelled`: its holder is to end it.
-- `losses`: how often in a row a worker was lost that held it. `keep_until` NULL: until a person acts. `plain`: a claim puts
-- it into a bundle.
CREATE TABLE holdfast_job (
    shard int NOT NULL,
    id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    payload bytea NOT NULL,
    status text COLLATE "C" NOT NULL DEFAULT 'queued',
    queue text COLLATE "C" NOT NULL,
    priority int NOT NULL,
    created_at float8 NOT NULL,
    due_at float8 NOT NULL,
    attempt int NOT NULL DEFAULT 1,
    claims int NOT NULL DEFAULT 0,
    losses int NOT NULL DEFAULT 0,
    cancelled bool NOT NULL DEFAULT false,
    owner text COLLATE "C",
    ticket int8,
    unique_key text COLLATE "C",
    expires_at float8,
    waiter text,
    ended_at float8,
    keep_until float8,
    reason text,
    outcome bytea,
    progress bytea,
    gate text COLLATE "C",
    gate_rule text,
    gate_paid bool NOT NULL DEFAULT false,
    admitted int,
    plain bool NOT NULL DEFAULT false,
    PRIMARY KEY (shard, id)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

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

-- A bundle: what one claim took of plain jobs, as one row. They leave `holdfast_job`, and most come to their end here, all at
-- once; who asks for one of them unpacks it, which makes it a row there again. `gone`: places, from 0, of those that are
-- settled or unpacked.
CREATE TABLE holdfast_bundle (
    shard int NOT NULL,
    worker text COLLATE "C" NOT NULL,
    ticket int8 NOT NULL,
    gone varbit NOT NULL,
    ids text[] COLLATE "C" NOT NULL,
    names text[] NOT NULL,
    payloads bytea[] NOT NULL,
    queues text[] NOT NULL,
    priorities int[] NOT NULL,
    created_ats float8[] NOT NULL,
    due_ats float8[] NOT NULL,
    PRIMARY KEY (shard, worker, ticket)
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 5000
);

-- What hardly gets smaller is not worth the time.
ALTER TABLE holdfast_bundle
    ALTER ids SET STORAGE EXTERNAL, ALTER payloads SET STORAGE EXTERNAL,
    ALTER created_ats SET STORAGE EXTERNAL, ALTER due_ats SET STORAGE EXTERNAL;

CREATE VIEW holdfast_bundled AS
SELECT b.shard, b.worker, b.ticket, b.ids, length(b.gone) AS size, p.place::int - 1 AS place,
       p.id, p.name, p.payload, p.queue, p.priority, p.created_at, p.due_at
FROM holdfast_bundle b
CROSS JOIN LATERAL unnest(b.ids, b.names, b.payloads, b.queues, b.priorities, b.created_ats, b.due_ats)
    WITH ORDINALITY AS p (id, name, payload, queue, priority, created_at, due_at, place)
WHERE get_bit(b.gone, p.place::int - 1) = 0;

CREATE VIEW holdfast_known_job AS
SELECT shard, id, name, status, queue, priority, attempt, created_at, due_at, ended_at, owner, reason, payload, outcome, progress
FROM holdfast_job
UNION ALL
SELECT shard, id, name, 'queued', queue, priority, 1, created_at, due_at, NULL, worker, NULL, payload, NULL, NULL
FROM holdfast_bundled;

-- Gates with a rate: when the next job may begin.
CREATE TABLE holdfast_gate (
    shard int NOT NULL,
    name text COLLATE "C" NOT NULL,
    next_at float8 NOT NULL,
    PRIMARY KEY (shard, name)
);

CREATE INDEX holdfast_gate_next ON holdfast_gate (next_at);

-- Queues whose jobs nobody claims for now.
CREATE TABLE holdfast_paused_queue (
    shard int NOT NULL,
    queue text COLLATE "C" NOT NULL,
    since float8 NOT NULL,
    PRIMARY KEY (shard, queue)
);

CREATE TABLE holdfast_program (
    hash text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    text text NOT NULL,
    signature text NOT NULL,
    created_at float8 NOT NULL
);

CREATE TABLE holdfast_schedule (
    id text COLLATE "C" PRIMARY KEY,
    spec bytea NOT NULL,
    next_at float8,
    paused bool NOT NULL,
    last_at float8,
    skipped int NOT NULL,
    version int NOT NULL
);
