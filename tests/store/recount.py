"""Counting every job one by one, to check what a store says it has."""

from collections import Counter

from store.job import JobStatus
from store.protocol import JobStore
from tests.fake_clock import FakeClock
from tests.store.samples import all_jobs


def check_counts(store: JobStore, clock: FakeClock) -> None:
    """Assert that the store's counts are those of the jobs that it lists."""
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
        waits = [
            (clock.now() - job.run_at).total_seconds()
            for job in jobs
            if job.queue == count.name and job.status is JobStatus.PENDING and job.run_at <= clock.now()
        ]
        assert count.oldest_wait == max(waits, default=None)
