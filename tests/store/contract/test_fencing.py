"""Fencing: an attempt that is over cannot write, whatever it tries."""

from collections.abc import Callable
from functools import partial

import pytest

from store.errors import StaleAttempt
from store.job import AttemptStatus, Job, JobStatus
from store.protocol import JobStore, Note
from store.transitions import Outcome
from tests.fake_clock import FakeClock
from tests.store.race import race
from tests.store.samples import (
    CANCELLED,
    DONE,
    FAILED,
    HALF,
    INTERRUPTED,
    OURS,
    THEIRS,
    claim,
    create,
    create_in,
    create_processing,
    finish,
    line,
)


def second_attempt(store: JobStore) -> Job:
    """A job whose first attempt is over and whose second runs."""
    return claim(store, finish(store, create_processing(store), FAILED))


@pytest.mark.parametrize("attempt", [-1, 0, 1, 3, 10**6])
@pytest.mark.parametrize("outcome", [DONE, FAILED, CANCELLED, INTERRUPTED], ids=lambda outcome: type(outcome).__name__)
def test_only_the_running_attempt_may_end(store: JobStore, outcome: Outcome, attempt: int) -> None:
    job, following = second_attempt(store), create(store)
    attempts = store.list_attempts(job.id)
    with pytest.raises(StaleAttempt):
        store.finish_job(job.id, attempt, outcome, lines=[line("late")], progress=HALF, claim_next=(following.id, OURS))
    assert store.get_job(job.id) == job
    assert store.list_attempts(job.id) == attempts
    assert store.list_log(job.id) == []
    assert store.get_job(following.id) == following
    assert store.renew_leases([job.id], OURS) == set()
    assert finish(store, job).status is JobStatus.COMPLETED


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.PROCESSING])
@pytest.mark.parametrize("attempt", [0, 1])
@pytest.mark.parametrize("outcome", [DONE, FAILED, CANCELLED, INTERRUPTED], ids=lambda outcome: type(outcome).__name__)
def test_a_job_that_does_not_run_has_no_attempt_to_end(
    store: JobStore, status: JobStatus, attempt: int, outcome: Outcome
) -> None:
    job = create_in(store, status)
    with pytest.raises(StaleAttempt):
        store.finish_job(job.id, attempt, outcome)
    assert store.get_job(job.id) == job


def test_an_attempt_at_a_deleted_job_is_stale(store: JobStore) -> None:
    job = create_in(store, JobStatus.COMPLETED)
    following = create(store)
    store.delete_job(job.id)
    for outcome in (DONE, FAILED):
        with pytest.raises(StaleAttempt):
            store.finish_job(job.id, 1, outcome, claim_next=(following.id, OURS))
    assert store.get_job(following.id).status is JobStatus.PENDING


def test_an_interrupted_attempt_that_ends_late_is_refused(store: JobStore) -> None:
    job = create_processing(store)
    finish(store, job, INTERRUPTED)
    with pytest.raises(StaleAttempt):
        store.finish_job(job.id, 1, DONE)


def test_an_attempt_whose_lease_ran_out_is_refused(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store)
    clock.advance(OURS.seconds)
    store.release_expired()
    with pytest.raises(StaleAttempt):
        store.finish_job(job.id, 1, DONE)
    assert store.claim_job(job.id, THEIRS) is not None
    with pytest.raises(StaleAttempt):
        store.finish_job(job.id, 1, DONE)


def test_an_attempt_may_still_end_while_nobody_noticed_that_its_lease_ran_out(
    store: JobStore, clock: FakeClock
) -> None:
    job = create_processing(store)
    clock.advance(OURS.seconds + 1)
    assert finish(store, job).status is JobStatus.COMPLETED
    assert store.release_expired().crashed == []


def test_an_attempt_from_before_a_crash_is_refused(store: JobStore, restart: Callable[[], JobStore]) -> None:
    job = create_processing(store)
    store = restart()
    store.recover(solo_limit=2)
    with pytest.raises(StaleAttempt):
        store.finish_job(job.id, 1, DONE)
    assert store.list_attempts(job.id)[0].status is AttemptStatus.CRASHED


def test_notes_of_an_attempt_that_is_over_are_passed_over(store: JobStore) -> None:
    job = second_attempt(store)
    store.record_notes([Note(job.id, attempt, HALF, (line("late"),)) for attempt in (0, 1, 3)])
    assert store.get_job(job.id) == job
    assert store.list_log(job.id) == []


def test_of_fifty_threads_that_end_one_attempt_exactly_one_is_heard(store: JobStore) -> None:
    job = create_processing(store)

    def end(outcome: Outcome) -> bool:
        try:
            store.finish_job(job.id, 1, outcome)
        except StaleAttempt:
            return False
        return True

    assert sum(race([partial(end, outcome) for outcome in (DONE, FAILED) * 25])) == 1
    assert len(store.list_attempts(job.id)) == 1
