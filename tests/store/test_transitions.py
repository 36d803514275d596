"""The state machine as pure functions."""

from datetime import timedelta
from itertools import product
from typing import Any

import msgspec
import pytest
from msgspec.structs import asdict, replace

from store.errors import IllegalTransition
from store.job import TRANSITIONS, Attempt, AttemptStatus, Job, JobError, JobStatus, Progress, check_transition
from store.transitions import (
    FREE_CRASHES,
    Cancelled,
    Completed,
    Failed,
    Interrupted,
    Outcome,
    cancelled,
    check_deletable,
    claimed,
    crashed,
    created,
    ended,
    is_current,
    retried,
    stale,
)
from tests.fake_clock import START
from tests.store.samples import BOOM, CANCELLED, DONE, FAILED, FAILED_FOR_GOOD, HALF, INTERRUPTED, new_job

LATER = START + timedelta(seconds=60)
JSON = msgspec.Raw(b'{"ok":true}')


def job_in(status: JobStatus, **fields: Any) -> Job:
    """A job that began a minute ago, as it looks in a status."""
    job = created(new_job(max_attempts=3), "id", START)
    if status is not JobStatus.PENDING:
        job = replace(job, status=status, attempt=1, started_at=START, progress=HALF)
    if status.is_final:
        job = replace(job, finished_at=START)
    return replace(job, **fields)


def running(**fields: Any) -> Job:
    """A job whose first attempt runs."""
    return job_in(JobStatus.PROCESSING, **fields)


def differences(before: Job, after: Job) -> dict[str, Any]:
    """The fields that changed, with their new values."""
    return {name: value for name, value in asdict(after).items() if value != getattr(before, name)}


ALLOWED = {
    ("pending", "processing"),
    ("pending", "cancelled"),
    ("processing", "pending"),
    ("processing", "completed"),
    ("processing", "failed"),
    ("processing", "cancelled"),
    ("failed", "pending"),
    ("cancelled", "pending"),
}


@pytest.mark.parametrize(("old", "new"), list(product(JobStatus, JobStatus)))
def test_a_transition_is_allowed_or_refused_with_a_reason(old: JobStatus, new: JobStatus) -> None:
    if (old, new) in ALLOWED:
        check_transition(old, new, "changed")
        return
    with pytest.raises(IllegalTransition, match=f"a job that is {old} cannot be changed"):
        check_transition(old, new, "changed")


def test_every_status_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(JobStatus)


def test_completed_failed_and_cancelled_are_final() -> None:
    assert [status for status in JobStatus if status.is_final] == ["completed", "failed", "cancelled"]


def test_a_submission_becomes_a_pending_job_that_is_due() -> None:
    job = created(new_job(tags=("a",), priority=5), "id", LATER)
    assert (job.id, job.status, job.created_at, job.run_at) == ("id", JobStatus.PENDING, LATER, LATER)
    assert (job.tags, job.priority, job.attempt, job.failures) == (("a",), 5, 0, 0)


def test_a_submission_may_ask_to_run_later() -> None:
    assert created(new_job(run_at=LATER), "id", START).run_at == LATER


@pytest.mark.parametrize("alone", [True, False])
def test_a_claim_begins_a_new_attempt_afresh(alone: bool) -> None:
    job = job_in(JobStatus.PENDING, attempt=4, progress=HALF, suspect=True)
    changed = {"status": JobStatus.PROCESSING, "attempt": 5, "started_at": LATER, "progress": Progress()}
    assert differences(job, claimed(job, LATER, alone=alone)) == changed | ({"alone": True} if alone else {})


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.PENDING])
def test_only_a_pending_job_is_claimed(status: JobStatus) -> None:
    with pytest.raises(IllegalTransition, match=status):
        claimed(job_in(status), LATER)


@pytest.mark.parametrize("status", JobStatus)
def test_only_the_running_attempt_is_current(status: JobStatus) -> None:
    job = job_in(status, attempt=2)
    expected = [2] if status is JobStatus.PROCESSING else []
    assert [attempt for attempt in range(4) if is_current(job, attempt)] == expected


def test_a_stale_attempt_is_told_why() -> None:
    assert str(stale(running(attempt=3), 2)) == "attempt 2 of job id is over: the job is processing at attempt 3"
    assert "gone" in str(stale(None, 2))


ERROR = {"error": BOOM}
AGAIN = {"status": JobStatus.PENDING, "run_at": LATER, "progress": Progress()}
CANCELLED_NOW = {"status": JobStatus.CANCELLED, "finished_at": LATER}
FAILED_NOW = {"status": JobStatus.FAILED, "finished_at": LATER}
TOLD = {"cancel_requested": True}

