"""From the store into the buffers: no due job may ever be forgotten."""

import random
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from store.errors import IllegalTransition, OutcomeUnknown, StoreUnavailable
from store.job import JobStatus
from tests.eventually import eventually
from tests.fake_clock import FakeClock
from tests.store.race import race
from tests.worker.faulty_store import FaultyStore
from tests.worker.harness import Harness, NewHarness, new_job
from worker.errors import BacklogFull, UnknownQueue

OUTAGE = StoreUnavailable("the disk is on fire")


def completed(made: Harness, count: int) -> None:
    """Wait until this many jobs are completed: less long than the self-check takes to mend what was forgotten."""
    eventually(lambda: made.engine.stats()["completed"] >= count, timeout=4)
    stats = made.engine.stats()
    assert (stats["completed"], stats["pending"], stats["processing"]) == (count, 0, 0)


def soon(seconds: float = 0.03) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_a_backlog_of_the_last_start_is_run(new_harness: NewHarness) -> None:
    made = new_harness(workers=2)
    made.store.create_jobs([new_job() for _ in range(350)])
    made.start()
    completed(made, 350)


def test_a_backlog_keeps_its_order_also_against_new_jobs(new_harness: NewHarness) -> None:
    order: list[object] = []
    made = new_harness(handlers={"note": lambda ctx, payload: order.append(payload)})
    made.store.create_jobs([new_job("note", number) for number in range(250)])
    made.start()
    for number in range(250, 300):
        made.submit("note", number)
    completed(made, 300)
    assert order == list(range(300))


