-- By how much the wall clock was set while the store was open. What run_at a duration led to is moved along.
CREATE TABLE wall_clock (
    setting INTEGER NOT NULL,    -- microseconds that it was set forward by, in all
    is_followed INTEGER NOT NULL -- whether every job is moved along with that
) STRICT;

INSERT INTO wall_clock (setting, is_followed) VALUES (0, 1);

-- The setting when run_at was reckoned; NULL: the client gave run_at.
ALTER TABLE jobs ADD COLUMN run_at_setting INTEGER;

UPDATE jobs SET run_at_setting = 0 WHERE status = 'pending' AND (attempt > 0 OR run_at <= created_at);
