"""Jobs that may have killed the service run alone first."""

import random

import pytest

from store.errors import OutcomeUnknown, StoreUnavailable
from store.job import JobStatus
from store.leases import Lease
from store.memory import MemoryStore
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.worker.faulty_store import FaultyStore
from tests.worker.harness import Harness, NewHarness, new_job

DEAD = Lease("a process that died", 30.0)


def left_running(made: Harness, *job_types: str, **fields: object) -> list[str]:
    """Jobs that another process ran when it died. Those of the type ``sleep`` sleep for a minute."""
    ids = []
    for job_type in job_types:
        job = made.store.create_jobs([new_job(job_type, 60, **fields)])[0].job
        assert made.store.claim_job(job.id, DEAD)
        ids.append(job.id)
    return ids


def test_suspects_run_one_at_a_time_and_the_others_after_them(new_harness: NewHarness) -> None:
    made = new_harness(workers=4)
    suspects = left_running(made, "gate", "gate")
    others = [made.submit() for _ in range(3)]
    made.start()
    assert made.at_gate.acquire(timeout=5)
    assert [made.job(job_id).status for job_id in suspects] == [JobStatus.PROCESSING, JobStatus.PENDING]
    assert made.job(suspects[0]).alone
    others.append(made.submit())
    assert {made.job(job_id).status for job_id in others} == {JobStatus.PENDING}
    eventually(lambda: made.engine.stats()["suspects"] == 2)
    made.gate.set()
    for job_id in (*suspects, *others):
        assert made.final(job_id).status is JobStatus.COMPLETED
    assert made.engine.stats()["suspects"] == 0


def test_the_dispatcher_sleeps_while_the_queues_are_closed(new_harness: NewHarness) -> None:
    """Every queue begins as overflowing; a dispatcher that went by that alone would spin all the while."""
    made = new_harness()
    left_running(made, "gate")
    made.start()
    assert made.at_gate.acquire(timeout=5)
    dispatcher = made.engine._parts.dispatcher
    assert not dispatcher.is_open
    assert dispatcher._turn() == 60.0


def test_a_suspect_that_runs_on_is_no_suspect_any_more_and_the_queues_open(new_harness: NewHarness) -> None:
    made = new_harness(quarantine_limit=0.05)
    (slow,) = left_running(made, "gate")
    made.start()
    assert made.final(made.submit()).status is JobStatus.COMPLETED
    job = made.job(slow)
    assert (job.status, job.alone, job.suspect) == (JobStatus.PROCESSING, False, False)
    made.gate.set()
    assert made.final(slow).status is JobStatus.COMPLETED


def test_a_suspect_beside_one_that_runs_on_is_not_alone_and_not_to_blame(new_harness: NewHarness) -> None:
    made = new_harness(quarantine_limit=0.05)
    _, second = left_running(made, "gate", "gate")
    made.start()
    for _ in range(2):
        assert made.at_gate.acquire(timeout=5)
    assert not made.job(second).alone
    made.gate.set()


def test_a_suspect_that_hangs_is_abandoned_and_the_queues_open(new_harness: NewHarness) -> None:
    made = new_harness()
    (hung,) = left_running(made, "gate", timeout=0.02, max_attempts=2)
    made.start()
    assert made.final(hung).status is JobStatus.FAILED
    assert made.final(made.submit()).status is JobStatus.COMPLETED
    stats = made.engine.stats()
    assert (stats["abandoned"], stats["workers"]) == (1, 1)


def test_a_suspect_that_fails_takes_its_further_attempts_beside_the_others(new_harness: NewHarness) -> None:
    attempts: list[int] = []

    def bad(ctx: object, payload: object) -> None:
        attempts.append(1)
        raise ValueError("boom")

    made = new_harness(handlers={"bad": bad})
    (job_id,) = left_running(made, "bad", max_attempts=3)
    made.start()
    eventually(lambda: attempts)
    eventually(lambda: not made.job(job_id).suspect)
    assert made.final(made.submit()).status is JobStatus.COMPLETED


