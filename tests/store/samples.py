"""Jobs, leases and outcomes for tests, and the short ways to bring a job into a state."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from store.job import Job, JobError, JobStatus, LogLine, NewJob, NewLogLine, Progress
from store.leases import Lease
from store.protocol import JobFilter, JobStore
from store.transitions import Cancelled, Completed, Failed, Interrupted, Outcome
from tests.fake_clock import START

#: The lease of the instance that the tests speak for.
OURS = Lease("0123456789abcdef", 30.0)
#: The lease of some other instance.
THEIRS = Lease("fedcba9876543210", 30.0)

BOOM = JobError("ValueError", "boom", "Traceback (most recent call last): ...")
DONE = Completed(msgspec.Raw(b'{"ok":true}'))
#: Fails the attempt; the job is due again at once.
FAILED = Failed(BOOM)
#: Fails the job, whatever attempts are left.
FAILED_FOR_GOOD = Failed(BOOM, final=True)
CANCELLED = Cancelled()
INTERRUPTED = Interrupted()

HALF = Progress(0.5, "half of it")

EVERYTHING = JobFilter()


def new_job(**fields: Any) -> NewJob:
    """A submission; ``fields`` differ from the defaults. A payload may be given as bytes."""
    payload = fields.pop("payload", b"null")
    return NewJob(**({"type": "echo", "payload": msgspec.Raw(payload)} | fields))


def line(text: str, attempt: int = 1, seconds: float = 0) -> NewLogLine:
    """A log line, ``seconds`` after the start of the test."""
    return NewLogLine(START + timedelta(seconds=seconds), attempt, "info", text)


def numbered(lines: Sequence[NewLogLine], first: int = 1) -> list[LogLine]:
    """The lines as the store shows them; the first one has this number."""
    return [
        LogLine(number, each.time, each.attempt, each.level, each.message) for number, each in enumerate(lines, first)
    ]


def create(store: JobStore, **fields: Any) -> Job:
    """Store one job."""
    return store.create_jobs([new_job(**fields)])[0].job


def claim(store: JobStore, job: Job, *, alone: bool = False) -> Job:
    """Begin an attempt at a job that can be claimed."""
    claimed = store.claim_job(job.id, OURS, alone=alone)
    assert claimed is not None
    return claimed


def finish(store: JobStore, job: Job, outcome: Outcome = DONE) -> Job:
    """End the attempt that ``job`` shows."""
    store.finish_job(job.id, job.attempt, outcome)
    return store.get_job(job.id)


def create_processing(store: JobStore, **fields: Any) -> Job:
    """Store a job and begin an attempt at it."""
    return claim(store, create(store, **fields))


#: How a processing job reaches each final status.
ENDS: dict[JobStatus, Outcome] = {
    JobStatus.COMPLETED: DONE,
    JobStatus.FAILED: FAILED_FOR_GOOD,
    JobStatus.CANCELLED: CANCELLED,
}


def create_in(store: JobStore, status: JobStatus, **fields: Any) -> Job:
    """Store a job and bring it into a status."""
    if status is JobStatus.PENDING:
        return create(store, **fields)
    job = create_processing(store, **fields)
    return job if status is JobStatus.PROCESSING else finish(store, job, ENDS[status])


def all_jobs(store: JobStore, where: JobFilter = EVERYTHING, limit: int = 1000) -> list[Job]:
    """Every job that a listing shows, walking its cursors."""
    page = store.list_jobs(where, limit)
    jobs = list(page.jobs)
    while (cursor := page.next_cursor) is not None:
        page = store.list_jobs(where, limit, cursor)
        assert page.next_cursor != cursor, "the walk stands still"
        jobs += page.jobs
    return jobs
