-- name: last_id
SELECT max(id) FROM jobs;

-- name: insert_job
INSERT INTO jobs (
    id, type, queue, priority, payload, max_attempts, timeout, tags, created_at, run_at, backoff,
    traceparent, submitted_by, idempotency_key, fingerprint, run_at_setting
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

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
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, run_at_setting, number
FROM jobs
WHERE id = ?;

-- name: find_number
SELECT number FROM jobs WHERE id = ?;

-- name: list_jobs
-- This and the two after it walk through candidates, newest first, and give each a row, which is empty if the job does
-- not match: the caller counts them, and stops.
WITH walk (candidate) AS (
    SELECT number FROM jobs WHERE number BETWEEN :first AND :last ORDER BY number DESC LIMIT :most
)
SELECT
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, run_at_setting, candidate
FROM walk LEFT JOIN jobs
    ON number = candidate
    AND (:created_after IS NULL OR created_at > :created_after)
    AND (:created_before IS NULL OR created_at < :created_before);

-- name: list_jobs_by_kind
-- A seek in jobs_by_kind for each kind there is, and for each candidate: what is still to be followed up is kept sorted
-- (ORDER BY), so that the newest job of all kinds comes next.
WITH RECURSIVE kinds (status, queue, type) AS (
    SELECT * FROM (SELECT status, queue, type FROM jobs ORDER BY status, queue, type LIMIT 1)
    UNION ALL
    SELECT jobs.status, jobs.queue, jobs.type
    FROM kinds CROSS JOIN jobs ON jobs.number = coalesce(
        (SELECT number FROM jobs AS next WHERE next.status = kinds.status AND next.queue = kinds.queue
            AND next.type > kinds.type ORDER BY next.type LIMIT 1),
        (SELECT number FROM jobs AS next WHERE next.status = kinds.status AND next.queue > kinds.queue
            ORDER BY next.queue, next.type LIMIT 1),
        (SELECT number FROM jobs AS next WHERE next.status > kinds.status
            ORDER BY next.status, next.queue, next.type LIMIT 1)
    )
),
walk (candidate, its_status, its_queue, its_type) AS (
    SELECT (
        SELECT max(number) FROM jobs
        WHERE jobs.status = kinds.status AND jobs.queue = kinds.queue AND jobs.type = kinds.type
            AND number BETWEEN :first AND :last
    ), status, queue, type
    FROM kinds
    WHERE (:status IS NULL OR status = :status) AND (:queue IS NULL OR queue = :queue)
        AND (:type IS NULL OR type = :type)
    UNION ALL
    SELECT (
        SELECT max(number) FROM jobs
        WHERE status = its_status AND queue = its_queue AND type = its_type AND number BETWEEN :first AND candidate - 1
    ), its_status, its_queue, its_type
    FROM walk
    WHERE candidate IS NOT NULL
    ORDER BY 1 DESC
    LIMIT :most
)
SELECT
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, run_at_setting, candidate
FROM walk LEFT JOIN jobs
    ON number = iif(:tag IS NULL, candidate, (SELECT job FROM job_tags WHERE tag = :tag AND job = candidate))
    AND (:created_after IS NULL OR created_at > :created_after)
    AND (:created_before IS NULL OR created_at < :created_before)
WHERE candidate IS NOT NULL;

-- name: list_jobs_by_tag
WITH walk (candidate) AS (
    SELECT job FROM job_tags WHERE tag = :tag AND job BETWEEN :first AND :last ORDER BY job DESC LIMIT :most
)
SELECT
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, run_at_setting, candidate
FROM walk LEFT JOIN jobs
    ON number = candidate
    AND (:created_after IS NULL OR created_at > :created_after)
    AND (:created_before IS NULL OR created_at < :created_before)
    AND (:status IS NULL OR status = :status) AND (:queue IS NULL OR queue = :queue) AND (:type IS NULL OR type = :type);

-- name: first_created_after
-- The first job in the table that can have been created after :time; its id is not before :id, unless it is out of step.
SELECT min(number) FROM (
    SELECT * FROM (SELECT number FROM jobs WHERE id >= :id ORDER BY id LIMIT 1)
    UNION ALL
    SELECT min(number) FROM jobs INDEXED BY jobs_out_of_step
    WHERE substr(id, 1, 8) || substr(id, 10, 4)
        NOT BETWEEN printf('%012x', created_at / 1000) AND printf('%012x', created_at / 1000 + 250)
    AND created_at > :time
);

-- name: last_created_before
-- The last job in the table that can have been created before :time; its id is before :id, unless it is out of step.
SELECT max(number) FROM (
    SELECT * FROM (SELECT number FROM jobs WHERE id < :id ORDER BY id DESC LIMIT 1)
    UNION ALL
    SELECT max(number) FROM jobs INDEXED BY jobs_out_of_step
    WHERE substr(id, 1, 8) || substr(id, 10, 4)
        NOT BETWEEN printf('%012x', created_at / 1000) AND printf('%012x', created_at / 1000 + 250)
    AND created_at < :time
);

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
-- A job that is still to be moved along with the wall clock may seem to be due.
SELECT id, priority FROM jobs
WHERE
    status = 'pending' AND queue = ?1 AND suspect = 0 AND priority = ?2 AND run_at <= ?3
    AND run_at + ?4 - coalesce(run_at_setting, ?4) <= ?3
ORDER BY run_at, number
LIMIT ?5;

-- name: is_pending
SELECT status = 'pending' FROM jobs WHERE id = ?;

-- name: next_run_at
SELECT min(run_at) FROM jobs
WHERE status = 'pending' AND queue = ? AND suspect = 0 AND priority = ? AND run_at > ?;

-- name: first_in_line
-- And for how long it has been due, were it moved along with the wall clock.
SELECT run_at, number, ?2 - (run_at + ?3 - coalesce(run_at_setting, ?3)) FROM jobs
WHERE status = 'pending' AND queue = ?1 AND suspect = 0 AND priority = ?4
ORDER BY run_at, number
LIMIT 1;

-- name: first_suspect
SELECT run_at, number, ?2 - (run_at + ?3 - coalesce(run_at_setting, ?3)) FROM jobs
WHERE suspect = 1 AND status = 'pending' AND queue = ?1
ORDER BY run_at, number
LIMIT 1;

-- name: claim_job
UPDATE jobs
SET
    status = 'processing', attempt = attempt + 1, started_at = ?1, progress_fraction = 0, progress_message = '',
    alone = ?2
WHERE
    id = ?3 AND status = 'pending' AND (run_at + ?4 - coalesce(run_at_setting, ?4) <= ?1 OR ?2)
    AND queue NOT IN (SELECT name FROM paused_queues)
RETURNING
    id, type, queue, status, priority, payload, result, error, progress_fraction, progress_message, attempt,
    interruptions, cancel_requested, max_attempts, timeout, tags, created_at, run_at, started_at, finished_at, backoff,
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, run_at_setting, number;

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
    solo_crashes = ?, shared_crashes = ?, run_at_setting = ?
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
    failures, suspect, alone, solo_crashes, traceparent, submitted_by, shared_crashes, run_at_setting, number
FROM jobs
WHERE status = 'processing'
ORDER BY number;

-- name: suspect_ids
SELECT id FROM jobs WHERE suspect = 1 AND status = 'pending' ORDER BY number;

-- name: release_suspect
UPDATE jobs SET suspect = 0 WHERE id = ? AND suspect = 1 AND status = 'pending';

-- name: clear_suspects
UPDATE jobs SET suspect = 0 WHERE suspect = 1 AND queue = ?;

-- name: wall_clock
SELECT setting, is_followed FROM wall_clock;

-- name: set_wall_clock
UPDATE wall_clock SET setting = ?, is_followed = 0;

-- name: note_followed
UPDATE wall_clock SET is_followed = 1;

-- name: waiting_jobs
-- From one on, in the order of the index, which holds all that is read; SQLite would not choose it.
SELECT queue, suspect, priority, run_at, number FROM jobs INDEXED BY jobs_due
WHERE status = 'pending' AND (queue, suspect, priority, run_at, number) > (?, ?, ?, ?, ?)
ORDER BY queue, suspect, priority, run_at, number
LIMIT ?;

-- name: move_job
-- As store.transitions.moved says.
UPDATE jobs SET run_at = run_at + ?2 - run_at_setting, run_at_setting = ?2
WHERE
    number = ?1 AND status = 'pending' AND run_at_setting <> ?2
    AND (run_at_setting > ?2 OR run_at + ?2 - run_at_setting > ?3);

-- name: pause_queue
INSERT INTO paused_queues (name) VALUES (?) ON CONFLICT DO NOTHING;

-- name: resume_queue
DELETE FROM paused_queues WHERE name = ? RETURNING name;

-- name: is_paused
SELECT 1 FROM paused_queues WHERE name = ?;

-- name: paused_queues
SELECT name FROM paused_queues;

-- name: count_by_status_and_queue
SELECT status, queue, count(*) FROM jobs GROUP BY status, queue;

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
