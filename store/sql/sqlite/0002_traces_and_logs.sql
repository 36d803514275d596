-- The W3C trace context that a submission carried.
ALTER TABLE jobs ADD COLUMN traceparent TEXT;

-- Log lines get numbers of their own within each job; one that was left out leaves a gap.
ALTER TABLE log_lines RENAME TO unnumbered_lines;
DROP INDEX log_lines_by_job;

CREATE TABLE log_lines (
    job INTEGER NOT NULL,
    line INTEGER NOT NULL,       -- its number: 1 for the job's first
    attempt INTEGER NOT NULL,
    time INTEGER NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (job, line)
) STRICT, WITHOUT ROWID;

INSERT INTO log_lines (job, line, attempt, time, level, message)
SELECT job, row_number() OVER (PARTITION BY job ORDER BY number), attempt, time, level, message FROM unnumbered_lines;

DROP TABLE unnumbered_lines;
