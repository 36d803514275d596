-- The W3C trace context that a submission carried.
ALTER TABLE jobs ADD COLUMN traceparent TEXT;
