"""Claiming: one worker at a time gets a job."""

from datetime import timedelta
from functools import partial

import pytest

from store.job import JobStatus, Progress
from store.leases import Lease
from store.protocol import JobStore
from store.transitions import claimed
from tests.fake_clock import START, FakeClock
from tests.store.race import race
from tests.store.samples import (
    FAILED,
    HALF,
    OURS,
    THEIRS,
    claim,
    create,
    create_in,
    create_processing,
    finish,
    new_job,
)


def test_a_claimed_job_is_processing_and_its_attempt_is_counted(store: JobStore, clock: FakeClock) -> None:
    job = create(store, tags=("a",), payload=b"[1]")
    clock.advance(2)
    running = claim(store, job)
    assert running == claimed(job, clock.now())
    assert (running.status, running.attempt, running.started_at) == (JobStatus.PROCESSING, 1, clock.now())
    assert store.get_job(job.id) == running


def test_each_claim_raises_the_attempt(store: JobStore, clock: FakeClock) -> None:
    job = create(store)
    for attempt in (1, 2, 3):
        clock.advance(1)
        running = claim(store, job)
        assert (running.attempt, running.started_at) == (attempt, clock.now())
        job = finish(store, running, FAILED)


def test_a_new_attempt_starts_without_progress(store: JobStore) -> None:
    job = create_processing(store)
    store.finish_job(job.id, 1, FAILED, progress=HALF)
    assert claim(store, job).progress == Progress()


def test_the_claim_says_whether_the_job_is_alone(store: JobStore) -> None:
    assert claim(store, create(store), alone=True).alone
    assert not claim(store, create(store)).alone


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.PENDING])
def test_only_a_pending_job_is_claimed(store: JobStore, status: JobStatus) -> None:
    job = create_in(store, status)
    assert store.claim_job(job.id, OURS) is None
    assert store.claim_job(job.id, THEIRS) is None
    assert store.get_job(job.id) == job


def test_an_unknown_job_is_not_claimed(store: JobStore) -> None:
    assert store.claim_job("nobody", OURS) is None


def test_a_future_job_is_not_claimed_before_it_is_due(store: JobStore, clock: FakeClock) -> None:
    job = create(store, run_at=START + timedelta(seconds=10))
    clock.advance(9.999999)
    assert store.claim_job(job.id, OURS) is None
    clock.advance(0.000001)
    assert store.claim_job(job.id, OURS) is not None


def test_a_job_of_a_paused_queue_is_not_claimed(store: JobStore) -> None:
    job = create(store)
    store.pause_queue("default")
    assert store.claim_job(job.id, OURS) is None
    assert store.get_job(job.id) == job
    store.resume_queue("default")
    assert store.claim_job(job.id, OURS) is not None


def test_a_job_that_another_owner_reserved_is_not_claimed(store: JobStore) -> None:
    job = create(store)
    store.reserve_jobs("default", 1, THEIRS)
    assert store.claim_job(job.id, OURS) is None
    assert store.get_job(job.id) == job
    assert store.claim_job(job.id, THEIRS) is not None


def test_a_reservation_that_ran_out_does_not_stop_a_claim(store: JobStore, clock: FakeClock) -> None:
    job = create(store)
    store.reserve_jobs("default", 1, THEIRS)
    clock.advance(THEIRS.seconds)
    assert store.claim_job(job.id, OURS) is not None
    assert store.release_expired().crashed == []


def test_a_refused_claim_leaves_the_running_attempt_its_lease(store: JobStore) -> None:
    job = create_processing(store)
    assert store.claim_job(job.id, OURS) is None
    assert store.renew_leases([job.id], OURS) == set()


def test_a_job_that_could_not_be_claimed_is_not_held_back_either(store: JobStore) -> None:
    """Its owner forgets it after a refused claim; once it may run, anybody may have it."""
    job = create(store)
    store.reserve_jobs("default", 1, OURS)
    store.pause_queue("default")
    assert store.claim_job(job.id, OURS) is None
    store.resume_queue("default")
    assert [due.id for due in store.reserve_jobs("default", 1, THEIRS).jobs] == [job.id]


def test_a_refused_claim_by_another_leaves_a_reservation_alone(store: JobStore) -> None:
    job = create(store)
    store.reserve_jobs("default", 1, OURS)
    store.claim_job(job.id, THEIRS)
    assert store.renew_leases([job.id], OURS) == set()


def test_of_a_hundred_threads_exactly_one_claims_the_job(store: JobStore) -> None:
    job = create(store)
    leases = [Lease(f"owner {n}", 30.0) for n in range(100)]
    answers = race([partial(store.claim_job, job.id, lease) for lease in leases])
    winners = [lease for lease, answer in zip(leases, answers, strict=True) if answer is not None]
    assert len(winners) == 1
    assert store.get_job(job.id).attempt == 1
    assert store.renew_leases([job.id], winners[0]) == set()


def test_of_a_hundred_threads_of_one_owner_exactly_one_claims_the_job(store: JobStore) -> None:
    (created,) = store.create_jobs([new_job()], reserve=OURS)
    answers = race([partial(store.claim_job, created.job.id, OURS)] * 100)
    assert sum(answer is not None for answer in answers) == 1
    assert store.get_job(created.job.id).attempt == 1


def test_a_hundred_threads_claim_a_hundred_jobs(store: JobStore) -> None:
    jobs = [created.job for created in store.create_jobs([new_job()] * 100)]
    answers = race([partial(claim, store, job) for job in jobs])
    assert [job.id for job in answers] == [job.id for job in jobs]
    assert store.count_jobs()[JobStatus.PROCESSING] == 100


def test_a_job_that_ends_its_solitude_is_not_alone_any_more(store: JobStore) -> None:
    job = claim(store, create(store), alone=True)
    store.end_solitude(job.id, 1)
    after = store.get_job(job.id)
    assert not after.alone
    assert (after.status, after.attempt) == (JobStatus.PROCESSING, 1)
    assert store.renew_leases([job.id], OURS) == set()


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_only_the_running_attempt_ends_its_solitude(store: JobStore, attempt: int) -> None:
    job = finish(store, create_processing(store), FAILED)
    job = claim(store, job, alone=True)
    store.end_solitude(job.id, attempt)
    store.end_solitude("nobody", attempt)
    assert store.get_job(job.id) == job


def test_a_suspect_is_claimed_alone_although_the_wall_clock_was_set_back(store: JobStore, clock: FakeClock) -> None:
    job = create(store, run_at=START)
    clock.jump(-3600)
    assert store.claim_job(job.id, OURS) is None
    assert store.claim_job(job.id, OURS, alone=True) is not None
