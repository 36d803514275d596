"""Counting every job one by one, to check what a store says it has."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from operator import attrgetter

from store.job import Job, JobStatus
from store.protocol import JobStore
from tests.fake_clock import FakeClock
from tests.store.samples import all_jobs


def check_counts(store: JobStore, clock: FakeClock, set_by: Mapping[str, float] | None = None) -> None:
    """Assert that the store's counts are those of the jobs that it lists.

    ``set_by``: for each job, by how many seconds the clock was set since it waits; none, if not given.
    """
    jobs = all_jobs(store)
    assert store.count_jobs() == dict.fromkeys(JobStatus, 0) | Counter(job.status for job in jobs)
    by_queue = Counter((job.queue, job.status) for job in jobs if not job.status.is_final)
    counts = store.count_queues()
    names = [count.name for count in counts]
    assert names == sorted({queue for queue, _ in by_queue} | {name for name in names if store.is_paused(name)})
    for count in counts:
        assert count.pending == by_queue[count.name, JobStatus.PENDING]
        assert count.processing == by_queue[count.name, JobStatus.PROCESSING]
        assert count.paused == store.is_paused(count.name)
        pending = [job for job in jobs if job.queue == count.name and job.status is JobStatus.PENDING]
        assert count.oldest_wait == _oldest_wait(pending, clock, set_by or {})


def _oldest_wait(pending: Sequence[Job], clock: FakeClock, set_by: Mapping[str, float]) -> float | None:
    if not pending:
        return None
    first = min(pending, key=attrgetter("run_at", "id"))
    wait = clock.now() - first.run_at - timedelta(seconds=set_by.get(first.id, 0.0))
    return wait.total_seconds() if wait >= timedelta() else None
