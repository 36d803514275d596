"""Counting: always what a recount of every job gives."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest

from store.job import JobStatus
from store.protocol import JobStore, QueueCount
from store.transitions import Failed
from tests.fake_clock import START, FakeClock
from tests.store.recount import check_counts
from tests.store.samples import (
    BOOM,
    CANCELLED,
    DONE,
    FAILED,
    FAILED_FOR_GOOD,
    INTERRUPTED,
    OURS,
    all_jobs,
    create,
    create_in,
    create_processing,
    finish,
    new_job,
)


def test_an_empty_store_counts_every_status_as_nothing(store: JobStore) -> None:
    assert store.count_jobs() == dict.fromkeys(JobStatus, 0)
    assert store.count_queues() == []


def test_jobs_are_counted_by_status(store: JobStore) -> None:
    for number, status in enumerate(JobStatus, 1):
        for _ in range(number):
            create_in(store, status)
    assert store.count_jobs() == {status: number for number, status in enumerate(JobStatus, 1)}


def test_queues_with_work_or_paused_are_counted_by_name(store: JobStore) -> None:
    create(store, queue="mail")
    create_processing(store, queue="mail")
    create_processing(store, queue="default")
    for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED):
        create_in(store, status, queue="done")
    store.pause_queue("zzz")
    assert store.count_queues() == [
        QueueCount(name="default", paused=False, pending=0, processing=1, oldest_wait=None),
        QueueCount(name="mail", paused=False, pending=1, processing=1, oldest_wait=0.0),
        QueueCount(name="zzz", paused=True, pending=0, processing=0, oldest_wait=None),
    ]


def test_the_oldest_wait_is_that_of_the_longest_due_pending_job(store: JobStore, clock: FakeClock) -> None:
    def oldest_wait() -> float | None:
        (count,) = store.count_queues()
        return count.oldest_wait

    late = create(store, priority=9, run_at=START + timedelta(seconds=10))
    assert oldest_wait() is None
    clock.advance(12)
    assert oldest_wait() == 2.0
    first = create(store, run_at=START + timedelta(seconds=4))
    assert oldest_wait() == 8.0
    store.reserve_jobs("default", 10, OURS)
    assert oldest_wait() == 8.0, "a reserved job waits, too"
    store.cancel_job(first.id)
    assert oldest_wait() == 2.0
    store.claim_job(late.id, OURS)
    assert oldest_wait() is None


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_no_job_waits_longer_or_shorter_because_the_clock_is_set(
    store: JobStore, clock: FakeClock, seconds: float
) -> None:
    create(store)
    clock.advance(5)
    clock.jump(seconds)
    assert [count.oldest_wait for count in store.count_queues()] == [5.0]
    store.follow_clock(100)
    clock.advance(2)
    assert [count.oldest_wait for count in store.count_queues()] == [7.0]


def test_a_retry_is_not_due_because_the_clock_was_set(store: JobStore, clock: FakeClock) -> None:
    finish(store, create_processing(store), Failed(BOOM, retry_in=60))
    clock.jump(3600)
    assert [count.oldest_wait for count in store.count_queues()] == [None]


def test_an_instant_that_was_given_has_passed_when_the_clock_says_so(store: JobStore, clock: FakeClock) -> None:
    create(store, run_at=START + timedelta(seconds=600))
    clock.jump(3600)
    assert [count.oldest_wait for count in store.count_queues()] == [3000.0]


def test_a_suspect_waits_like_any_other(store: JobStore, clock: FakeClock, restart: Callable[[], JobStore]) -> None:
    create_processing(store)
    store = restart()
    store.recover(solo_limit=2)
    clock.advance(3)
    assert [count.oldest_wait for count in store.count_queues()] == [3.0]


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_a_recount_whatever_happened(store: JobStore, clock: FakeClock, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(30):
        _live_a_little(store, rng)
        clock.advance(rng.choice([0, 1, 40]))
        store.release_expired()
        check_counts(store, clock)


def _live_a_little(store: JobStore, rng: random.Random) -> None:
    """Submit, run, end, retry and delete a few jobs."""
    queues = ("default", "mail")
    store.create_jobs([new_job(queue=rng.choice(queues), priority=rng.randint(-1, 1)) for _ in range(3)])
    outcomes = [DONE, FAILED, FAILED_FOR_GOOD, CANCELLED, INTERRUPTED, Failed(BOOM, retry_in=5)]
    for job in all_jobs(store):
        if job.status is JobStatus.PROCESSING and rng.random() < 0.5:
            store.finish_job(job.id, job.attempt, rng.choice(outcomes))
        elif job.status is JobStatus.PENDING and rng.random() < 0.1:
            store.cancel_job(job.id)
        elif job.status in (JobStatus.FAILED, JobStatus.CANCELLED) and rng.random() < 0.2:
            store.retry_job(job.id)
        elif job.status.is_final and rng.random() < 0.1:
            store.delete_job(job.id)
    for due in store.reserve_jobs(rng.choice(queues), 2, OURS).jobs:
        store.claim_job(due.id, OURS)


def test_counts_are_right_after_a_restart(store: JobStore, clock: FakeClock, reopen: Callable[[], JobStore]) -> None:
    for status in JobStatus:
        create_in(store, status)
        create_in(store, status, queue="mail")
    store.pause_queue("mail")
    before = store.count_jobs(), store.count_queues()
    store = reopen()
    assert (store.count_jobs(), store.count_queues()) == before
    store.recover(solo_limit=2)
    check_counts(store, clock)
    assert Counter(store.count_jobs())[JobStatus.PROCESSING] == 0