#: What the job was before, how its attempt ended, what that changed, and how the attempt is recorded.
ENDS: dict[str, tuple[dict[str, Any], Outcome, dict[str, Any], AttemptStatus | None]] = {
    "completed": (
        {},
        Completed(JSON),
        {
            "status": JobStatus.COMPLETED,
            "finished_at": LATER,
            "result": JSON,
            "progress": Progress(1.0, "half of it"),
        },
        None,
    ),
    "completed after a failure": (
        {"error": BOOM, "failures": 1, "attempt": 2},
        Completed(JSON),
        {
            "status": JobStatus.COMPLETED,
            "finished_at": LATER,
            "result": JSON,
            "error": None,
            "progress": Progress(1.0, "half of it"),
        },
        None,
    ),
    "failed with attempts left": ({}, FAILED, AGAIN | ERROR | {"failures": 1}, AttemptStatus.FAILED),
    "failed, to be tried later": (
        {},
        Failed(BOOM, retry_in=5),
        AGAIN | ERROR | {"failures": 1, "run_at": LATER + timedelta(seconds=5)},
        AttemptStatus.FAILED,
    ),
    "failed the last time but one": ({"failures": 1}, FAILED, AGAIN | ERROR | {"failures": 2}, AttemptStatus.FAILED),
    "failed for the last time": ({"failures": 2}, FAILED, FAILED_NOW | ERROR | {"failures": 3}, AttemptStatus.FAILED),
    "failed for good": ({}, FAILED_FOR_GOOD, FAILED_NOW | ERROR | {"failures": 1}, AttemptStatus.FAILED),
    "failed while told to cancel": (TOLD, FAILED, CANCELLED_NOW | ERROR | {"failures": 1}, AttemptStatus.FAILED),
    "timed out": (
        {},
        Failed(BOOM, how=AttemptStatus.TIMED_OUT),
        AGAIN | ERROR | {"failures": 1},
        AttemptStatus.TIMED_OUT,
    ),
    "cancelled": (TOLD, CANCELLED, CANCELLED_NOW, AttemptStatus.CANCELLED),
    "cancelled with something to show": (
        TOLD,
        Cancelled(BOOM, JSON),
        CANCELLED_NOW | ERROR | {"result": JSON},
        AttemptStatus.CANCELLED,
    ),
    "interrupted": ({}, INTERRUPTED, AGAIN | {"run_at": START, "interruptions": 1}, AttemptStatus.INTERRUPTED),
    "interrupted while told to cancel": (
        TOLD,
        INTERRUPTED,
        CANCELLED_NOW | {"interruptions": 1},
        AttemptStatus.INTERRUPTED,
    ),
}


@pytest.mark.parametrize(("fields", "outcome", "changed", "recorded"), ENDS.values(), ids=ENDS)
def test_an_outcome_changes_the_job_and_nothing_else(
    fields: dict[str, Any], outcome: Outcome, changed: dict[str, Any], recorded: AttemptStatus | None
) -> None:
    job = running(**fields)
    change = ended(job, outcome, LATER)
    expected = {name: value for name, value in changed.items() if value != getattr(job, name)}
    assert differences(job, change.job) == expected
    if recorded is None:
        assert change.attempt is None
    else:
        error = changed.get("error")
        assert change.attempt == Attempt(job.attempt, recorded, START, LATER, error)


@pytest.mark.parametrize(
    "outcome", [DONE, FAILED, FAILED_FOR_GOOD, CANCELLED, INTERRUPTED], ids=lambda outcome: type(outcome).__name__
)
def test_whoever_ran_to_an_end_is_no_suspect_and_not_alone_any_more(outcome: Outcome) -> None:
    job = ended(running(suspect=True, alone=True), outcome, LATER).job
    assert (job.suspect, job.alone) == (False, False)


def test_a_budget_of_attempts_is_used_up_by_failures_alone() -> None:
    job = job_in(JobStatus.PENDING, max_attempts=2)
    for outcome in (Interrupted(), FAILED, Interrupted(), Interrupted(), FAILED):
        assert job.status is JobStatus.PENDING
        job = ended(claimed(job, LATER), outcome, LATER).job
    assert (job.status, job.attempt, job.failures, job.interruptions) == (JobStatus.FAILED, 5, 2, 3)


@pytest.mark.parametrize(
    ("fields", "solo_limit", "suspect", "status", "solo_crashes"),
    [
        ({}, 2, True, JobStatus.PENDING, 0),
        ({}, 2, False, JobStatus.PENDING, 0),
        ({"alone": True}, 2, True, JobStatus.PENDING, 1),
        ({"alone": True, "solo_crashes": 1}, 2, True, JobStatus.FAILED, 2),
        ({"alone": True}, 1, True, JobStatus.FAILED, 1),
        ({"solo_crashes": 1}, 2, True, JobStatus.PENDING, 1),
        ({"failures": 2}, 2, True, JobStatus.FAILED, 0),
        ({"cancel_requested": True}, 2, True, JobStatus.CANCELLED, 0),
        ({"cancel_requested": True, "alone": True, "solo_crashes": 1}, 2, True, JobStatus.CANCELLED, 2),
    ],
)
def test_a_crash_counts_and_only_a_job_that_runs_again_is_a_suspect(
    fields: dict[str, Any], solo_limit: int, suspect: bool, status: JobStatus, solo_crashes: int
) -> None:
    job = running(**fields)
    change = crashed(job, LATER, solo_limit=solo_limit, suspect=suspect, beside_others=False)
    after = change.job
    assert (after.status, after.solo_crashes, after.failures) == (status, solo_crashes, job.failures + 1)
    assert after.suspect == (suspect and status is JobStatus.PENDING)
    assert not after.alone
    assert change.attempt is not None
    assert (change.attempt.status, change.attempt.error) == (AttemptStatus.CRASHED, after.error)


