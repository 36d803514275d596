"""Ending an attempt: each outcome, held to the pure functions of store/transitions.py."""

from datetime import timedelta

import msgspec
import pytest

from store.job import AttemptStatus, JobError, JobStatus, Progress
from store.protocol import Finished, JobStore
from store.transitions import Cancelled, Completed, Failed, Interrupted, Outcome, ended
from tests.fake_clock import START, FakeClock
from tests.store.samples import (
    BOOM,
    CANCELLED,
    DONE,
    FAILED,
    FAILED_FOR_GOOD,
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
    numbered,
)

OUTCOMES: list[Outcome] = [
    DONE,
    Completed(msgspec.Raw(b"null")),
    FAILED,
    Failed(BOOM, retry_in=7.25),
    FAILED_FOR_GOOD,
    Failed(JobError("TimedOut", "größe\0\U0001f600"), how=AttemptStatus.TIMED_OUT),
    CANCELLED,
    Cancelled(BOOM, msgspec.Raw(b'{"so":"far"}')),
    INTERRUPTED,
]


@pytest.mark.parametrize("asked", [False, True], ids=["", "asked to cancel"])
@pytest.mark.parametrize("noted", [False, True], ids=["", "with progress"])
@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_an_outcome_makes_of_the_job_what_the_rules_say(
    store: JobStore, clock: FakeClock, outcome: Outcome, noted: bool, asked: bool
) -> None:
    job = finish(store, create_processing(store, max_attempts=3), FAILED)
    clock.advance(1)
    job = claim(store, job, alone=True)
    if asked:
        job = store.cancel_job(job.id)
    clock.advance(1)
    finished = store.finish_job(job.id, 2, outcome, progress=HALF if noted else None)
    expected = ended(msgspec.structs.replace(job, progress=HALF) if noted else job, outcome, clock.now()).job
    assert store.get_job(job.id) == expected
    run_at = expected.run_at if expected.status is JobStatus.PENDING else None
    assert finished == Finished(expected.status, run_at, None)


def test_a_completed_job_has_its_result_and_no_error(store: JobStore, clock: FakeClock) -> None:
    job = finish(store, create_processing(store), FAILED)
    clock.advance(1)
    job = finish(store, claim(store, job), Completed(msgspec.Raw(b' {"n": 1} ')))
    assert job.status is JobStatus.COMPLETED
    assert job.result is not None
    assert bytes(job.result) == b' {"n": 1} '
    assert (job.error, job.progress.fraction, job.finished_at) == (None, 1.0, clock.now())


@pytest.mark.parametrize(
    "result", [b"null", rb'"\u0000"', '"größe 😀"'.encode(), b"1" * 400, b"[" + b"1," * 99_999 + b"1]"]
)
def test_a_result_comes_back_byte_for_byte(store: JobStore, result: bytes) -> None:
    job = finish(store, create_processing(store), Completed(msgspec.Raw(result)))
    assert job.result is not None
    assert bytes(job.result) == result


def test_a_failed_attempt_is_tried_again_after_its_delay(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store)
    finished = store.finish_job(job.id, 1, Failed(BOOM, retry_in=1.5))
    assert finished == Finished(JobStatus.PENDING, START + timedelta(seconds=1.5), None)
    assert store.claim_job(job.id, OURS) is None
    clock.advance(1.5)
    assert store.claim_job(job.id, OURS) is not None


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_a_job_is_failed_when_its_attempts_are_used_up(store: JobStore, max_attempts: int) -> None:
    job = create(store, max_attempts=max_attempts)
    for failures in range(1, max_attempts + 1):
        assert job.status is JobStatus.PENDING
        job = finish(store, claim(store, job), FAILED)
        assert job.failures == failures
    assert (job.status, job.attempt, job.error) == (JobStatus.FAILED, max_attempts, BOOM)


def test_an_interrupted_attempt_costs_nothing(store: JobStore) -> None:
    job = create(store, max_attempts=1)
    for interruptions in (1, 2, 3):
        job = finish(store, claim(store, job), INTERRUPTED)
        assert (job.status, job.failures, job.interruptions) == (JobStatus.PENDING, 0, interruptions)
    assert finish(store, claim(store, job), FAILED).status is JobStatus.FAILED


def test_a_finished_job_is_nobodys(store: JobStore) -> None:
    job = create_processing(store)
    finish(store, job, FAILED)
    assert store.renew_leases([job.id], OURS) == {job.id}
    assert store.claim_job(job.id, THEIRS) is not None


def test_what_the_attempt_noted_last_is_kept(store: JobStore) -> None:
    job = create_processing(store)
    store.finish_job(job.id, 1, DONE, lines=[line("one"), line("two")], progress=HALF)
    assert store.list_log(job.id) == numbered([line("one"), line("two")])
    assert store.get_job(job.id).progress == Progress(1.0, "half of it")


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_the_next_job_is_claimed_in_the_same_operation(store: JobStore, clock: FakeClock, outcome: Outcome) -> None:
    job, following = create_processing(store), create(store)
    clock.advance(1)
    finished = store.finish_job(job.id, 1, outcome, claim_next=(following.id, THEIRS))
    assert finished.next_job is not None
    assert finished.next_job == store.get_job(following.id)
    assert (finished.next_job.attempt, finished.next_job.started_at) == (1, clock.now())
    assert store.renew_leases([following.id], THEIRS) == set()


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.PENDING])
def test_an_attempt_ends_although_the_next_job_cannot_be_claimed(store: JobStore, status: JobStatus) -> None:
    job, taken = create_processing(store), create_in(store, status)
    finished = store.finish_job(job.id, 1, DONE, claim_next=(taken.id, OURS))
    assert finished == Finished(JobStatus.COMPLETED, None, None)
    assert store.get_job(taken.id) == taken
    assert store.get_job(job.id).status is JobStatus.COMPLETED


def test_the_next_job_may_be_gone(store: JobStore) -> None:
    job = create_processing(store)
    assert store.finish_job(job.id, 1, DONE, claim_next=("nobody", OURS)).next_job is None


def test_the_next_job_may_be_held_by_another(store: JobStore) -> None:
    job, held = create_processing(store), create(store)
    store.reserve_jobs("default", 1, THEIRS)
    assert store.finish_job(job.id, 1, DONE, claim_next=(held.id, OURS)).next_job is None


def test_the_next_job_may_be_the_same_one(store: JobStore) -> None:
    job = create_processing(store)
    finished = store.finish_job(job.id, 1, FAILED, claim_next=(job.id, OURS))
    assert finished.status is JobStatus.PENDING
    assert finished.next_job is not None
    assert (finished.next_job.id, finished.next_job.attempt) == (job.id, 2)
    assert store.renew_leases([job.id], OURS) == set()


def test_a_paused_queue_ends_its_jobs_but_begins_none(store: JobStore) -> None:
    job, following = create_processing(store), create(store)
    store.pause_queue("default")
    assert store.finish_job(job.id, 1, Interrupted(), claim_next=(following.id, OURS)).next_job is None
    assert store.get_job(job.id).status is JobStatus.PENDING
    assert store.get_job(following.id) == following
