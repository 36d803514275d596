"""Leases, retention and the engine's check on itself."""

import random
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from store.job import AttemptStatus, Backoff, JobStatus
from store.leases import Lease
from store.memory import MemoryStore
from store.transitions import Completed
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.worker.faulty_store import FaultyStore
from tests.worker.harness import Harness, NewHarness, new_job

THEIRS = Lease("another instance", 0.05)


@pytest.fixture
def busy_reaper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.reaper.INTERVAL", 0.01)


def stop_reaper(made: Harness) -> None:
    """It would notice what is to happen."""
    (reaper,) = [loop for loop in made.engine._parts.services if loop.name == "gofer-reaper"]
    reaper.stop()
    assert reaper.join(5)


@pytest.mark.usefixtures("busy_reaper")
class TestLeases:
    def test_those_of_running_and_buffered_jobs_are_renewed(
        self, new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("worker.assembly._LEASE", 0.1)
        made = new_harness().start()
        made.block_worker()
        ids = [made.submit("gate", number) for number in range(20)]
        assert not threading.Event().wait(0.3)
        assert made.store.reserve_jobs("default", 100, THEIRS).jobs == []
        made.gate.set()
        for job_id in ids:
            assert made.final(job_id).attempt == 1

    def test_a_job_whose_lease_ran_out_elsewhere_is_run_here(self, new_harness: NewHarness) -> None:
        made = new_harness().start()
        job = made.store.create_jobs([new_job()], THEIRS)[0].job
        assert made.store.claim_job(job.id, THEIRS)
        assert made.final(job.id).attempt == 2
        crashed, completed = made.store.list_attempts(job.id)
        assert (crashed.status, completed.status) == (AttemptStatus.CRASHED, AttemptStatus.COMPLETED)

    def test_a_handler_whose_lease_is_lost_is_told_and_nothing_of_it_is_written(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        made = new_harness(faulty).start()
        job_id = made.submit("sleep", 60)
        made.wait_for(job_id, JobStatus.PROCESSING)
        faulty._store._leases.drop(job_id)  # No call of a store does this to a live one.
        eventually(lambda: made.engine.stats()["busy"] == 0)
        assert faulty.calls["finish_job"] == 0
        assert made.job(job_id).status is JobStatus.PROCESSING

    def test_a_handler_is_told_when_its_job_is_reserved_here_again(self, new_harness: NewHarness) -> None:
        """Others ended its attempt while the process stood still; the next renewal would miss nothing."""
        clock = FakeClock()
        made = new_harness(clock=clock).start()
        stop_reaper(made)
        job_id = made.submit("sleep", 60, timeout=3600.0, backoff=Backoff(base=0.0))
        eventually(lambda: made.engine.stats()["busy"] == 1)
        clock.advance(60.0)
        assert made.store.release_expired().crashed
        made.engine._parts.dispatcher.request_feed(["default"])
        eventually(lambda: made.job(job_id).attempt == 2)

    def test_a_job_is_not_left_lying_because_its_old_handler_still_runs(self, new_harness: NewHarness) -> None:
        """Others ended its attempt. A worker is to claim it with an outcome, which is refused."""
        clock, release = FakeClock(), threading.Event()
        faulty = FaultyStore(MemoryStore(clock, random.Random(1)))
        made = new_harness(faulty, clock=clock, workers=2, handlers={"deaf": lambda *_: release.wait()}).start()
        stop_reaper(made)
        deaf = made.submit("deaf", timeout=3600.0, backoff=Backoff(base=0.0))
        eventually(lambda: made.engine.stats()["busy"] == 1)
        blocker = made.block_worker(timeout=3600.0, backoff=Backoff(base=0.0))
        clock.advance(20.0)
        made.store.renew_leases([blocker], made.engine._parts.lease)
        clock.advance(20.0)
        assert [job.id for job in made.store.release_expired().crashed] == [deaf]
        made.engine._parts.dispatcher.request_feed(["default"])
        eventually(lambda: made.engine.stats()["buffered"] == 1)

        def end_the_other() -> None:
            clock.advance(20.0)
            assert [job.id for job in made.store.release_expired().crashed] == [blocker]

        faulty.run("finish_job", end_the_other)
        made.gate.set()
        eventually(lambda: made.job(deaf).attempt == 2)
        release.set()

    def test_buffered_jobs_that_were_never_reserved_stay_and_run(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        made = new_harness(faulty).start()
        made.block_worker()
        jobs = [made.submit("gate", number) for number in range(10)]
        faulty.release_jobs(jobs, made.engine._parts.lease.owner)
        eventually(lambda: faulty.calls["reserve_jobs"] >= 2 and made.engine.stats()["buffered"] == 10)
        made.gate.set()
        for job_id in jobs:
            made.final(job_id)
        assert made.passed[1:] == list(range(10))

    def test_a_buffered_job_that_is_reserved_again_while_leases_are_renewed_is_given_back_and_runs(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        made = new_harness(faulty).start()
        made.block_worker()
        job_id = made.submit()
        owner = made.engine._parts.lease
        faulty.run("renew_leases", lambda: faulty._store.release_jobs([job_id], owner.owner))
        faulty.run("renew_leases", lambda: faulty._store.reserve_jobs("default", 1, owner), after=True)
        eventually(lambda: faulty.calls["renew_leases"] >= 3)
        made.gate.set()
        made.final(job_id)

    def test_a_reservation_that_ran_out_elsewhere_is_fed_here(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        made = new_harness(faulty).start()
        eventually(lambda: made.engine._parts.queues["default"].accepts)
        job = made.store.create_jobs([new_job()], THEIRS)[0].job
        began = time.monotonic()
        made.final(job.id)
        assert time.monotonic() - began < 3  # Less than the self-check takes to find it.

    def test_who_waits_for_a_job_that_ends_with_its_lease_hears_of_it(self, new_harness: NewHarness) -> None:
        made = new_harness().start()
        job = made.store.create_jobs([new_job(max_attempts=1)], THEIRS)[0].job
        assert made.store.claim_job(job.id, THEIRS)
        assert made.final(job.id).status is JobStatus.FAILED


class TestRetention:
    def test_final_jobs_are_deleted_when_they_are_old_enough(self, new_harness: NewHarness) -> None:
        clock = FakeClock()
        made = new_harness(clock=clock, retention={JobStatus.COMPLETED: 100.0})
        made.store.create_jobs([new_job() for _ in range(1200)])
        for _ in range(12):
            for due in made.store.reserve_jobs("default", 100, THEIRS).jobs:
                self.complete(made, due.id)
        clock.advance(99)
        kept = made.store.create_jobs([new_job()])[0].job.id
        self.complete(made, kept)
        clock.advance(2)
        made.start()
        eventually(lambda: made.engine.stats()["completed"] == 1)
        assert made.job(kept).status is JobStatus.COMPLETED

    @staticmethod
    def complete(made: Harness, job_id: str) -> None:
        job = made.store.claim_job(job_id, THEIRS)
        made.store.finish_job(job_id, job.attempt, Completed(new_job().payload))

    @pytest.mark.parametrize("keep", [{}, {JobStatus.COMPLETED: 0.0}, {JobStatus.COMPLETED: 1e300}])
    def test_nothing_is_deleted_without_a_limit(self, new_harness: NewHarness, keep: dict[JobStatus, float]) -> None:
        clock = FakeClock()
        made = new_harness(clock=clock, retention=keep)
        job_id = made.store.create_jobs([new_job()])[0].job.id
        self.complete(made, job_id)
        clock.advance(1e9)
        made.start()
        assert made.job(job_id).status is JobStatus.COMPLETED


class TestSelfCheck:
    @pytest.fixture(autouse=True)
    def often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("worker.self_check._INTERVAL", 0.01)
        monkeypatch.setattr("worker.self_check.LIMIT", 0.05)

    def test_due_jobs_that_nobody_runs_are_a_stall_that_clears_itself(
        self, new_harness: NewHarness, faulty: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        made = new_harness(faulty).start()
        job = faulty.create_jobs([new_job()], Lease("nobody", 3600.0))[0].job
        eventually(lambda: "queue default: 1 pending" in (made.engine.not_ready_reason() or ""))
        assert "stalled: queue default: 1 pending" in caplog.text
        faulty.release_jobs([job.id], "nobody")
        made.final(job.id)
        eventually(lambda: made.engine.not_ready_reason() is None)

    def test_a_job_that_nobody_was_told_of_is_found(self, new_harness: NewHarness) -> None:
        made = new_harness().start()
        made.final(made.submit())
        job = made.store.create_jobs([new_job()])[0].job
        made.final(job.id)

    def test_waiting_for_busy_workers_is_no_stall(self, new_harness: NewHarness) -> None:
        made = new_harness().start()
        made.block_worker()
        made.submit("gate")
        assert not threading.Event().wait(0.15)
        assert made.engine.not_ready_reason() is None

    def test_a_paused_queue_is_no_stall(self, new_harness: NewHarness) -> None:
        made = new_harness().start()
        made.engine.pause("default")
        made.submit()
        assert not threading.Event().wait(0.15)
        assert made.engine.not_ready_reason() is None

    def test_jobs_for_later_are_no_stall(self, new_harness: NewHarness) -> None:
        made = new_harness().start()
        made.submit(run_at=datetime.now(UTC) + timedelta(hours=1))
        assert not threading.Event().wait(0.15)
        assert made.engine.not_ready_reason() is None

    def test_a_worker_that_could_not_be_replaced_is_replaced_later(
        self, new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = new_harness().start()
        refuse = threading.Event()
        start = threading.Thread.start

        def may_refuse(thread: threading.Thread) -> None:
            if refuse.is_set() and thread.name.startswith("gofer-worker"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", may_refuse)
        monkeypatch.setattr("worker.loop._FIRST_REST", 0.01)
        monkeypatch.setattr("worker.loop._LONGEST_REST", 0.01)
        refuse.set()
        made.final(made.submit("gate", timeout=0.02, max_attempts=1))
        eventually(lambda: made.engine.stats()["workers"] == 0)
        refuse.clear()
        assert made.final(made.submit()).status is JobStatus.COMPLETED
        assert made.engine.stats()["workers"] == 1

    def test_workers_are_not_replaced_while_too_many_abandoned_handlers_run(self, new_harness: NewHarness) -> None:
        made = new_harness(workers=2, max_abandoned=2).start()
        for _ in range(3):
            made.final(made.submit("gate", timeout=0.02, max_attempts=1))
        reason = "3 abandoned handlers still run, so no more are replaced: default has 1 of 2 workers"
        eventually(lambda: made.engine.not_ready_reason() == reason)
        stats = made.engine.stats()
        assert (stats["workers"], stats["abandoned"], stats["abandoned_alive"]) == (1, 3, 3)
        assert made.final(made.submit()).status is JobStatus.COMPLETED
        made.gate.set()
        eventually(lambda: made.engine.not_ready_reason() is None)
        stats = made.engine.stats()
        assert (stats["workers"], stats["abandoned"], stats["abandoned_alive"]) == (2, 3, 0)


def test_a_queue_whose_workers_were_taken_away_is_told_of(
    new_harness: NewHarness, caplog: pytest.LogCaptureFixture
) -> None:
    made = new_harness()
    made.store.create_jobs([new_job(queue="reports")] * 3)
    made.start()
    eventually(lambda: "3 jobs wait in the queue reports, which has no workers" in caplog.text)
