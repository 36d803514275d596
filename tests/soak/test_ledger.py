"""The ledger notices each promise that is broken, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.soak.ledger import Job, Ledger, Submission


class Told:
    """A ledger and one job that was accepted, of which tests tell it more."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.submission = self.ledger.submitting([{"type": "soak"}], keyed=True)
        self.job = job_of(self.submission)
        self.ledger.accepted(self.submission, self.ledger.now(), [self.job], replayed=False)

    def saw(self, **changes: object) -> Job:
        """The job is seen like this."""
        job = self.job | changes
        self.ledger.saw(self.ledger.now(), [job])
        return job


def job_of(submission: Submission, job_id: str = "a", place: int = 0) -> dict[str, Any]:
    return {
        "id": job_id,
        "type": "soak",
        "queue": "default",
        "priority": 0,
        "payload": None,
        "max_attempts": 5,
        "timeout": 60.0,
        "tags": [submission.tag, f"{submission.tag}.{place}"],
        "created_at": "2026-01-05T10:00:00Z",
        "status": "pending",
        "attempt": 0,
        "result": None,
        "finished_at": None,
    }


@pytest.fixture
def told() -> Told:
    return Told()


def done(attempt: int = 1) -> dict[str, object]:
    return {"status": "completed", "attempt": attempt, "result": {"id": "a", "attempt": attempt}}


def test_an_ordinary_life_breaks_nothing(told: Told) -> None:
    told.saw(status="processing", attempt=1)
    told.ledger.saw(early := told.ledger.now(), [told.job | done()])
    told.ledger.saw(early, [told.job | {"status": "processing", "attempt": 1}])
    told.ledger.accepted(told.submission, told.ledger.now(), [told.saw(**done())], replayed=True)

    told.ledger.close({"a": told.saw(**done())})

    assert told.ledger.broken == []


def forget(told: Told) -> None:
    told.ledger.close({})


def leave_unfinished(told: Told) -> None:
    told.ledger.close({"a": told.job})


def change_a_completed_job(told: Told) -> None:
    told.saw(**done(1))
    told.saw(**done(2))


def run_a_failed_job_again(told: Told) -> None:
    told.saw(status="failed", attempt=1)
    told.saw(status="processing", attempt=2)


def run_a_completed_job_again_by_hand(told: Told) -> None:
    told.saw(**done())
    told.ledger.retrying("a")
    told.ledger.retried(told.ledger.now(), told.job | {"status": "pending", "attempt": 1})


def forget_a_retry(told: Told) -> None:
    job = told.saw(status="failed", attempt=1)
    told.ledger.retrying("a")
    told.ledger.retried(told.ledger.now(), told.job | {"status": "pending", "attempt": 1})
    told.ledger.close({"a": job})


def forget_attempts(told: Told) -> None:
    told.saw(status="processing", attempt=2)
    told.saw(status="processing", attempt=1)


def forget_a_cancel(told: Told) -> None:
    told.ledger.cancelling("a")
    told.ledger.cancelled(told.ledger.now(), told.job | {"status": "processing", "attempt": 1}, at_once=False)
    told.ledger.close({"a": told.job | done(2)})


def do_not_cancel(told: Told) -> None:
    told.ledger.cancelling("a")
    told.ledger.cancelled(told.ledger.now(), told.job, at_once=True)


def bring_a_deleted_job_back(told: Told) -> None:
    told.ledger.deleting("a")
    told.ledger.deleted("a")
    told.saw()


def lose_a_job_for_a_moment(told: Told) -> None:
    told.ledger.missed(told.ledger.now(), "a")


def mix_up_jobs(told: Told) -> None:
    told.saw(payload="another one's")


def store_what_was_refused(told: Told) -> None:
    refused = told.ledger.submitting([{"type": "soak"}], keyed=False)
    told.ledger.refused(refused)
    told.ledger.saw(told.ledger.now(), [job_of(refused, "b")])


def find_what_was_not_there(told: Told) -> None:
    lost = told.ledger.submitting([{"type": "soak"}], keyed=False)
    told.ledger.settled(lost, told.ledger.now(), [])
    told.ledger.saw(told.ledger.now(), [job_of(lost, "b")])


def store_half_a_batch(told: Told) -> None:
    batch = told.ledger.submitting([{"type": "soak"}, {"type": "soak"}], keyed=False)
    told.ledger.settled(batch, told.ledger.now(), [job_of(batch, "b", 1)])


def store_a_submission_twice(told: Told) -> None:
    told.ledger.saw(told.ledger.now(), [job_of(told.submission, "b")])


def forget_a_key(told: Told) -> None:
    told.ledger.accepted(told.submission, told.ledger.now(), [job_of(told.submission, "b")], replayed=False)


def store_something_else(told: Told) -> None:
    asked = told.ledger.submitting([{"type": "another"}], keyed=False)
    told.ledger.accepted(asked, told.ledger.now(), [job_of(asked, "b")], replayed=False)


def answer_with_another_attempts_result(told: Told) -> None:
    told.ledger.close({"a": told.job | done(1) | {"attempt": 2}})


@pytest.mark.parametrize(
    "break_it",
    [
        forget,
        leave_unfinished,
        change_a_completed_job,
        run_a_failed_job_again,
        run_a_completed_job_again_by_hand,
        forget_a_retry,
        forget_attempts,
        forget_a_cancel,
        do_not_cancel,
        bring_a_deleted_job_back,
        lose_a_job_for_a_moment,
        mix_up_jobs,
        store_what_was_refused,
        find_what_was_not_there,
        store_half_a_batch,
        store_a_submission_twice,
        forget_a_key,
        store_something_else,
        answer_with_another_attempts_result,
    ],
)
def test_a_broken_promise_is_noticed(told: Told, break_it: Callable[[Told], None]) -> None:
    break_it(told)

    assert told.ledger.broken


def test_a_final_job_may_change_once_it_is_retried_by_hand(told: Told) -> None:
    told.saw(status="failed", attempt=1)
    before = told.ledger.now()
    told.ledger.retrying("a")
    told.saw(status="pending", attempt=1)
    told.ledger.retried(told.ledger.now(), told.job | {"status": "pending", "attempt": 1})
    told.ledger.saw(before, [told.job | {"status": "failed", "attempt": 1}])
    told.ledger.close({"a": told.job | done(2)})

    assert told.ledger.broken == []


def test_a_retry_without_an_answer_may_have_happened_or_not(told: Told) -> None:
    failed = told.saw(status="failed", attempt=1)
    told.ledger.retrying("a")
    told.ledger.retry_unknown("a")
    told.ledger.close({"a": failed})

    assert told.ledger.broken == []


def test_a_deletion_without_an_answer_may_have_happened_or_not(told: Told) -> None:
    told.ledger.deleting("a")
    told.ledger.saw(told.ledger.now(), [told.job | done()])
    told.ledger.missed(told.ledger.now(), "a")
    told.ledger.close({})

    assert told.ledger.broken == []
