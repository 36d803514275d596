"""Ids of jobs, as they stand in addresses."""

from store.errors import JobNotFound


def checked(job_id: str) -> str:
    """``job_id`` if it can be one; no store needs to look for anything else. Raises JobNotFound."""
    if len(job_id) != 36 or not job_id.isascii():
        raise JobNotFound(job_id[:100])
    return job_id