def test_a_crash_says_whether_the_job_was_alone_and_when_it_is_not_run_again() -> None:
    def message(**fields: Any) -> str:
        error = crashed(running(**fields), LATER, solo_limit=2, suspect=True, beside_others=True).job.error
        assert isinstance(error, JobError)
        assert error.type == "Crashed"
        return error.message

    assert "ran beside others; any of them may be the cause, so it costs no attempt" in message()
    assert "beside others, 6 times by now; past 5 it costs an attempt" in message(shared_crashes=FREE_CRASHES)
    assert "ran alone in it" in message(alone=True)
    assert "2 times" in message(alone=True, solo_crashes=1)
    assert "held to be the cause and is not run again" in message(alone=True, solo_crashes=1)


@pytest.mark.parametrize(
    ("fields", "failures", "shared_crashes"),
    [
        ({}, 0, 1),
        ({"max_attempts": 1}, 0, 1),
        ({"shared_crashes": FREE_CRASHES - 1}, 0, FREE_CRASHES),
        ({"shared_crashes": FREE_CRASHES}, 1, FREE_CRASHES + 1),
        ({"alone": True}, 1, 0),
    ],
)
def test_a_crash_beside_others_costs_no_attempt_so_often(
    fields: dict[str, Any], failures: int, shared_crashes: int
) -> None:
    after = crashed(running(**fields), LATER, solo_limit=2, suspect=True, beside_others=True).job
    assert (after.failures, after.shared_crashes) == (failures, shared_crashes)
    assert (after.status, after.suspect) == (JobStatus.PENDING, True)


def test_a_job_that_takes_the_service_down_beside_others_only_is_failed_in_the_end() -> None:
    job = job_in(JobStatus.PENDING, max_attempts=3)
    crashes = 0
    while job.status is JobStatus.PENDING:
        job = crashed(claimed(job, LATER), LATER, solo_limit=2, suspect=True, beside_others=True).job
        crashes += 1
    assert (job.status, crashes, job.failures) == (JobStatus.FAILED, FREE_CRASHES + 3, 3)


def test_cancelling_a_pending_job_ends_it() -> None:
    job = job_in(JobStatus.PENDING, suspect=True)
    changed = {"status": JobStatus.CANCELLED, "finished_at": LATER, "cancel_requested": True, "suspect": False}
    assert differences(job, cancelled(job, LATER)) == changed


def test_cancelling_a_processing_job_asks_its_handler() -> None:
    job = running()
    assert differences(job, cancelled(job, LATER)) == {"cancel_requested": True}


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_final_job_is_not_cancelled(status: JobStatus) -> None:
    with pytest.raises(IllegalTransition, match=f"a job that is {status} cannot be cancelled"):
        cancelled(job_in(status), LATER)


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_retry_gives_a_fresh_budget_and_keeps_the_history(status: JobStatus) -> None:
    job = job_in(
        status,
        attempt=7,
        failures=3,
        interruptions=2,
        solo_crashes=2,
        shared_crashes=4,
        cancel_requested=True,
        error=BOOM,
        result=JSON,
    )
    after = retried(job, LATER)
    assert differences(job, after) == {
        "status": JobStatus.PENDING,
        "run_at": LATER,
        "finished_at": None,
        "failures": 0,
        "solo_crashes": 0,
        "shared_crashes": 0,
        "cancel_requested": False,
        "result": None,
        "progress": Progress(),
    }


@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.PROCESSING, JobStatus.COMPLETED])
def test_what_is_not_over_or_went_well_is_not_retried(status: JobStatus) -> None:
    with pytest.raises(IllegalTransition, match=f"a job that is {status} cannot be retried"):
        retried(job_in(status), LATER)


@pytest.mark.parametrize("status", JobStatus)
def test_only_a_final_job_is_deleted(status: JobStatus) -> None:
    if status.is_final:
        check_deletable(job_in(status))
        return
    with pytest.raises(IllegalTransition, match=f"a job that is {status} cannot be deleted; cancel it first"):
        check_deletable(job_in(status))


@pytest.mark.parametrize("asked", [False, True], ids=["", "asked to cancel"])
@pytest.mark.parametrize(
    "outcome", [DONE, FAILED, FAILED_FOR_GOOD, CANCELLED, INTERRUPTED], ids=lambda outcome: type(outcome).__name__
)
def test_every_end_is_a_transition_that_is_allowed(outcome: Outcome, asked: bool) -> None:
    job = running(cancel_requested=asked)
    assert (job.status, ended(job, outcome, LATER).job.status) in ALLOWED
