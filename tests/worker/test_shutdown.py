"""The end of the engine: in order, in time, and nothing is lost."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from store.errors import OutcomeUnknown, StoreUnavailable
from store.job import AttemptStatus, JobStatus
from store.leases import Lease
from tests.eventually import eventually
from tests.store.race import race
from tests.worker.faulty_store import FaultyStore
from tests.worker.harness import Harness, NewHarness, new_job
from worker import JobContext
from worker.engine import Engine
from worker.errors import ShuttingDown

THEIRS = Lease("another instance", 30.0)


def our_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("gofer-"))


def test_an_idle_engine_stops_at_once_and_leaves_no_thread(new_harness: NewHarness) -> None:
    made = new_harness(workers=4).start()
    assert our_threads()
    began = time.monotonic()
    made.engine.stop()
    assert time.monotonic() - began < 0.5
    assert our_threads() == []


def test_the_log_shows_the_order(new_harness: NewHarness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "worker.lifecycle")
    made = new_harness().start()
    made.engine.stop()
    assert [record.message for record in caplog.records] == [
        "stopping: waiting up to 0.2 s for 0 running jobs",
        "workers joined",
        "queues closed",
        "engine stopped",
    ]


def test_a_running_job_may_end_by_itself(new_harness: NewHarness) -> None:
    made = new_harness(shutdown_timeout=5).start()
    job_id = made.block_worker()
    threading.Timer(0.05, made.gate.set).start()
    made.engine.stop()
    job = made.job(job_id)
    assert (job.status, job.interruptions) == (JobStatus.COMPLETED, 0)


def test_no_further_job_begins_while_it_stops(new_harness: NewHarness) -> None:
    made = new_harness(shutdown_timeout=5).start()
    made.block_worker()
    waiting = [made.submit("gate", number) for number in range(120)]
    threading.Timer(0.05, made.gate.set).start()
    made.engine.stop()
    assert made.passed == ["blocker"]
    assert {made.job(job_id).status for job_id in waiting} == {JobStatus.PENDING}


def test_what_is_buffered_is_given_back(new_harness: NewHarness) -> None:
    made = new_harness(shutdown_timeout=0.02).start()
    made.wait_for(made.submit("sleep", 60), JobStatus.PROCESSING)
    for _ in range(50):
        made.submit()
    assert made.store.reserve_jobs("default", 100, THEIRS).jobs == []
    made.engine.stop()
    assert len(made.store.reserve_jobs("default", 100, THEIRS).jobs) == 51


def test_a_job_that_takes_too_long_is_told_and_goes_back_without_losing_anything(new_harness: NewHarness) -> None:
    made = new_harness(shutdown_timeout=0.05).start()
    job_id = made.submit("sleep", 60, max_attempts=1)
    made.wait_for(job_id, JobStatus.PROCESSING)
    made.engine.stop()
    job = made.job(job_id)
    assert (job.status, job.interruptions, job.failures, job.suspect) == (JobStatus.PENDING, 1, 0, False)
    assert made.store.list_attempts(job_id)[0].status is AttemptStatus.INTERRUPTED


def test_an_interrupted_job_runs_at_the_next_start(new_harness: NewHarness) -> None:
    runs: list[int] = []

    def slow_once(ctx: JobContext, payload: object) -> None:
        runs.append(ctx.attempt)
        if ctx.attempt == 1:
            ctx.sleep(60)

    first = new_harness(shutdown_timeout=0.05, handlers={"slow": slow_once}).start()
    job_id = first.submit("slow", max_attempts=1)
    first.wait_for(job_id, JobStatus.PROCESSING)
    first.engine.stop()
    second = new_harness(first.store, handlers={"slow": slow_once}).start()
    assert second.final(job_id).status is JobStatus.COMPLETED
    assert runs == [1, 2]


def test_a_job_that_does_not_listen_is_put_back_and_its_thread_left(
    new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.lifecycle._CANCEL_GRACE", 0.05)
    made = new_harness(shutdown_timeout=0.05).start()
    job_id = made.block_worker()
    made.engine.stop()
    assert made.job(job_id).status is JobStatus.PENDING
    assert made.engine.stats()["workers"] == 0
    assert "does not end; its thread is abandoned" in caplog.text
    made.gate.set()
    eventually(lambda: made.passed and not our_threads())
    assert made.job(job_id).status is JobStatus.PENDING


def test_a_job_that_begins_after_everybody_was_told_is_told_too(new_harness: NewHarness, faulty: FaultyStore) -> None:
    made = new_harness(faulty, shutdown_timeout=0.02).start()
    claiming, go_on = faulty.hold("claim_job")
    job_id = made.submit("sleep", 60)
    assert claiming.wait(5)
    threading.Timer(0.1, go_on.set).start()
    made.engine.stop()
    assert made.job(job_id).status is JobStatus.PENDING


def test_submissions_are_refused_from_the_beginning_of_the_end(new_harness: NewHarness) -> None:
    made = new_harness().start()
    assert made.engine.not_ready_reason() is None
    made.engine.begin_stop()
    assert made.engine.not_ready_reason() == "the service is shutting down"
    with pytest.raises(ShuttingDown):
        made.submit()
    with pytest.raises(ShuttingDown):
        made.engine.submit_many([new_job()])


def test_an_outcome_is_stored_at_the_end_if_the_store_works_by_then(
    new_harness: NewHarness, faulty: FaultyStore
) -> None:
    """Although the worker rests between two tries, and does not get to another one before it is to give up."""
    made = new_harness(faulty, shutdown_timeout=0).start()
    faulty.fail("finish_job", StoreUnavailable("the disk is on fire"))
    job_id = made.submit()
    eventually(lambda: not faulty.is_waiting("finish_job"))
    made.engine.stop()
    assert made.job(job_id).status is JobStatus.COMPLETED


def test_the_end_of_an_abandoned_job_is_stored_at_the_end_if_the_store_works_by_then(
    new_harness: NewHarness, faulty: FaultyStore
) -> None:
    made = new_harness(faulty, grace=0.01).start()
    faulty.fail("finish_job", StoreUnavailable("the disk is on fire"))
    job_id = made.block_worker(timeout=0.02, max_attempts=1)
    eventually(lambda: not faulty.is_waiting("finish_job"))
    made.engine.stop()
    assert made.job(job_id).status is JobStatus.FAILED


@pytest.mark.usefixtures("short_waits")
def test_hung_jobs_do_not_each_wait_for_a_store_that_does_not_answer(
    new_harness: NewHarness, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lifecycle._CANCEL_GRACE", 0.02)
    made = new_harness(faulty, workers=8, shutdown_timeout=0).start()
    for _ in range(8):
        made.block_worker()
    tries: list[None] = []

    def fail() -> None:
        tries.append(None)
        raise StoreUnavailable("database is locked")

    faulty.run("finish_job", fail, times=1000)
    made.engine.stop()
    # In the abandoning, in a turn of the watchdog or two meanwhile, and at the very end.
    assert len(tries) < 8


def test_no_handler_is_called_for_a_job_that_is_claimed_too_late(new_harness: NewHarness, faulty: FaultyStore) -> None:
    made = new_harness(faulty, shutdown_timeout=0).start()
    claimed, go_on = faulty.hold("claim_job", after=True)
    job_id = made.submit("gate")
    assert claimed.wait(5)
    threading.Timer(0.1, go_on.set).start()
    made.engine.stop()
    job = made.job(job_id)
    assert (job.status, job.interruptions) == (JobStatus.PENDING, 1)
    assert not made.at_gate.acquire(blocking=False)


@pytest.mark.parametrize("release_fails", [False, True])
def test_what_a_submission_holds_when_all_is_over_is_given_back_at_once(
    new_harness: NewHarness, faulty: FaultyStore, *, release_fails: bool
) -> None:
    made = new_harness(faulty).start()
    made.final(made.submit())  # The queue has been fed, so that submissions reserve.
    reserved, go_on = faulty.hold("create_jobs", after=True)
    if release_fails:
        faulty.fail("release_jobs", StoreUnavailable("the disk is on fire"))
    with ThreadPoolExecutor(1) as client:
        submitted = client.submit(made.submit)
        assert reserved.wait(5)
        made.engine.stop()
        assert made.store.reserve_jobs("default", 100, THEIRS).jobs == []
        go_on.set()
        assert made.job(submitted.result(5)).status is JobStatus.PENDING
    assert len(made.store.reserve_jobs("default", 100, THEIRS).jobs) == (0 if release_fails else 1)


def test_who_waits_for_a_job_is_let_go(new_harness: NewHarness) -> None:
    made = new_harness(shutdown_timeout=0.1).start()
    job_id = made.block_worker()
    threading.Timer(0.03, made.engine.stop).start()
    job = made.engine.wait_final(job_id, 60, lambda: False)
    assert job.status is JobStatus.PROCESSING


@pytest.mark.usefixtures("short_waits")
def test_an_outage_of_the_store_does_not_keep_it_from_ending(
    new_harness: NewHarness, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lifecycle._CANCEL_GRACE", 0.2)
    made = new_harness(faulty, workers=2, shutdown_timeout=0.05).start()
    made.block_worker()
    for operation in ("finish_job", "claim_job", "release_jobs", "reserve_jobs", "flush", "renew_leases"):
        faulty.fail(operation, StoreUnavailable("the disk is on fire"), times=10_000)
    for _ in range(20):
        made.submit()
    made.gate.set()
    began = time.monotonic()
    made.engine.stop()
    assert time.monotonic() - began < 2
    assert our_threads() == []


def test_the_last_outcome_is_flushed_before_it_is_over(new_harness: NewHarness, faulty: FaultyStore) -> None:
    made = new_harness(faulty, shutdown_timeout=5).start()
    made.block_worker()
    order: list[str] = []
    for operation in ("finish_job", "flush"):
        faulty.run(operation, partial(order.append, operation), times=1000)
    threading.Timer(0.03, made.gate.set).start()
    made.engine.stop()
    assert order[-1] == "flush"
    assert "finish_job" in order


@pytest.mark.parametrize("unknown", ["flush", "finish_job"])
def test_an_unknown_outcome_at_the_end_is_told_to_who_ends_the_process(
    new_harness: NewHarness, faulty: FaultyStore, monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    monkeypatch.setattr("worker.lifecycle._CANCEL_GRACE", 0.05)
    told: list[OutcomeUnknown] = []
    made = new_harness(faulty, shutdown_timeout=0.02, on_fatal=told.append).start()
    made.block_worker()
    faulty.fail(unknown, OutcomeUnknown("fsync failed"))
    made.engine.stop()
    assert [str(error) for error in told] == ["fsync failed"]


def test_outcomes_are_flushed_at_the_end_although_reservations_cannot_be_given_back(
    new_harness: NewHarness, faulty: FaultyStore
) -> None:
    made = new_harness(faulty, shutdown_timeout=5).start()
    made.block_worker()
    made.submit()
    faulty.fail("release_jobs", RuntimeError("a bug"), times=1000)
    by: list[threading.Thread] = []
    faulty.run("flush", lambda: by.append(threading.current_thread()), times=1000)
    threading.Timer(0.03, made.gate.set).start()
    made.engine.stop()
    assert faulty.calls["release_jobs"] == 0
    assert by[-1] is threading.current_thread()  # Not the syncer, which had ended before.


ORDERS: list[list[Callable[[Engine], Any]]] = [
    [Engine.stop],
    [Engine.stop, Engine.start],
    [Engine.start, Engine.start, Engine.stop, Engine.stop],
    [Engine.begin_stop, Engine.start, Engine.stop],
    [Engine.start, Engine.begin_stop, Engine.begin_stop, Engine.stop, Engine.start],
]


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_calls_ends_well(new_harness: NewHarness, order: list[Callable[[Engine], Any]]) -> None:
    made = new_harness()
    for call in order:
        call(made.engine)
    assert our_threads() == []


def test_a_stop_before_the_start_is_not_lost(new_harness: NewHarness) -> None:
    made = new_harness()
    job_id = made.submit()
    made.engine.stop()
    made.engine.start()
    assert our_threads() == []
    assert made.job(job_id).status is JobStatus.PENDING


def test_starts_and_stops_that_race_end_well(new_harness: NewHarness) -> None:
    for _ in range(20):
        made = new_harness(workers=2)
        for _ in range(10):
            made.submit()
        race([made.engine.start, made.engine.stop, made.engine.stop, made.engine.start])
        assert our_threads() == []
        assert made.engine.stats()["processing"] == 0


def test_submissions_that_race_with_a_stop_are_refused_or_stored(new_harness: NewHarness) -> None:
    for _ in range(10):
        made = new_harness(workers=2).start()
        answered: list[str] = []

        def submit(made: Harness = made, answered: list[str] = answered) -> None:
            with suppress(ShuttingDown):
                answered.extend(made.submit() for _ in range(200))

        race([submit, submit, made.engine.stop])
        again = new_harness(made.store, workers=2).start()
        for job_id in answered:
            assert again.final(job_id).status is JobStatus.COMPLETED
        again.end()
