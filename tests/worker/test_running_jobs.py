"""One job after the other, through a whole engine: how attempts begin and end."""

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from store.errors import IllegalTransition
from store.job import AttemptStatus, Backoff, JobStatus
from store.memory import MemoryStore
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.worker.faulty_store import FaultyStore
from tests.worker.harness import NewHarness
from worker import Cancelled, Fail, JobContext, Retry
from worker.loop import Loop

#: No waiting between attempts.
AT_ONCE = Backoff(base=0.0)


def raising(exception: BaseException) -> Callable[[JobContext, object], object]:
    def function(ctx: JobContext, payload: object) -> object:
        raise exception

    return function


def test_a_job_runs_and_its_result_is_kept(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job = made.final(made.submit("echo", {"n": 1}))
    assert (job.status, bytes(job.result or b""), job.attempt) == (JobStatus.COMPLETED, b'{"n":1}', 1)


def test_many_jobs_run_once_each(new_harness: NewHarness) -> None:
    seen: list[object] = []
    made = new_harness(workers=4, handlers={"note": lambda ctx, payload: seen.append(payload)}).start()
    for number in range(1000):
        made.submit("note", number)
    eventually(lambda: made.engine.stats()["completed"] == 1000)
    assert sorted(seen) == list(range(1000))  # type: ignore[type-var]


@pytest.mark.parametrize(
    "exception", [ValueError("boom"), SystemExit(1), KeyboardInterrupt(), MemoryError(), RecursionError(), Cancelled()]
)
def test_no_exception_takes_a_worker_away(new_harness: NewHarness, exception: BaseException) -> None:
    made = new_harness(handlers={"bad": raising(exception)}).start()
    for _ in range(3):
        job = made.final(made.submit("bad", max_attempts=1))
        assert job.status is JobStatus.FAILED
        assert job.error is not None
        assert job.error.type == type(exception).__name__
    assert made.final(made.submit()).status is JobStatus.COMPLETED
    assert made.engine.stats()["workers"] == 1


def test_a_failed_attempt_is_tried_again_until_the_attempts_are_used_up(new_harness: NewHarness) -> None:
    made = new_harness(handlers={"bad": raising(ValueError("boom"))}).start()
    job = made.final(made.submit("bad", max_attempts=3, backoff=AT_ONCE))
    assert (job.status, job.attempt, job.failures) == (JobStatus.FAILED, 3, 3)
    assert [attempt.status for attempt in made.store.list_attempts(job.id)] == [AttemptStatus.FAILED] * 3


def test_a_retry_runs_when_its_time_has_come_and_not_before(new_harness: NewHarness) -> None:
    at: list[float] = []

    def twice(ctx: JobContext, payload: object) -> object:
        at.append(time.monotonic())
        if ctx.attempt == 1:
            raise Retry(after=0.05)
        return None

    made = new_harness(handlers={"twice": twice}).start()
    assert made.final(made.submit("twice")).attempt == 2
    assert 0.05 <= at[1] - at[0] < 1


def test_fail_uses_no_further_attempt(new_harness: NewHarness) -> None:
    made = new_harness(handlers={"bad": raising(Fail("no such customer"))}).start()
    job = made.final(made.submit("bad"))
    assert (job.status, job.attempt) == (JobStatus.FAILED, 1)


def test_a_result_that_cannot_be_kept_fails_the_attempt(new_harness: NewHarness) -> None:
    made = new_harness(handlers={"bad": lambda ctx, payload: float("nan")}).start()
    job = made.final(made.submit("bad", max_attempts=1))
    assert job.error is not None
    assert job.error.type == "InvalidResult"


def test_a_type_that_no_handler_has_any_more_fails_and_says_so(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job = made.final(made.submit("gone", max_attempts=1))
    assert job.error is not None
    assert "there is no handler for the type 'gone'" in job.error.message


def test_what_a_handler_says_is_stored_with_its_outcome(new_harness: NewHarness) -> None:
    def talk(ctx: JobContext, payload: object) -> None:
        ctx.log("one")
        ctx.progress(0.5, "half")
        ctx.log("two", level="error")

    made = new_harness(handlers={"talk": talk}).start()
    job = made.final(made.submit("talk"))
    assert [(line.level, line.message) for line in made.store.list_log(job.id)] == [("info", "one"), ("error", "two")]
    assert job.progress.message == "half"


def test_no_line_is_lost_or_doubled_between_the_recorder_and_the_outcome(
    new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.recorder._INTERVAL", 0.0)

    def talk(ctx: JobContext, payload: object) -> None:
        for number in range(20):
            ctx.log(str(number))
            time.sleep(0)

    made = new_harness(workers=3, handlers={"talk": talk}).start()
    for job_id in [made.submit("talk") for _ in range(100)]:
        made.final(job_id)
        assert [line.message for line in made.store.list_log(job_id)] == [str(number) for number in range(20)]


def test_an_outcome_waits_for_the_notes_that_are_being_written(new_harness: NewHarness, faulty: FaultyStore) -> None:
    """The store would refuse notes of an attempt that is over."""
    recording = threading.Event()

    def talk(ctx: JobContext, payload: object) -> None:
        ctx.log("hello")
        assert recording.wait(5)

    def let_the_handler_end() -> None:
        recording.set()
        assert not threading.Event().wait(0.05)

    faulty.run("record_notes", let_the_handler_end)
    made = new_harness(faulty, handlers={"talk": talk}).start()
    job_id = made.submit("talk")
    made.final(job_id)
    assert [line.message for line in faulty.list_log(job_id)] == ["hello"]


def test_progress_is_seen_while_the_job_runs(new_harness: NewHarness) -> None:
    go_on = threading.Event()

    def talk(ctx: JobContext, payload: object) -> None:
        ctx.log("begun")
        ctx.progress(0.25, "a quarter")
        assert go_on.wait(5)

    made = new_harness(handlers={"talk": talk}).start()
    job_id = made.submit("talk")
    eventually(lambda: made.job(job_id).progress.message == "a quarter")
    assert [line.message for line in made.store.list_log(job_id)] == ["begun"]
    go_on.set()
    made.final(job_id)


# Cancelling


def test_a_pending_job_is_cancelled_at_once_and_never_runs(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.block_worker()
    job_id = made.submit("gate", "cancelled")
    assert made.engine.cancel(job_id).status is JobStatus.CANCELLED
    assert made.engine.stats()["buffered"] == 0
    made.gate.set()
    made.final(made.submit())
    assert made.passed == ["blocker"]


def test_a_running_job_is_told_and_stays_processing_until_its_handler_has_ended(new_harness: NewHarness) -> None:
    told, go_on = threading.Event(), threading.Event()

    def stubborn(ctx: JobContext, payload: object) -> object:
        assert ctx.cancelled.wait(5)
        told.set()
        assert go_on.wait(5)
        return "cleaned up"

    made = new_harness(handlers={"stubborn": stubborn}).start()
    job_id = made.submit("stubborn")
    made.wait_for(job_id, JobStatus.PROCESSING)
    job = made.engine.cancel(job_id)
    assert (job.status, job.cancel_requested) == (JobStatus.PROCESSING, True)
    assert told.wait(5)
    assert made.job(job_id).status is JobStatus.PROCESSING
    go_on.set()
    job = made.final(job_id)
    assert (job.status, bytes(job.result or b"")) == (JobStatus.CANCELLED, b'"cleaned up"')


def test_a_job_that_finished_without_looking_is_completed_though_it_was_cancelled(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job_id = made.block_worker()
    made.engine.cancel(job_id)
    made.gate.set()
    assert made.final(job_id).status is JobStatus.COMPLETED


def test_a_sleeping_job_ends_at_once_when_it_is_cancelled(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job_id = made.submit("sleep", 60)
    made.wait_for(job_id, JobStatus.PROCESSING)
    made.engine.cancel(job_id)
    job = made.final(job_id)
    assert (job.status, job.error) == (JobStatus.CANCELLED, None)


def test_a_cancel_in_the_middle_of_a_claim_reaches_the_handler(new_harness: NewHarness, faulty: FaultyStore) -> None:
    """The store says processing, but the handler is not known yet."""
    made = new_harness(faulty)
    ids: list[str] = []
    made.store.run("claim_job", lambda: made.engine.cancel(ids[0]), after=True)
    ids.append(made.submit("sleep", 60))
    made.start()
    assert made.final(ids[0]).status is JobStatus.CANCELLED


def test_a_cancelled_job_can_be_retried_by_hand(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.engine.pause("default")
    job_id = made.submit()
    made.engine.cancel(job_id)
    made.engine.resume("default")
    assert made.engine.retry(job_id).status is JobStatus.PENDING
    assert made.final(job_id).status is JobStatus.COMPLETED


def test_a_completed_job_is_neither_cancelled_nor_retried(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job_id = made.submit()
    made.final(job_id)
    with pytest.raises(IllegalTransition):
        made.engine.cancel(job_id)
    with pytest.raises(IllegalTransition):
        made.engine.retry(job_id)


def test_a_cancel_that_comes_too_late_does_not_reach_the_next_attempt(
    new_harness: NewHarness, faulty: FaultyStore
) -> None:
    told: list[bool] = []
    go_on = threading.Event()

    def twice(ctx: JobContext, payload: object) -> None:
        if ctx.attempt == 1:
            assert go_on.wait(5)
            raise ValueError("boom")
        told.append(ctx.cancelled.wait(0.05))

    made = new_harness(faulty, handlers={"twice": twice}).start()
    job_id = made.submit("twice", max_attempts=2)
    made.wait_for(job_id, JobStatus.PROCESSING)

    def let_it_end_and_run_again() -> None:
        go_on.set()
        made.final(job_id)
        made.engine.retry(job_id)
        eventually(lambda: made.job(job_id).attempt == 2)

    faulty.run("cancel_job", let_it_end_and_run_again, after=True)
    made.engine.cancel(job_id)
    assert made.final(job_id).status is JobStatus.COMPLETED
    assert told == [False]


# Claimed twice


def test_a_running_job_whose_id_is_in_the_buffer_again_keeps_its_lease_and_its_deadline(
    new_harness: NewHarness, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit is visible before its sync: a job may be fed and run before its submitter offers it."""
    monkeypatch.setattr("worker.assembly._LEASE", 0.1)
    monkeypatch.setattr("worker.reaper.INTERVAL", 0.01)
    made = new_harness(faulty, workers=2).start()
    queue = made.engine._parts.queues["default"]
    eventually(lambda: queue.accepts)
    queue.mark_overflowing()  # So that the submission reserves nothing.

    def feed() -> None:
        made.engine._parts.dispatcher.request_feed(["default"])
        assert made.at_gate.acquire(timeout=5)
        eventually(lambda: queue.accepts)

    faulty.run("create_jobs", feed, after=True)
    job_id = made.submit("gate", timeout=0.3, max_attempts=1)
    eventually(lambda: faulty.calls["claim_job"] == 2)
    eventually(lambda: made.engine._parts.running._claims.total() == 0)
    assert (made.engine.stats()["busy"], made.engine._parts.running.ids()) == (1, [job_id])
    job = made.final(job_id)
    assert job.error is not None
    assert (job.attempt, job.error.type) == (1, "TimedOut")


# Timeouts


def test_at_its_deadline_a_job_is_told_to_end(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job = made.final(made.submit("sleep", 60, timeout=0.03, max_attempts=1))
    assert job.error is not None
    assert (job.status, job.error.type) == (JobStatus.FAILED, "TimedOut")
    assert made.store.list_attempts(job.id)[0].status is AttemptStatus.TIMED_OUT
    assert made.engine.stats()["abandoned"] == 0


def test_a_timeout_shorter_than_all_others_is_not_slept_through(new_harness: NewHarness) -> None:
    """The watchdog sleeps for the first job's deadline when the second begins."""
    made = new_harness(workers=2).start()
    slow = made.submit("sleep", 60, timeout=50.0)
    made.wait_for(slow, JobStatus.PROCESSING)
    assert made.final(made.submit("sleep", 60, timeout=0.03, max_attempts=1)).status is JobStatus.FAILED
    made.engine.cancel(slow)
    made.final(slow)


def test_a_deadline_is_not_late_because_the_store_was_slow(new_harness: NewHarness) -> None:
    """It takes the watchdog half a minute to write the end of a hung job; another one's deadline comes 4 s after."""
    clock = FakeClock()
    slow = FaultyStore(MemoryStore(clock, random.Random(1)))
    slow.run("finish_job", lambda: clock.advance(30.0))
    made = new_harness(slow, clock=clock, workers=2).start()
    watchdog = made.engine._parts.watchdog.loop
    made.block_worker(timeout=10.0, max_attempts=1)
    made.block_worker(timeout=45.0)
    sleeps = sleeps_of(watchdog, lambda: slow.calls["finish_job"] > 0)
    clock.advance(11.0)
    watchdog.wake()
    eventually(lambda: sleeps)
    assert sleeps[0] == pytest.approx(4.0)


def test_the_watchdog_does_not_sleep_for_long_while_jobs_run(new_harness: NewHarness) -> None:
    """If the process stands still just before it sleeps, it sleeps past the deadlines of jobs that begin later."""
    made = new_harness()
    sleeps = sleeps_of(made.engine._parts.watchdog.loop, lambda: made.engine.stats()["busy"] > 0)
    made.start().block_worker(timeout=3600.0)
    eventually(lambda: sleeps)
    assert sleeps[0] == 10.0


def sleeps_of(loop: Loop, counts: Callable[[], bool]) -> list[float | None]:
    """What each turn from now on returns, once it ``counts`` at the turn's end."""
    sleeps: list[float | None] = []
    inner = loop._turn

    def noted() -> float | None:
        seconds = inner()
        if counts():
            sleeps.append(seconds)
        return seconds

    loop._turn = noted
    return sleeps


def test_the_deadline_is_told_in_utc(new_harness: NewHarness) -> None:
    deadlines: list[datetime] = []
    made = new_harness(handlers={"note": lambda ctx, payload: deadlines.append(ctx.deadline)}).start()
    made.final(made.submit("note", timeout=60.0))
    assert 50 < (deadlines[0] - datetime.now(UTC)).total_seconds() <= 60


def test_a_hung_job_is_abandoned_and_its_worker_replaced(
    new_harness: NewHarness, caplog: pytest.LogCaptureFixture
) -> None:
    made = new_harness().start()
    hung = made.submit("gate", timeout=0.02, max_attempts=1)
    job = made.final(hung)
    assert job.error is not None
    assert (job.status, job.error.type) == (JobStatus.FAILED, "TimedOut")
    assert "its thread was abandoned" in job.error.message
    assert made.final(made.submit()).status is JobStatus.COMPLETED
    stats = made.engine.stats()
    assert (stats["abandoned"], stats["workers"], stats["busy"]) == (1, 1, 0)
    assert "its thread was abandoned" in caplog.text


def test_what_an_abandoned_thread_returns_changes_nothing_and_it_takes_no_further_job(
    new_harness: NewHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = new_harness().start()
    job_id = made.submit("gate", timeout=0.02, max_attempts=2, backoff=AT_ONCE)
    eventually(lambda: made.engine.stats()["abandoned"] == 2)
    assert made.final(job_id).status is JobStatus.FAILED
    made.gate.set()
    eventually(lambda: len(made.passed) == 2)
    names = [f"gofer-worker-default-{number}" for number in (1, 2)]
    eventually(lambda: not {thread.name for thread in threading.enumerate()}.intersection(names))
    assert made.job(job_id).status is JobStatus.FAILED
    assert made.engine.stats()["workers"] == 1
    assert "has ended after all" in caplog.text


def test_a_cancelled_job_that_ignores_it_is_abandoned_at_its_timeout(new_harness: NewHarness) -> None:
    made = new_harness().start()
    job_id = made.submit("gate", timeout=0.05)
    made.wait_for(job_id, JobStatus.PROCESSING)
    made.engine.cancel(job_id)
    assert made.final(job_id).status is JobStatus.CANCELLED
    assert made.engine.stats()["abandoned"] == 1


def test_many_hung_jobs_leave_as_many_workers_as_before(new_harness: NewHarness) -> None:
    made = new_harness(workers=3).start()
    for job_id in [made.submit("gate", timeout=0.01, max_attempts=1) for _ in range(9)]:
        made.final(job_id)
    stats = made.engine.stats()
    assert (stats["abandoned"], stats["workers"], stats["busy"]) == (9, 3, 0)


# Waiting for the end


def test_who_waits_hears_of_the_end_at_once(new_harness: NewHarness) -> None:
    made = new_harness().start()
    began = time.monotonic()
    for _ in range(20):
        made.final(made.submit())
    assert time.monotonic() - began < 1


def test_who_waits_hears_of_a_cancel(new_harness: NewHarness) -> None:
    made = new_harness()
    job_id = made.submit()
    threading.Timer(0.02, made.engine.cancel, [job_id]).start()
    assert made.final(job_id).status is JobStatus.CANCELLED


def test_waiting_ends_with_its_time(new_harness: NewHarness) -> None:
    made = new_harness()
    assert made.engine.wait_final(made.submit(), 0.01, lambda: False).status is JobStatus.PENDING


def test_waiting_ends_when_nobody_waits_any_longer(new_harness: NewHarness) -> None:
    made = new_harness()
    began = time.monotonic()
    made.engine.wait_final(made.submit(), 60, lambda: True)
    assert time.monotonic() - began < 5


def test_waiting_ends_when_the_service_begins_to_stop(new_harness: NewHarness) -> None:
    made = new_harness()
    job_id = made.submit()
    threading.Timer(0.02, made.engine.begin_stop).start()
    assert made.engine.wait_final(job_id, 60, lambda: False).status is JobStatus.PENDING


def test_a_dead_letter_is_logged_with_its_reason(new_harness: NewHarness, caplog: pytest.LogCaptureFixture) -> None:
    def fail(ctx: JobContext, payload: object) -> object:
        raise Fail("no such customer\nand more")

    made = new_harness(handlers={"fail": fail}).start()
    job_id = made.submit("fail")
    assert made.final(job_id).status is JobStatus.FAILED
    eventually(lambda: f"job {job_id} (fail) failed for good at attempt 1: Fail: no such customer" in caplog.text)
    assert "and more" not in caplog.text
