"""Reading one job, its attempts and its log."""

import pytest

from store.errors import JobNotFound
from store.job import Attempt, AttemptStatus
from store.protocol import JobStore
from tests.fake_clock import START, FakeClock
from tests.store.samples import (
    BOOM,
    CANCELLED,
    FAILED,
    INTERRUPTED,
    claim,
    create,
    create_processing,
    finish,
    line,
    new_job,
    numbered,
)

UNKNOWN_IDS = ["", "nobody", "00000000-0000-7000-8000-000000000000", "a\0b", "größe", "' OR 1=1 --", "%"]


@pytest.mark.parametrize("job_id", UNKNOWN_IDS)
@pytest.mark.parametrize("method", ["get_job", "list_attempts", "list_log", "cancel_job", "retry_job", "delete_job"])
def test_an_unknown_id_is_not_found(store: JobStore, method: str, job_id: str) -> None:
    create(store)
    with pytest.raises(JobNotFound) as caught:
        getattr(store, method)(job_id)
    assert caught.value.job_id == job_id


def test_each_job_is_found_by_its_own_id(store: JobStore) -> None:
    created = store.create_jobs([new_job(type=f"t{n}") for n in range(10)])
    assert [store.get_job(c.job.id).type for c in created] == [f"t{n}" for n in range(10)]


def test_a_job_that_never_ran_has_no_attempts(store: JobStore) -> None:
    assert store.list_attempts(create(store).id) == []


def test_the_running_attempt_is_among_the_attempts(store: JobStore) -> None:
    job = create_processing(store)
    assert store.list_attempts(job.id) == [Attempt(1, AttemptStatus.PROCESSING, START, None, None)]


def test_a_completed_attempt_is_among_the_attempts(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store)
    clock.advance(3)
    finish(store, job)
    assert store.list_attempts(job.id) == [Attempt(1, AttemptStatus.COMPLETED, START, clock.now(), None)]


def test_every_attempt_is_kept_with_its_times_and_its_error(store: JobStore, clock: FakeClock) -> None:
    job = create(store)
    expected = []
    outcomes = [
        (FAILED, AttemptStatus.FAILED, BOOM),
        (INTERRUPTED, AttemptStatus.INTERRUPTED, None),
        (FAILED, AttemptStatus.FAILED, BOOM),
        (CANCELLED, AttemptStatus.CANCELLED, None),
    ]
    for number, (outcome, status, error) in enumerate(outcomes, 1):
        clock.advance(1)
        started_at = clock.now()
        job = claim(store, job)
        clock.advance(0.25)
        job = finish(store, job, outcome)
        expected.append(Attempt(number, status, started_at, clock.now(), error))
    assert store.list_attempts(job.id) == expected


def test_attempts_of_one_job_are_not_those_of_another(store: JobStore) -> None:
    one, other = create_processing(store), create_processing(store)
    finish(store, one, FAILED)
    assert [attempt.status for attempt in store.list_attempts(other.id)] == [AttemptStatus.PROCESSING]


def test_log_lines_come_in_the_order_in_which_they_were_logged(store: JobStore) -> None:
    job = create_processing(store)
    other = create_processing(store)
    first = [line(f"line {n}", seconds=-n) for n in range(10)]
    last = [line("last", seconds=0)]
    store.finish_job(other.id, 1, FAILED, lines=[line("of another job")])
    store.finish_job(job.id, 1, FAILED, lines=first)
    store.finish_job(job.id, claim(store, job).attempt, FAILED, lines=last)
    assert store.list_log(job.id) == numbered(first + last)


def test_a_job_that_logged_nothing_has_an_empty_log(store: JobStore) -> None:
    assert store.list_log(create(store).id) == []
