"""Jobs that may have killed the service run alone first."""

from collections.abc import Callable

import pytest

from store.errors import StoreUnavailable
from store.job import JobStatus
from store.leases import Lease
from tests.eventually import eventually
from tests.worker.engines import Bench, new_job
from tests.worker.faulty_store import FaultyStore

SetUp = Callable[..., Bench]

DEAD = Lease("a process that died", 30.0)


def left_running(made: Bench, *job_types: str, **fields: object) -> list[str]:
    """Jobs that another process ran when it died. Those of the type ``sleep`` sleep for a minute."""
    ids = []
    for job_type in job_types:
        job = made.store.create_jobs([new_job(job_type, 60, **fields)])[0].job
        assert made.store.claim_job(job.id, DEAD)
        ids.append(job.id)
    return ids


def test_suspects_run_one_at_a_time_and_the_others_after_them(bench: SetUp) -> None:
    made = bench(workers=4)
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


def test_a_suspect_that_runs_on_is_no_suspect_any_more_and_the_queues_open(bench: SetUp) -> None:
    made = bench(quarantine_limit=0.05)
    (slow,) = left_running(made, "gate")
    made.start()
    assert made.final(made.submit()).status is JobStatus.COMPLETED
    job = made.job(slow)
    assert (job.status, job.alone, job.suspect) == (JobStatus.PROCESSING, False, False)
    made.gate.set()
    assert made.final(slow).status is JobStatus.COMPLETED


def test_a_suspect_beside_one_that_runs_on_is_not_alone_and_not_to_blame(bench: SetUp) -> None:
    made = bench(quarantine_limit=0.05)
    _, second = left_running(made, "gate", "gate")
    made.start()
    for _ in range(2):
        assert made.at_gate.acquire(timeout=5)
    assert not made.job(second).alone
    made.gate.set()


def test_a_suspect_that_hangs_is_abandoned_and_the_queues_open(bench: SetUp) -> None:
    made = bench()
    (hung,) = left_running(made, "gate", timeout=0.02, max_attempts=2)
    made.start()
    assert made.final(hung).status is JobStatus.FAILED
    assert made.final(made.submit()).status is JobStatus.COMPLETED
    stats = made.engine.stats()
    assert (stats["abandoned"], stats["workers"]) == (1, 1)


def test_a_suspect_that_fails_takes_its_further_attempts_beside_the_others(bench: SetUp) -> None:
    attempts: list[int] = []

    def bad(ctx: object, payload: object) -> None:
        attempts.append(1)
        raise ValueError("boom")

    made = bench(handlers={"bad": bad})
    (job_id,) = left_running(made, "bad", max_attempts=3)
    made.start()
    eventually(lambda: attempts)
    eventually(lambda: not made.job(job_id).suspect)
    assert made.final(made.submit()).status is JobStatus.COMPLETED


def test_suspects_can_be_cancelled_while_they_run_and_while_they_wait(bench: SetUp) -> None:
    made = bench()
    running, waiting = left_running(made, "sleep", "sleep")
    made.start()
    made.wait_for(running, JobStatus.PROCESSING)
    made.engine.cancel(waiting)
    made.engine.cancel(running)
    assert made.final(running).status is JobStatus.CANCELLED
    assert made.final(made.submit()).status is JobStatus.COMPLETED


def test_a_suspect_of_a_queue_that_is_not_configured_waits_and_stops_nobody(bench: SetUp) -> None:
    made = bench()
    (job_id,) = left_running(made, "echo", queue="old")
    made.start()
    made.final(made.submit())
    assert made.job(job_id).status is JobStatus.PENDING


def test_a_suspect_of_a_queue_that_is_paused_meanwhile_runs_after_the_pause(bench: SetUp, faulty: FaultyStore) -> None:
    made = bench(faulty)
    (job_id,) = left_running(made, "echo")
    faulty.run("recover", lambda: faulty.pause_queue("default"), after=True)
    made.start()
    eventually(lambda: made.engine.not_ready_reason() is None)
    assert made.job(job_id).status is JobStatus.PENDING
    made.engine.resume("default")
    assert made.final(job_id).status is JobStatus.COMPLETED


def test_a_job_that_took_the_service_down_alone_twice_is_failed(bench: SetUp) -> None:
    made = bench()
    (job_id,) = left_running(made, "echo")
    for _ in range(2):
        assert made.store.recover(solo_limit=2).suspects == [job_id]
        assert made.store.claim_job(job_id, DEAD, alone=True)
    made.start()
    job = made.final(job_id)
    assert job.error is not None
    assert (job.status, job.error.type) == (JobStatus.FAILED, "Crashed")


def test_a_shutdown_interrupts_a_suspect_which_is_none_afterwards(bench: SetUp) -> None:
    made = bench(shutdown_timeout=0.05)
    (job_id,) = left_running(made, "sleep")
    made.start()
    made.wait_for(job_id, JobStatus.PROCESSING)
    made.engine.stop()
    job = made.job(job_id)
    assert (job.status, job.interruptions, job.suspect) == (JobStatus.PENDING, 1, False)


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("operation", ["get_job", "claim_job", "finish_job", "end_solitude"])
def test_an_outage_does_not_keep_the_queues_closed(bench: SetUp, faulty: FaultyStore, operation: str) -> None:
    made = bench(faulty, quarantine_limit=0.05)
    (suspect, slow) = left_running(made, "echo", "gate")
    faulty.fail(operation, StoreUnavailable("the disk is on fire"), times=2)
    made.start()
    eventually(lambda: made.engine.stats()["suspects"] == 0)
    assert made.final(made.submit()).status is JobStatus.COMPLETED
    assert made.final(suspect).status is JobStatus.COMPLETED
    made.gate.set()
    assert made.final(slow).status is JobStatus.COMPLETED
