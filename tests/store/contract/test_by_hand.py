"""What people do to jobs: cancel, retry, delete; and what they may not."""

from collections.abc import Callable

import pytest

from store.errors import IllegalTransition, JobNotFound
from store.job import TRANSITIONS, Job, JobStatus
from store.protocol import JobFilter, JobStore, Note
from store.transitions import cancelled, retried
from tests.fake_clock import FakeClock
from tests.store.samples import (
    BOOM,
    EVERYTHING,
    FAILED,
    OURS,
    THEIRS,
    all_jobs,
    claim,
    create,
    create_in,
    create_processing,
    finish,
    line,
    numbered,
)

FINAL = [status for status in JobStatus if status.is_final]
RETRIABLE = [JobStatus.FAILED, JobStatus.CANCELLED]


@pytest.mark.parametrize("wish", ["cancel_job", "retry_job", "delete_job"])
@pytest.mark.parametrize("status", JobStatus)
def test_a_wish_is_granted_or_refused_by_the_status(store: JobStore, status: JobStatus, wish: str) -> None:
    allowed = {
        "cancel_job": JobStatus.CANCELLED in TRANSITIONS[status],
        "retry_job": status in RETRIABLE,
        "delete_job": status.is_final,
    }
    job = create_in(store, status)
    if allowed[wish]:
        getattr(store, wish)(job.id)
        return
    with pytest.raises(IllegalTransition) as caught:
        getattr(store, wish)(job.id)
    assert str(status) in str(caught.value)
    assert store.get_job(job.id) == job


def test_a_pending_job_is_cancelled_at_once(store: JobStore, clock: FakeClock) -> None:
    job = create(store)
    clock.advance(1)
    answer = store.cancel_job(job.id)
    assert answer == store.get_job(job.id) == cancelled(job, clock.now())
    assert (answer.status, answer.finished_at) == (JobStatus.CANCELLED, clock.now())


def test_a_cancelled_job_does_not_run(store: JobStore) -> None:
    job = create(store)
    store.reserve_jobs("default", 1, OURS)
    store.cancel_job(job.id)
    assert store.claim_job(job.id, OURS) is None
    assert store.renew_leases([job.id], OURS) == {job.id}
    assert store.reserve_jobs("default", 1, THEIRS).jobs == []


def test_a_processing_job_is_asked_to_cancel_and_goes_on(store: JobStore) -> None:
    job = create_processing(store)
    answer = store.cancel_job(job.id)
    assert answer == store.get_job(job.id)
    assert (answer.status, answer.cancel_requested, answer.finished_at) == (JobStatus.PROCESSING, True, None)
    assert store.renew_leases([job.id], OURS) == set()


def test_asking_twice_to_cancel_is_asking_once(store: JobStore) -> None:
    job = create_processing(store)
    assert store.cancel_job(job.id) == store.cancel_job(job.id)


def test_a_job_that_was_to_cancel_is_not_tried_again(store: JobStore) -> None:
    job = store.cancel_job(create_processing(store).id)
    assert finish(store, job, FAILED).status is JobStatus.CANCELLED


@pytest.mark.parametrize("status", RETRIABLE)
def test_a_retried_job_is_pending_and_due(store: JobStore, clock: FakeClock, status: JobStatus) -> None:
    job = create_in(store, status)
    clock.advance(1)
    answer = store.retry_job(job.id)
    assert answer == store.get_job(job.id) == retried(job, clock.now())
    assert (answer.status, answer.run_at, answer.finished_at) == (JobStatus.PENDING, clock.now(), None)
    assert [due.id for due in store.reserve_jobs("default", 1, OURS).jobs] == [job.id]


def test_a_retried_job_keeps_counting_its_attempts(store: JobStore) -> None:
    job = store.retry_job(create_in(store, JobStatus.FAILED).id)
    assert claim(store, job).attempt == 2
    assert [attempt.attempt for attempt in store.list_attempts(job.id)] == [1, 2]


def test_a_retried_job_has_all_its_attempts_again(store: JobStore) -> None:
    job = create(store, max_attempts=2)
    for _ in range(2):
        job = finish(store, claim(store, finish(store, claim(store, job), FAILED)), FAILED)
        assert (job.status, job.failures) == (JobStatus.FAILED, 2)
        job = store.retry_job(job.id)
        assert job.failures == 0
    assert len(store.list_attempts(job.id)) == 4


def test_a_retried_job_that_was_to_cancel_is_not_any_more(store: JobStore) -> None:
    job = store.retry_job(store.cancel_job(create(store).id).id)
    assert not job.cancel_requested
    assert finish(store, claim(store, job)).status is JobStatus.COMPLETED


@pytest.mark.parametrize("status", FINAL)
def test_a_deleted_job_is_gone(store: JobStore, status: JobStatus) -> None:
    job, other = create_in(store, status), create_in(store, status)
    store.delete_job(job.id)
    for read in (store.get_job, store.list_attempts, store.list_log, store.delete_job):
        with pytest.raises(JobNotFound):
            read(job.id)
    assert all_jobs(store) == [other]


def _with_everything(store: JobStore) -> Job:
    """A final job that has attempts, a log, tags and an idempotency key."""
    job = create(store, tags=("a", "b", "a"), idempotency_key="key", fingerprint=b"print", max_attempts=2)
    store.record_notes([Note(job.id, claim(store, job).attempt, None, (line("noted"),))])
    store.finish_job(job.id, 1, FAILED, lines=[line("first")])
    claim(store, job)
    store.finish_job(job.id, 2, FAILED, lines=[line("second", 2)])
    return store.get_job(job.id)


def test_a_deleted_job_takes_all_that_is_its_own_along_and_nothing_else(store: JobStore) -> None:
    neighbour = create_processing(store, tags=("a", "b"))
    store.finish_job(neighbour.id, 1, FAILED, lines=[line("of the neighbour")])
    store.delete_job(_with_everything(store).id)
    assert [job.id for job in all_jobs(store, JobFilter(tag="a"))] == [neighbour.id]
    assert [job.id for job in all_jobs(store, JobFilter(tag="b"))] == [neighbour.id]
    assert [attempt.error for attempt in store.list_attempts(neighbour.id)] == [BOOM]
    assert store.list_log(neighbour.id) == numbered([line("of the neighbour")])


def test_nothing_of_a_deleted_job_comes_back_in_a_new_one(store: JobStore) -> None:
    store.delete_job(_with_everything(store).id)
    job = _with_everything(store)
    assert [attempt.attempt for attempt in store.list_attempts(job.id)] == [1, 2]
    assert [logged.message for logged in store.list_log(job.id)] == ["noted", "first", "second"]
    assert all_jobs(store, JobFilter(tag="b")) == [job]


def test_an_id_is_not_given_again_after_a_restart(store: JobStore, reopen: Callable[[], JobStore]) -> None:
    job = create_in(store, JobStatus.COMPLETED)
    store.delete_job(create_in(store, JobStatus.COMPLETED).id)
    store = reopen()
    assert create(store).id > job.id
    assert len(store.list_jobs(EVERYTHING, 10).jobs) == 2
