-- How often the service died while a job ran beside others.
ALTER TABLE jobs ADD COLUMN shared_crashes INTEGER NOT NULL DEFAULT 0;
