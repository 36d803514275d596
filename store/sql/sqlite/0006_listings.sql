-- Listings: newest first within one kind of job. A filter picks kinds, and a walk merges theirs; there are only as many
-- as an operator has types and queues. One index, instead of one for each column, is one to keep with each change.
DROP INDEX jobs_by_status;
DROP INDEX jobs_by_type;
DROP INDEX jobs_by_queue;
CREATE INDEX jobs_by_kind ON jobs (status, queue, type);

-- An id begins with the milliseconds of the job's creation, so that ids tell where in the table a time is. These are
-- the jobs of which that is not so, because the clock was set back: ids only rise.
CREATE INDEX jobs_out_of_step ON jobs (created_at)
WHERE substr(id, 1, 8) || substr(id, 10, 4)
    NOT BETWEEN printf('%012x', created_at / 1000) AND printf('%012x', created_at / 1000 + 250);
