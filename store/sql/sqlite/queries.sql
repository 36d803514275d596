-- name: last_id
SELECT max(id) FROM jobs;

-- name: insert_job
INSERT INTO jobs (
    id, type, queue, priority, payload, max_attempts, timeout, tags, created_at, run_at, backoff,
    traceparent, submitted_by, idempotency_key, fingerprint
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_tag
INSERT INTO job_tags (tag, job) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: insert_attempt
INSERT INTO attempts (job, attempt, status, started_at, finished_at, error) VALUES (?, ?, ?, ?, ?, ?);

-- name: last_line
SELECT max(line) FROM log_lines WHERE job = ?;

-- name: insert_log_line
INSERT INTO log_lines (job, line, attempt, time, level, message) VALUES (?, ?, ?, ?, ?, ?);

-- name: delete_old_lines
DELETE FROM log_lines WHERE job = ? AND line <= ?;

-- name: find_idempotency_key
SELECT id, fingerprint FROM jobs WHERE idempotency_key = ?;

-- name: get_job
SELECT
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, number
FROM jobs
WHERE id = ?;

-- name: find_number
SELECT number FROM jobs WHERE id = ?;

-- name: list_jobs
SELECT
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, number
FROM jobs;

-- name: list_jobs_by_tag
SELECT
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, number
FROM job_tags CROSS JOIN jobs ON number = job;

-- name: list_attempts
SELECT attempt, status, started_at, finished_at, error FROM attempts WHERE job = ? ORDER BY attempt;

-- name: list_log
-- Backwards, since it is the last ones that are wanted; a limit of -1 is none.
SELECT line, time, attempt, level, message FROM log_lines WHERE job = ? AND line > ? ORDER BY line DESC LIMIT ?;

-- name: priorities
-- Every priority that a queue's pending jobs have, highest first: one seek in jobs_due for each.
WITH RECURSIVE distinct_priorities (priority) AS (
    SELECT max(priority) FROM jobs WHERE status = 'pending' AND queue = ?1 AND suspect = 0
    UNION ALL
    SELECT (
        SELECT max(priority) FROM jobs
        WHERE status = 'pending' AND queue = ?1 AND suspect = 0 AND priority < distinct_priorities.priority
    )
    FROM distinct_priorities
    WHERE priority IS NOT NULL
)
SELECT priority FROM distinct_priorities WHERE priority IS NOT NULL;

-- name: due_jobs
SELECT id, priority FROM jobs
WHERE status = 'pending' AND queue = ? AND suspect = 0 AND priority = ? AND run_at <= ?
ORDER BY run_at, number
LIMIT ?;

-- name: is_pending
SELECT status = 'pending' FROM jobs WHERE id = ?;

-- name: next_run_at
SELECT min(run_at) FROM jobs
WHERE status = 'pending' AND queue = ? AND suspect = 0 AND priority = ? AND run_at > ?;

-- name: longest_due
SELECT min(run_at) FROM jobs WHERE status = 'pending' AND queue = ? AND suspect = 0 AND priority = ?;

-- name: longest_due_suspect
SELECT min(run_at) FROM jobs WHERE suspect = 1 AND status = 'pending' AND queue = ?;

-- name: claim_job
UPDATE jobs
SET
    status = 'processing', attempt = attempt + 1, started_at = ?1, progress_fraction = 0, progress_message = '',
    alone = ?2
WHERE id = ?3 AND status = 'pending' AND (run_at <= ?1 OR ?2) AND queue NOT IN (SELECT name FROM paused_queues)
RETURNING
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, number;

-- name: complete_job
UPDATE jobs
SET
    status = 'completed', result = ?, error = NULL, progress_fraction = 1,
    progress_message = coalesce(?, progress_message), finished_at = ?, suspect = 0, alone = 0
WHERE id = ? AND attempt = ? AND status = 'processing'
RETURNING number, queue;

-- name: update_job
UPDATE jobs
SET
    status = ?, result = ?, error = ?, progress_fraction = ?, progress_message = ?, attempt = ?, interruptions = ?,
    cancel_requested = ?, run_at = ?, started_at = ?, finished_at = ?, failures = ?, suspect = ?, alone = ?,
    solo_crashes = ?, shared_crashes = ?
WHERE number = ?;

-- name: end_solitude
UPDATE jobs SET alone = 0, suspect = 0 WHERE id = ? AND attempt = ? AND status = 'processing';

-- name: record_progress
UPDATE jobs SET progress_fraction = ?, progress_message = ? WHERE number = ?;

-- name: find_attempt
SELECT number FROM jobs WHERE id = ? AND attempt = ? AND status = 'processing';

-- name: processing_jobs
SELECT
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, number
FROM jobs
WHERE status = 'processing'
ORDER BY number;

-- name: suspect_ids
SELECT id FROM jobs WHERE suspect = 1 AND status = 'pending' ORDER BY number;

-- name: release_suspect
UPDATE jobs SET suspect = 0 WHERE id = ? AND suspect = 1 AND status = 'pending';

-- name: clear_suspects
UPDATE jobs SET suspect = 0 WHERE suspect = 1 AND queue = ?;

-- name: pause_queue
INSERT INTO paused_queues (name) VALUES (?) ON CONFLICT DO NOTHING;

-- name: resume_queue
DELETE FROM paused_queues WHERE name = ? RETURNING name;

-- name: is_paused
SELECT 1 FROM paused_queues WHERE name = ?;

-- name: paused_queues
SELECT name FROM paused_queues;

-- name: count_by_status
SELECT status, count(*) FROM jobs GROUP BY status;

-- name: count_pending_by_queue
SELECT queue, count(*) FROM jobs WHERE status = 'pending' GROUP BY queue;

-- name: count_processing_by_queue
SELECT queue, count(*) FROM jobs WHERE status = 'processing' GROUP BY queue;

-- name: finished_jobs
SELECT number, queue FROM jobs WHERE status = ? AND finished_at < ? ORDER BY finished_at LIMIT ?;

-- name: delete_tags
DELETE FROM job_tags
WHERE job = ?1 AND tag IN (SELECT value FROM json_each((SELECT tags FROM jobs WHERE number = ?1)));

-- name: delete_attempts
DELETE FROM attempts WHERE job = ?;

-- name: delete_log
DELETE FROM log_lines WHERE job = ?;

-- name: delete_job
DELETE FROM jobs WHERE number = ?;