def test_suspects_can_be_cancelled_while_they_run_and_while_they_wait(new_harness: NewHarness) -> None:
    made = new_harness()
    running, waiting = left_running(made, "sleep", "sleep")
    made.start()
    made.wait_for(running, JobStatus.PROCESSING)
    made.engine.cancel(waiting)
    made.engine.cancel(running)
    assert made.final(running).status is JobStatus.CANCELLED
    assert made.final(made.submit()).status is JobStatus.COMPLETED


def test_a_suspect_of_a_queue_that_is_not_configured_waits_and_stops_nobody(new_harness: NewHarness) -> None:
    made = new_harness()
    (job_id,) = left_running(made, "echo", queue="old")
    made.start()
    made.final(made.submit())
    job = made.job(job_id)
    assert (job.status, job.suspect) == (JobStatus.PENDING, True)


def test_a_suspect_of_a_queue_that_is_paused_meanwhile_runs_after_the_pause(
    new_harness: NewHarness, faulty: FaultyStore
) -> None:
    made = new_harness(faulty)
    (job_id,) = left_running(made, "echo")
    faulty.run("recover", lambda: faulty.pause_queue("default"), after=True)
    made.start()
    eventually(lambda: made.engine.not_ready_reason() is None)
    assert made.job(job_id).status is JobStatus.PENDING
    made.engine.resume("default")
    assert made.final(job_id).status is JobStatus.COMPLETED


def test_a_job_that_took_the_service_down_alone_twice_is_failed(new_harness: NewHarness) -> None:
    made = new_harness()
    (job_id,) = left_running(made, "echo")
    for _ in range(2):
        assert made.store.recover(solo_limit=2).suspects == [job_id]
        assert made.store.claim_job(job_id, DEAD, alone=True)
    made.start()
    job = made.final(job_id)
    assert job.error is not None
    assert (job.status, job.error.type) == (JobStatus.FAILED, "Crashed")


def test_a_shutdown_interrupts_a_suspect_which_is_none_afterwards(new_harness: NewHarness) -> None:
    made = new_harness(shutdown_timeout=0.05)
    (job_id,) = left_running(made, "sleep")
    made.start()
    made.wait_for(job_id, JobStatus.PROCESSING)
    made.engine.stop()
    job = made.job(job_id)
    assert (job.status, job.interruptions, job.suspect) == (JobStatus.PENDING, 1, False)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("operation", ["get_job", "claim_job", "finish_job", "end_solitude"])
def test_an_outage_does_not_keep_the_queues_closed(
    new_harness: NewHarness, faulty: FaultyStore, operation: str
) -> None:
    made = new_harness(faulty, quarantine_limit=0.05)
    (suspect, slow) = left_running(made, "echo", "gate")
    faulty.fail(operation, StoreUnavailable("the disk is on fire"), times=2)
    made.start()
    eventually(lambda: made.engine.stats()["suspects"] == 0)
    assert made.final(made.submit()).status is JobStatus.COMPLETED
    assert made.final(suspect).status is JobStatus.COMPLETED
    made.gate.set()
    assert made.final(slow).status is JobStatus.COMPLETED


def test_a_suspect_runs_although_the_clock_was_set_back(new_harness: NewHarness) -> None:
    clock = FakeClock()
    faulty = FaultyStore(MemoryStore(clock, random.Random(1)))
    made = new_harness(faulty, clock=clock)
    (job_id,) = left_running(made, "echo")
    faulty.run("recover", lambda: clock.jump(-3600), after=True)
    made.start()
    made.wait_for(job_id, JobStatus.COMPLETED)


