"""The book of running attempts: claims and runs are kept apart, and each attempt is told what concerns it alone."""

import pytest
from msgspec.structs import replace

from store.job import Job
from store.transitions import claimed, created
from tests.fake_clock import START, FakeClock
from tests.worker.harness import new_job
from worker.outcome import StopReason
from worker.running import Run, RunningJobs


@pytest.fixture
def running() -> RunningJobs:
    return RunningJobs()


def a_run(attempt: int = 1) -> Run:
    """An attempt of the job ``job-1``."""
    job: Job = replace(claimed(created(new_job(), "job-1", START), START), attempt=attempt)
    return Run(job, FakeClock(), lambda: None, lambda: None)


def begun(running: RunningJobs, attempt: int = 1) -> Run:
    run = a_run(attempt)
    running.expect("job-1")
    running.begin(run)
    return run


def test_a_job_is_held_from_its_claim_to_its_end(running: RunningJobs) -> None:
    running.expect("job-1")
    assert (running.ids(), running.runs()) == (["job-1"], [])
    run = a_run()
    running.begin(run)
    assert (running.ids(), running.runs()) == (["job-1"], [run])
    running.remove(run)
    assert running.ids() == []


def test_a_second_claim_leaves_the_run_alone(running: RunningJobs) -> None:
    run = begun(running)
    running.expect("job-1")
    assert running.runs() == [run]
    assert running.forget("job-1")  # The store knows whether the run is of the current attempt.
    assert (running.ids(), running.runs()) == (["job-1"], [run])


def test_an_attempt_that_begins_ends_one_of_its_job_that_the_store_has_ended(running: RunningJobs) -> None:
    superseded = begun(running)
    run = begun(running)
    assert superseded.context.cancelled.is_set()
    assert superseded.reason is StopReason.LEASE_LOST
    assert not run.context.cancelled.is_set()
    assert running.runs() == [run]


def test_of_two_claims_the_one_that_fails_leaves_the_other_alone(running: RunningJobs) -> None:
    running.expect("job-1")
    running.expect("job-1")
    assert not running.forget("job-1")
    assert running.ids() == ["job-1"]
    assert running.forget("job-1")
    assert running.ids() == []


@pytest.mark.parametrize("fails_first", [True, False])
def test_a_cancel_amid_two_claims_reaches_the_one_that_succeeds(running: RunningJobs, fails_first: bool) -> None:
    running.expect("job-1")
    running.expect("job-1")
    running.cancel("job-1", 1)
    if fails_first:
        running.forget("job-1")
    run = a_run()
    running.begin(run)
    if not fails_first:
        running.forget("job-1")
    assert run.reason is StopReason.CANCEL
    assert run.context.cancelled.is_set()


def test_a_cancel_does_not_reach_a_later_attempt(running: RunningJobs) -> None:
    later = begun(running, attempt=2)
    running.cancel("job-1", 1)
    assert later.reason is None


def test_a_cancel_that_came_during_a_claim_does_not_reach_a_later_attempt(running: RunningJobs) -> None:
    running.expect("job-1")
    running.cancel("job-1", 1)
    later = a_run(attempt=2)
    running.begin(later)
    assert later.reason is None


def test_a_cancel_of_an_attempt_that_is_about_to_begin_passes_the_one_before_it(running: RunningJobs) -> None:
    """The outcome of the first is written, and the second is claimed before the first is off the book."""
    first = begun(running)
    assert running.claim_outcome(first)
    running.expect("job-1")
    running.cancel("job-1", 2)
    second = a_run(attempt=2)
    running.begin(second)
    running.remove(first)
    assert (first.reason, second.reason) == (None, StopReason.CANCEL)
    assert running.runs() == [second]


def test_a_cancel_of_a_claim_that_failed_is_forgotten(running: RunningJobs) -> None:
    running.expect("job-1")
    running.cancel("job-1", 1)
    running.forget("job-1")
    assert begun(running).reason is None


def test_a_run_that_was_let_go_is_off_the_book_and_nobody_writes_its_end(running: RunningJobs) -> None:
    run = begun(running)
    assert running.let_go(run)
    assert running.ids() == []
    assert not running.abandon(run)


def test_an_abandoned_run_stays_with_who_abandoned_it(running: RunningJobs) -> None:
    run = begun(running)
    assert running.abandon(run)
    assert not running.let_go(run)
    assert running.ids() == ["job-1"]
