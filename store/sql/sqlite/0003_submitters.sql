-- The name of the key that a job was submitted with.
ALTER TABLE jobs ADD COLUMN submitted_by TEXT;
