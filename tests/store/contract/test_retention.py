"""Retention: old jobs are deleted, oldest first, in bites."""

from datetime import timedelta

import pytest

from store.errors import JobNotFound
from store.job import JobStatus
from store.protocol import JobFilter, JobStore
from tests.fake_clock import FakeClock
from tests.store.samples import all_jobs, claim, create_in, create_processing, finish

FINAL = [status for status in JobStatus if status.is_final]


@pytest.mark.parametrize("status", FINAL)
def test_only_jobs_that_finished_before_then_with_that_status_are_deleted(
    store: JobStore, clock: FakeClock, status: JobStatus
) -> None:
    old = {each: create_in(store, each) for each in JobStatus}
    clock.advance(1)
    create_in(store, status)
    bound = old[status].finished_at
    assert bound is not None
    assert store.delete_finished(status, bound, 100) == 0, "finished at, not before"
    assert store.delete_finished(status, bound + timedelta(microseconds=1), 100) == 1
    left = {job.id for job in all_jobs(store)}
    assert {job.id for job in old.values()} - left == {old[status].id}
    assert len(left) == len(JobStatus)


def test_the_jobs_that_finished_first_are_deleted_first(store: JobStore, clock: FakeClock) -> None:
    jobs = [create_processing(store) for _ in range(6)]
    order = [3, 0, 5, 1, 4, 2]
    for position in order:
        clock.advance(1)
        finish(store, jobs[position])
    clock.advance(1)
    for expected, rest in ((2, 4), (2, 2), (2, 0), (0, 0)):
        assert store.delete_finished(JobStatus.COMPLETED, clock.now(), 2) == expected
        assert {job.id for job in all_jobs(store)} == {jobs[position].id for position in order[6 - rest :]}


def test_a_job_that_is_retried_is_not_old_any_more(store: JobStore, clock: FakeClock) -> None:
    job = create_in(store, JobStatus.FAILED)
    clock.advance(100)
    store.retry_job(job.id)
    assert store.delete_finished(JobStatus.FAILED, clock.now(), 10) == 0
    finish(store, claim(store, job))
    assert store.delete_finished(JobStatus.COMPLETED, clock.now(), 10) == 0


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.PROCESSING])
def test_a_job_that_is_not_final_is_never_deleted(store: JobStore, clock: FakeClock, status: JobStatus) -> None:
    job = create_in(store, status)
    clock.advance(10**8)
    assert store.delete_finished(status, clock.now(), 10) == 0
    assert store.get_job(job.id) == job


def test_retention_takes_attempts_logs_and_tags_along(store: JobStore, clock: FakeClock) -> None:
    job = create_in(store, JobStatus.FAILED, tags=("a",))
    clock.advance(1)
    assert store.delete_finished(JobStatus.FAILED, clock.now(), 10) == 1
    for read in (store.get_job, store.list_attempts, store.list_log):
        with pytest.raises(JobNotFound):
            read(job.id)
    assert all_jobs(store, JobFilter(tag="a")) == []


def test_counts_follow_retention(store: JobStore, clock: FakeClock) -> None:
    for _ in range(5):
        create_in(store, JobStatus.CANCELLED)
    clock.advance(1)
    store.delete_finished(JobStatus.CANCELLED, clock.now(), 3)
    assert store.count_jobs()[JobStatus.CANCELLED] == 2