def test_a_suspect_that_is_not_due_beside_another_runs_when_it_is(
    new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.dispatcher._LONGEST_SLEEP", 0.02)
    clock = FakeClock()
    faulty = FaultyStore(MemoryStore(clock, random.Random(1)))
    made = new_harness(faulty, clock=clock, quarantine_limit=0.02)
    _, second = left_running(made, "gate", "echo")
    # No more than is taken for a correction; else it would be moved along.
    faulty.run("recover", lambda: clock.jump(-1), after=True)
    made.start()
    assert made.at_gate.acquire(timeout=5)
    clock.advance(0.5)
    eventually(lambda: made.engine.stats()["suspects"] == 0)
    assert made.job(second).status is JobStatus.PENDING
    clock.advance(0.5)
    made.wait_for(second, JobStatus.COMPLETED)


def test_the_queues_open_in_time_whatever_suspects_are_left(new_harness: NewHarness) -> None:
    made = new_harness(quarantine_total=0.1)
    first, *others = left_running(made, "gate", "echo", "echo")
    (elsewhere,) = left_running(made, "echo", queue="old")
    made.start()
    for job_id in (*others, made.submit()):
        assert made.final(job_id).status is JobStatus.COMPLETED
    job = made.job(first)
    assert (job.status, job.alone, job.suspect) == (JobStatus.PROCESSING, False, False)
    assert made.job(elsewhere).suspect
    stats = made.engine.stats()
    assert (stats["suspects"], stats["workers"], stats["busy"]) == (0, 1, 1)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("operation", ["end_solitude", "release_suspects", "get_job"])
@pytest.mark.parametrize("error", [StoreUnavailable("the disk is on fire"), RuntimeError("a bug")])
def test_the_queues_open_in_time_although_the_store_fails(
    new_harness: NewHarness, faulty: FaultyStore, operation: str, error: Exception
) -> None:
    made = new_harness(faulty, quarantine_total=0.1)
    _, second = left_running(made, "gate", "echo")
    made.start()
    assert made.at_gate.acquire(timeout=5)
    faulty.fail(operation, error, times=20)
    eventually(lambda: made.engine._parts.dispatcher.is_open)
    eventually(lambda: made.engine.stats()["suspects"] == 0)
    faulty.mend()
    assert made.final(second).status is JobStatus.COMPLETED


def test_a_shutdown_leaves_the_suspects_whose_turn_had_not_come(new_harness: NewHarness) -> None:
    made = new_harness(shutdown_timeout=0.02)
    first, second = left_running(made, "sleep", "echo")
    made.start()
    made.wait_for(first, JobStatus.PROCESSING)
    made.engine.stop()
    job = made.job(second)
    assert (job.status, job.suspect) == (JobStatus.PENDING, True)


def test_a_shutdown_during_a_claim_leaves_its_job_a_suspect(new_harness: NewHarness, faulty: FaultyStore) -> None:
    made = new_harness(faulty, shutdown_timeout=0.02)
    (job_id,) = left_running(made, "echo")
    faulty.run("get_job", made.engine._parts.stop.set)
    made.start()
    eventually(lambda: made.engine.stats()["suspects"] == 0)
    assert made.job(job_id).suspect


@pytest.mark.parametrize("where", ["worker.executor.decide", "worker.executor.Run"])
def test_an_unexpected_error_is_logged_and_the_attempt_let_go(
    new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    made = new_harness()
    left_running(made, "echo")
    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        made.start()
        eventually(lambda: made.engine._parts.dispatcher.is_open)
    assert "gofer-worker-default-alone: unexpected error" in caplog.text
    assert made.engine._parts.running.ids() == []
    assert made.final(made.submit()).status is JobStatus.COMPLETED


@pytest.mark.usefixtures("short_waits")
def test_an_unknown_outcome_in_the_quarantine_ends_the_process(new_harness: NewHarness, faulty: FaultyStore) -> None:
    told: list[OutcomeUnknown] = []
    made = new_harness(faulty, quarantine_limit=0.05, on_fatal=told.append)
    left_running(made, "gate")
    faulty.fail("end_solitude", OutcomeUnknown("fsync failed"))
    made.start()
    eventually(lambda: told)
    assert "fsync failed" in (made.engine.not_ready_reason() or "")
