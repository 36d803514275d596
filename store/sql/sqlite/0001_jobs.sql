-- Times are integers: microseconds since 1970-01-01T00:00:00Z. JSON is kept as the text that came.

CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,  -- order of creation
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    queue TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    priority INTEGER NOT NULL,
    payload TEXT NOT NULL,
    result TEXT,
    error TEXT,
    progress_fraction REAL NOT NULL DEFAULT 0,
    progress_message TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0,
    interruptions INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    timeout REAL NOT NULL,
    tags TEXT,                   -- JSON list; NULL: none
    created_at INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    backoff TEXT,                -- JSON object; NULL: the default
    failures INTEGER NOT NULL DEFAULT 0,
    suspect INTEGER NOT NULL DEFAULT 0,
    alone INTEGER NOT NULL DEFAULT 0,
    solo_crashes INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT,
    fingerprint BLOB
) STRICT;

-- What to run next: within a queue, suspects apart, by priority, then the longest due. An index
-- ends in the row's number, so that ties go to the oldest.
CREATE INDEX jobs_due ON jobs (queue, suspect, priority, run_at) WHERE status = 'pending';

-- What to run by itself after a crash.
CREATE INDEX jobs_suspect ON jobs (suspect) WHERE suspect = 1;

-- Listings: newest first within one status, type or queue.
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_type ON jobs (type);
CREATE INDEX jobs_by_queue ON jobs (queue);

-- Retention.
CREATE INDEX jobs_finished ON jobs (status, finished_at) WHERE finished_at IS NOT NULL;

CREATE UNIQUE INDEX jobs_by_idempotency_key ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE job_tags (
    tag TEXT NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (tag, job)
) STRICT, WITHOUT ROWID;

-- Attempts that ended without completing; a running or completed one is told by its job.
CREATE TABLE attempts (
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE log_lines (
    number INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    time INTEGER NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;

CREATE INDEX log_lines_by_job ON log_lines (job);

CREATE TABLE paused_queues (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