def test_jobs_past_the_buffer_wait_in_the_store_and_then_run_in_order(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.block_worker()
    for number in range(250):
        made.submit("gate", number)
    assert made.engine.stats()["buffered"] <= 100
    made.gate.set()
    completed(made, 251)
    assert made.passed[1:] == list(range(250))


def test_only_the_first_submission_pays_for_a_full_buffer(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.block_worker()
    for number in range(100):
        made.submit("gate", number)
    began = datetime.now(UTC)
    for number in range(100, 120):
        made.submit("gate", number)
    assert 0.1 <= (datetime.now(UTC) - began).total_seconds() < 0.5
    made.gate.set()
    completed(made, 121)


def test_a_reserved_job_that_the_buffer_refuses_is_given_back(new_harness: NewHarness, faulty: FaultyStore) -> None:
    """The queue begins to overflow between the reservation and the offer."""
    made = new_harness(faulty).start()
    made.final(made.submit())
    faulty.run("create_jobs", made.engine._parts.queues["default"].mark_overflowing, after=True)
    made.submit()
    completed(made, 2)


def test_a_batch_runs_in_order(new_harness: NewHarness) -> None:
    order: list[object] = []
    made = new_harness(handlers={"note": lambda ctx, payload: order.append(payload)}).start()
    made.engine.submit_many([new_job("note", number) for number in range(300)])
    completed(made, 300)
    assert order == list(range(300))


def test_a_batch_of_several_queues_and_times_is_run(new_harness: NewHarness) -> None:
    made = new_harness(queues={"default": 1, "mail": 1}).start()
    made.engine.submit_many(
        [new_job(), new_job(queue="mail"), new_job(run_at=soon()), new_job(queue="mail", run_at=soon())]
    )
    completed(made, 4)


def test_higher_priority_runs_first_within_a_buffer(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.block_worker()
    for priority in (0, 50, -50, 100):
        made.submit("gate", priority, priority=priority)
    made.gate.set()
    completed(made, 5)
    assert made.passed[1:] == [100, 50, 0, -50]


def test_a_job_for_later_runs_when_its_time_has_come(new_harness: NewHarness) -> None:
    made = new_harness().start()
    run_at = soon(0.05)
    job = made.final(made.submit(run_at=run_at))
    assert job.started_at is not None
    assert run_at <= job.started_at < run_at + timedelta(seconds=1)


def test_an_earlier_job_wakes_the_dispatcher_from_a_longer_sleep(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.submit(run_at=soon(3600))
    made.final(made.submit(run_at=soon(0.03)))


def test_a_time_in_the_past_is_now(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.final(made.submit(run_at=datetime(1971, 1, 1, tzinfo=UTC)))


def test_a_buffered_job_that_is_not_due_any_more_runs_when_it_is_again(
    new_harness: NewHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock went back after the job went into the buffer, by no more than is taken for a correction."""
    monkeypatch.setattr("worker.dispatcher._LONGEST_SLEEP", 0.02)
    clock = FakeClock()
    made = new_harness(clock=clock).start()
    made.block_worker()
    job_id = made.submit()
    clock.jump(-1)
    made.gate.set()
    eventually(lambda: made.engine.stats()["busy"] == 0)
    assert made.job(job_id).status is JobStatus.PENDING
    clock.jump(1)
    made.wait_for(job_id, JobStatus.COMPLETED)


def test_an_idle_engine_leaves_the_store_alone(new_harness: NewHarness, faulty: FaultyStore) -> None:
    made = new_harness(faulty).start()
    made.final(made.submit())
    done = threading.Event()
    eventually(lambda: made.engine.stats()["completed"] == 1)
    assert not done.wait(0.1)
    del faulty.calls["maintain"]  # Once a second.
    before = faulty.calls.copy()
    assert not done.wait(0.3)
    del faulty.calls["maintain"]
    assert faulty.calls == before


# Pausing


def test_a_paused_queue_runs_nothing_and_after_it_everything(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.engine.pause("default")
    ids = [made.submit() for _ in range(150)]
    made.engine.submit_many([new_job() for _ in range(50)])
    assert made.engine.stats()["pending"] == 200
    made.engine.resume("default")
    completed(made, 200)
    assert made.job(ids[0]).status is JobStatus.COMPLETED


def test_jobs_that_were_buffered_when_the_pause_began_run_after_it(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.block_worker()
    for number in range(130):
        made.submit("gate", number)
    made.engine.pause("default")
    assert made.engine.stats()["buffered"] == 0
    made.gate.set()
    eventually(lambda: made.engine.stats()["busy"] == 0)
    assert made.passed == ["blocker"]
    made.engine.resume("default")
    completed(made, 131)
    assert made.passed[1:] == list(range(130))


def test_a_pause_survives_a_restart(new_harness: NewHarness) -> None:
    first = new_harness().start()
    first.engine.pause("default")
    job_id = first.submit()
    first.end()
    second = new_harness(first.store).start()
    assert second.engine.queues()[0].paused
    assert second.job(job_id).status is JobStatus.PENDING
    second.engine.resume("default")
    second.final(job_id)


def test_pauses_and_submissions_in_any_order_lose_nothing(new_harness: NewHarness) -> None:
    made = new_harness(workers=2).start()

    def submit() -> None:
        for _ in range(150):
            made.submit()

    def pause_and_resume() -> None:
        for _ in range(60):
            made.engine.pause("default")
            made.engine.resume("default")

    race([submit, submit, pause_and_resume, pause_and_resume])
    made.engine.resume("default")
    completed(made, 300)


def test_a_pause_of_one_queue_leaves_the_others_alone(new_harness: NewHarness) -> None:
    made = new_harness(queues={"default": 1, "mail": 1}).start()
    made.engine.pause("mail")
    waiting = made.submit(queue="mail")
    made.final(made.submit())
    assert made.job(waiting).status is JobStatus.PENDING


def test_a_slow_queue_does_not_starve_another(new_harness: NewHarness) -> None:
    made = new_harness(queues={"default": 1, "mail": 1}).start()
    made.block_worker()
    for _ in range(150):
        made.submit("gate")
    made.final(made.submit(queue="mail"))


def test_an_unknown_queue_is_refused_and_the_known_are_named(new_harness: NewHarness) -> None:
    made = new_harness().start()
    for call in (made.engine.pause, made.engine.resume, lambda name: made.submit(queue=name)):
        with pytest.raises(UnknownQueue, match=r"'defualt' \(did you mean 'default'\?\)"):
            call("defualt")


def test_queues_that_only_the_store_knows_are_shown_without_workers(new_harness: NewHarness) -> None:
    made = new_harness().start()
    made.store.create_jobs([new_job(queue="old")])
    states = {state.name: state for state in made.engine.queues()}
    assert (states["old"].workers, states["old"].pending) == (0, 1)
    assert (states["default"].workers, states["default"].pending) == (1, 0)
    made.engine.pause("old")
    assert {state.name: state.paused for state in made.engine.queues()} == {"default": False, "old": True}


def test_past_the_backlog_limit_submissions_are_refused_until_there_is_room(new_harness: NewHarness) -> None:
    made = new_harness(max_backlog=10).start()
    made.engine.pause("default")
    made.engine.submit_many([new_job() for _ in range(8)])
    with pytest.raises(BacklogFull):
        made.engine.submit_many([new_job() for _ in range(3)])
    made.submit()
    made.submit()
    with pytest.raises(BacklogFull):
        made.submit()
    made.engine.resume("default")
    completed(made, 10)
    made.final(made.submit())


# A store that fails


def test_a_job_that_is_retried_before_its_cancel_has_emptied_the_buffer_runs(
    new_harness: NewHarness, faulty: FaultyStore
) -> None:
    """The store has cancelled it; somebody else retries it, and it is reserved again under the hands of the first."""
    made = new_harness(faulty).start()
    made.block_worker()
    job_id = made.submit()

    def retry() -> None:
        reserved = faulty.calls["reserve_jobs"]
        made.engine.retry(job_id)
        eventually(lambda: faulty.calls["reserve_jobs"] > reserved and made.engine._parts.queues["default"].accepts)

    faulty.run("cancel_job", retry, after=True)
    made.engine.cancel(job_id)
    made.gate.set()
    assert made.final(job_id).status is JobStatus.COMPLETED


@pytest.mark.usefixtures("short_waits")
class TestAFailingStore:
    def test_a_job_whose_submission_failed_is_not_there(self, new_harness: NewHarness, faulty: FaultyStore) -> None:
        made = new_harness(faulty).start()
        faulty.fail("create_jobs", OUTAGE)
        with pytest.raises(StoreUnavailable):
            made.submit()
        made.final(made.submit())
        completed(made, 1)

    @pytest.mark.parametrize(
        "operation", ["claim_job", "finish_job", "reserve_jobs", "release_jobs", "flush", "renew_leases"]
    )
    def test_an_outage_loses_no_job(self, new_harness: NewHarness, faulty: FaultyStore, operation: str) -> None:
        made = new_harness(faulty, workers=2)
        faulty.fail(operation, OUTAGE, times=5)
        made.engine.submit_many([new_job() for _ in range(120)])
        made.start()
        for _ in range(120):
            made.submit()
        completed(made, 240)
        eventually(lambda: made.engine.not_ready_reason() is None)

    @pytest.mark.parametrize("operation", ["claim_job", "finish_job", "reserve_jobs"])
    def test_an_error_that_should_not_be_loses_no_job(
        self, new_harness: NewHarness, faulty: FaultyStore, operation: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("worker.worker._REST", 0.01)
        made = new_harness(faulty, workers=2)
        faulty.fail(operation, RuntimeError("a bug"), times=1)
        made.store.create_jobs([new_job() for _ in range(150)])
        made.start()
        eventually(lambda: made.engine.stats()["completed"] >= 149 and not made.engine.stats()["processing"])
        assert made.engine.stats()["workers"] == 2

    def test_a_worker_holds_on_to_an_outcome_and_readiness_says_why(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        runs: list[object] = []
        made = new_harness(faulty, handlers={"note": lambda ctx, payload: runs.append(payload)}).start()
        faulty.fail("finish_job", OUTAGE, times=1000)
        job_id = made.submit("note")
        eventually(lambda: "the disk is on fire" in (made.engine.not_ready_reason() or ""))
        assert made.job(job_id).status is JobStatus.PROCESSING
        faulty.mend()
        made.final(job_id)
        eventually(lambda: made.engine.not_ready_reason() is None)
        assert len(runs) == 1

    def test_the_notes_of_an_attempt_survive_an_outage(self, new_harness: NewHarness, faulty: FaultyStore) -> None:
        made = new_harness(faulty, handlers={"talk": lambda ctx, payload: ctx.log("hello")}).start()
        faulty.fail("record_notes", OUTAGE, times=3)
        faulty.fail("finish_job", OUTAGE, times=3)
        job_id = made.submit("talk")
        made.final(job_id)
        assert [line.message for line in faulty.list_log(job_id)] == ["hello"]

    def test_an_outcome_that_the_store_cannot_keep_fails_the_attempt(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        made = new_harness(faulty).start()
        faulty.fail("finish_job", ValueError("too strange"))
        job = made.final(made.submit(max_attempts=1))
        assert job.error is not None
        assert job.error.type == "OutcomeRefused"

    def test_an_abandoned_job_ends_when_the_store_works_again(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        made = new_harness(faulty).start()
        faulty.fail("finish_job", OUTAGE, times=3)
        job = made.final(made.submit("gate", timeout=0.02, max_attempts=1))
        assert job.error is not None
        assert job.error.type == "TimedOut"

    def test_an_unknown_outcome_is_told_to_who_ends_the_process(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        told: list[OutcomeUnknown] = []
        made = new_harness(faulty, on_fatal=told.append).start()
        faulty.fail("flush", OutcomeUnknown("fsync failed"))
        made.final(made.submit())
        eventually(lambda: told)

    @pytest.mark.parametrize(
        "operation",
        [
            "reserve_jobs",
            "release_expired",
            "count_queues",
            "delete_finished",
            "maintain",
            "follow_clock",
            "record_notes",
        ],
    )
    def test_an_unknown_outcome_that_any_loop_meets_ends_the_process_and_readiness_says_so(
        self, new_harness: NewHarness, faulty: FaultyStore, operation: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("worker.recorder._INTERVAL", 0.01)
        told: list[OutcomeUnknown] = []
        made = new_harness(
            faulty,
            handlers={"talk": lambda ctx, payload: (ctx.log("hello"), ctx.sleep(0.1))},
            retention={JobStatus.COMPLETED: 3600.0},
            on_fatal=told.append,
        )
        faulty.fail(operation, OutcomeUnknown("fsync failed"))
        made.start()
        made.final(made.submit("talk"))
        eventually(lambda: told)
        eventually(lambda: not any(loop.failure for loop in made.engine._parts.services))
        assert "fsync failed" in (made.engine.not_ready_reason() or "")

    def test_an_unknown_outcome_of_an_abandoned_job_ends_the_process(
        self, new_harness: NewHarness, faulty: FaultyStore
    ) -> None:
        told: list[OutcomeUnknown] = []
        made = new_harness(faulty, on_fatal=told.append).start()
        faulty.fail("finish_job", OutcomeUnknown("fsync failed"))
        made.final(made.submit("gate", timeout=0.02, max_attempts=1))
        assert [str(error) for error in told] == ["fsync failed"]

    def test_everything_at_once_loses_no_job(self, new_harness: NewHarness, faulty: FaultyStore) -> None:
        """Outages, pauses, batches and cancels in random order; in the end, every job is final."""
        made = new_harness(faulty, workers=3).start()
        rng = random.Random(11)
        ids: list[str] = []
        for _ in range(400):
            action = rng.randrange(12)
            if action == 0:
                operation = rng.choice(["claim_job", "finish_job", "reserve_jobs", "release_jobs"])
                faulty.fail(operation, OUTAGE, times=rng.randrange(1, 4))
            elif action == 1:
                made.engine.pause("default")
                made.engine.resume("default")
            elif action == 2:
                ids += [created.job.id for created in made.engine.submit_many([new_job()] * rng.randrange(1, 40))]
            elif action == 3 and ids:
                with suppress(IllegalTransition):  # It may have ended meanwhile.
                    made.engine.cancel(rng.choice(ids))
            else:
                ids.append(made.submit(run_at=soon(0.02) if action == 4 else None))
        faulty.mend()
        eventually(lambda: all(made.job(job_id).status.is_final for job_id in ids), timeout=4.5)
        assert made.engine.stats()["failed"] == 0
