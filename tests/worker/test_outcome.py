import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from store import transitions
from store.job import AttemptStatus, Backoff, Job
from store.transitions import Completed, Failed, Interrupted, Outcome
from tests.worker.test_context import running_job
from worker.errors import Cancelled, Fail, InvalidPayload, InvalidResult, Retry, UnknownType
from worker.outcome import Raised, Returned, StopReason, decide, raised

RESULT = msgspec.Raw(b"42")
RETURNED = Returned(RESULT)
BOOM = raised(ValueError("boom"))
GAVE_IN = raised(Cancelled("told"))
#: No delay of a backoff, so that it is told from one.
JOB = running_job(backoff=Backoff(base=1, factor=1))


def outcome(
    ending: Returned | Raised, reason: StopReason | None = None, *, seen: bool = False, job: Job = JOB
) -> Outcome:
    decided = decide(ending, reason, seen=seen, job=job, rng=random.Random(1))
    assert decided is not None
    return decided


def failed(ending: Raised, reason: StopReason | None = None) -> Failed:
    decided = outcome(ending, reason)
    assert isinstance(decided, Failed)
    return decided


def test_a_result_completes() -> None:
    assert outcome(RETURNED) == Completed(RESULT)


def test_an_exception_fails_with_a_backoff() -> None:
    failure = failed(BOOM)
    assert (failure.error.type, failure.error.message, failure.final) == ("ValueError", "boom", False)
    assert 0 < failure.retry_in <= 1


def test_fail_is_final() -> None:
    failure = failed(raised(Fail("no such customer")))
    assert failure.final
    assert failure.error.message == "no such customer"
    assert failure.error.traceback is None


def test_retry_says_when() -> None:
    assert failed(raised(Retry(after=30, reason="busy"))).retry_in == 30
    assert failed(raised(Retry(after=0))).retry_in == 0


def test_retry_without_a_time_leaves_it_to_the_backoff() -> None:
    assert 0 < failed(raised(Retry())).retry_in <= 1


def test_a_retry_of_a_handlers_own_that_does_not_call_ours_leaves_it_to_the_backoff() -> None:
    class Busy(Retry):
        def __init__(self, shelf: str) -> None:
            self.shelf = shelf

    assert 0 < failed(raised(Busy("b"))).retry_in <= 1


@pytest.mark.parametrize("after", [Decimal("1.5"), Fraction(3, 2)])
def test_any_number_will_do_as_the_time_of_a_retry(after: Any) -> None:
    """What is stored, and what crosses from a process, is a float."""
    assert type(failed(raised(Retry(after=after))).retry_in) is float


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), 1e12])
def test_retry_refuses_times_that_make_no_sense(after: float) -> None:
    with pytest.raises(ValueError, match="after"):
        Retry(after=after)


def test_a_payload_that_the_handler_does_not_take_is_final() -> None:
    assert failed(raised(InvalidPayload([("payload", "bad")]))).final


def test_a_result_that_cannot_be_kept_may_be_better_next_time() -> None:
    assert not failed(raised(InvalidResult("NaN"))).final


@pytest.mark.parametrize(
    "exception", [SystemExit(3), KeyboardInterrupt(), MemoryError(), RecursionError("deep"), GeneratorExit()]
)
def test_whatever_is_raised_fails_the_attempt(exception: BaseException) -> None:
    assert failed(raised(exception)).error.type == type(exception).__name__


def test_a_job_that_was_cancelled_and_saw_it_is_cancelled_and_keeps_its_result() -> None:
    assert outcome(RETURNED, StopReason.CANCEL, seen=True) == transitions.Cancelled(result=RESULT)


def test_a_job_that_was_cancelled_and_never_looked_is_completed() -> None:
    assert outcome(RETURNED, StopReason.CANCEL) == Completed(RESULT)


def test_a_job_that_gave_in_to_a_cancel_has_no_error() -> None:
    assert outcome(GAVE_IN, StopReason.CANCEL, seen=True) == transitions.Cancelled()


def test_a_job_that_raised_on_its_way_out_is_cancelled_and_keeps_the_error() -> None:
    assert outcome(BOOM, StopReason.CANCEL, seen=True) == transitions.Cancelled(BOOM.error)


@pytest.mark.parametrize("ending", [RETURNED, BOOM, GAVE_IN])
@pytest.mark.parametrize("seen", [True, False])
def test_past_its_deadline_any_end_is_a_timeout(ending: Returned | Raised, seen: bool) -> None:
    decided = outcome(ending, StopReason.TIMEOUT, seen=seen)
    assert isinstance(decided, Failed)
    assert (decided.how, decided.error.type, decided.final) == (AttemptStatus.TIMED_OUT, "TimedOut", False)
    assert decided.error.message == "attempt 1 ran past its timeout of 90 s"


def test_a_shutdown_does_not_take_a_result_away_from_who_never_looked() -> None:
    assert outcome(RETURNED, StopReason.SHUTDOWN) == Completed(RESULT)


@pytest.mark.parametrize(("ending", "seen"), [(RETURNED, True), (BOOM, False), (BOOM, True), (GAVE_IN, True)])
def test_a_shutdown_interrupts(ending: Returned | Raised, seen: bool) -> None:
    assert outcome(ending, StopReason.SHUTDOWN, seen=seen) == Interrupted()


@pytest.mark.parametrize("ending", [RETURNED, BOOM, GAVE_IN])
def test_nothing_is_written_without_a_lease(ending: Returned | Raised) -> None:
    assert decide(ending, StopReason.LEASE_LOST, seen=True, job=JOB, rng=random.Random(1)) is None


def test_cancelled_raised_by_nobodys_wish_is_a_failure() -> None:
    assert failed(GAVE_IN).error.type == "Cancelled"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_told_is_told() -> None:
    error = raised(Unspeakable()).error
    assert error.type == "Unspeakable"
    assert "RuntimeError" in error.message


def caught(call: Callable[[], object]) -> Raised:
    try:
        call()
    except BaseException as error:
        return raised(error)
    raise AssertionError


def test_the_traceback_begins_at_the_handler() -> None:
    def handler() -> None:
        raise ValueError("boom")

    traceback = caught(handler).error.traceback
    assert traceback is not None
    assert "in handler" in traceback
    assert "in caught" not in traceback


def test_a_traceback_without_end_is_cut_in_the_middle() -> None:
    def handler() -> None:
        raise ValueError("x" * 100_000)

    traceback = caught(handler).error.traceback
    assert traceback is not None
    assert len(traceback) < 17_000
    assert traceback.startswith("Traceback")
    assert "(cut; it had" in traceback


def test_messages_are_bounded_and_fit_to_be_stored() -> None:
    message = raised(ValueError("\ud800\0" + "x" * 10_000)).error.message
    assert len(message) < 5000
    message.encode()
    assert "\0" not in message


def test_a_job_without_a_handler_waits_long_enough_for_somebody_to_notice() -> None:
    delays = [failed(raised(UnknownType("report", ["echo"]))).retry_in for _ in range(20)]
    assert all(60 <= delay <= 120 for delay in delays)
