"""The wall clock is set: what waits for a time to pass is moved along, what waits for an instant is not."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from store.job import Job, JobStatus
from store.protocol import JobStore
from store.transitions import Failed
from tests.fake_clock import START, FakeClock
from tests.store.samples import (
    BOOM,
    FAILED,
    INTERRUPTED,
    OURS,
    all_jobs,
    claim,
    create,
    create_in,
    create_processing,
    finish,
)

BACKOFF = Failed(BOOM, retry_in=60)
JUMPS = pytest.mark.parametrize("seconds", [3600.0, -3600.0, 1.5, -1.5])


def follow(store: JobStore, limit: int = 100) -> int:
    """How many jobs were moved along in all."""
    moved = 0
    while not (followed := store.follow_clock(limit)).is_complete:
        moved += followed.moved
    return moved + followed.moved


def set_clock(store: JobStore, clock: FakeClock, seconds: float) -> int:
    """Set the wall clock, let jobs be moved along, and say how many were."""
    clock.jump(seconds)
    return follow(store)


def due_in(job: Job, clock: FakeClock) -> float:
    """Seconds."""
    return (job.run_at - clock.now()).total_seconds()


@JUMPS
def test_a_retry_waits_as_long_as_it_is_to(store: JobStore, clock: FakeClock, seconds: float) -> None:
    job = finish(store, create_processing(store), BACKOFF)
    assert set_clock(store, clock, seconds) == 1
    assert due_in(store.get_job(job.id), clock) == 60
    clock.advance(59)
    assert store.claim_job(job.id, OURS) is None
    clock.advance(1)
    assert claim(store, job).attempt == 2


@JUMPS
def test_a_job_that_is_to_run_at_once_is_due_at_once(store: JobStore, clock: FakeClock, seconds: float) -> None:
    job = create(store)
    set_clock(store, clock, seconds)
    assert [due.id for due in store.reserve_jobs("default", 1, OURS).jobs] == [job.id]
    assert store.claim_job(job.id, OURS) is not None


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_an_instant_that_was_given_is_one_of_the_wall_clock(store: JobStore, clock: FakeClock, seconds: float) -> None:
    instant = START + timedelta(minutes=30)
    job = create(store, run_at=instant)
    assert set_clock(store, clock, seconds) == 0
    assert store.get_job(job.id) == job
    assert (store.claim_job(job.id, OURS) is not None) == (seconds > 0)


def test_an_instant_in_the_past_is_one_of_the_wall_clock_too(store: JobStore, clock: FakeClock) -> None:
    job = create(store, run_at=START - timedelta(minutes=30))
    set_clock(store, clock, -3600)
    assert store.claim_job(job.id, OURS) is None


def test_a_job_says_whether_its_instant_was_given(store: JobStore) -> None:
    given, not_given = create(store, run_at=START), create(store)
    assert (given.run_at_given, not_given.run_at_given) == (True, False)
    assert [store.get_job(job.id) for job in (given, not_given)] == [given, not_given]


@pytest.mark.parametrize("outcome", [FAILED, INTERRUPTED])
def test_a_job_that_comes_back_waits_for_no_instant_any_more(
    store: JobStore, clock: FakeClock, outcome: Failed
) -> None:
    job = finish(store, create_processing(store, run_at=START), outcome)
    assert not job.run_at_given
    set_clock(store, clock, -3600)
    assert claim(store, job).attempt == 2


def test_a_job_that_is_retried_by_hand_waits_for_no_instant_any_more(store: JobStore, clock: FakeClock) -> None:
    job = store.retry_job(create_in(store, JobStatus.FAILED, run_at=START).id)
    assert not job.run_at_given
    set_clock(store, clock, -3600)
    assert claim(store, job).attempt == 2


def test_a_job_that_was_interrupted_after_the_clock_was_set_back_is_due(store: JobStore, clock: FakeClock) -> None:
    jobs = [create_processing(store, run_at=run_at) for run_at in (START, None)]
    set_clock(store, clock, -3600)
    for job in jobs:
        assert claim(store, finish(store, job, INTERRUPTED)).attempt == 2


def test_a_slow_correction_is_not_followed(store: JobStore, clock: FakeClock) -> None:
    job = finish(store, create_processing(store), BACKOFF)
    for _ in range(20):
        assert set_clock(store, clock, 0.9) == 0
    assert store.get_job(job.id) == job


def test_a_reserved_job_stays_reserved_and_is_claimed(store: JobStore, clock: FakeClock) -> None:
    job = create(store)
    store.reserve_jobs("default", 1, OURS)
    assert set_clock(store, clock, -3600) == 1
    assert store.reserve_jobs("default", 1, OURS).jobs == []
    assert store.renew_leases([job.id], OURS) == set()
    claim(store, job)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_nothing_is_taken_before_its_time_though_it_is_not_moved_yet(
    store: JobStore, clock: FakeClock, seconds: float
) -> None:
    job = finish(store, create_processing(store), BACKOFF)
    clock.jump(seconds)
    assert store.reserve_jobs("default", 1, OURS).jobs == []
    assert store.claim_job(job.id, OURS) is None


def test_a_reserved_job_is_claimed_though_it_is_not_moved_yet(store: JobStore, clock: FakeClock) -> None:
    job = create(store)
    clock.jump(-3600)
    claim(store, job)


def test_what_is_reckoned_after_the_clock_was_set_is_not_moved(store: JobStore, clock: FakeClock) -> None:
    clock.jump(3600)
    jobs = [create(store), finish(store, create_processing(store), BACKOFF)]
    assert follow(store) == 0
    assert [store.get_job(job.id) for job in jobs] == jobs


@pytest.mark.parametrize("jumps", [(3600.0, -3600.0), (-3600.0, 3600.0), (-100.0, 200.0, -50.0)])
def test_many_settings_add_up_however_few_jobs_are_moved_in_between(
    store: JobStore, clock: FakeClock, jumps: tuple[float, ...]
) -> None:
    waiting = [finish(store, create_processing(store), BACKOFF) for _ in range(5)]
    for seconds in jumps:
        clock.jump(seconds)
        store.follow_clock(2)
        clock.advance(1)
    follow(store)
    assert {due_in(store.get_job(job.id), clock) for job in waiting} == {60.0 - len(jumps)}


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_the_order_of_jobs_is_kept(store: JobStore, clock: FakeClock, seconds: float) -> None:
    """Also of one that is due by the old and by the new time, and one that is due only by the old."""
    order = []
    for wait in (3000, 700, 1, 0):
        order.append(create(store).id)
        clock.advance(wait)
    late = finish(store, create_processing(store), BACKOFF)
    set_clock(store, clock, seconds)
    order.append(create(store).id)
    clock.advance(60)
    assert [due.id for due in store.reserve_jobs("default", 100, OURS).jobs] == [*order, late.id]


def test_all_queues_priorities_and_suspects_are_moved_a_few_at_a_time(
    store: JobStore, clock: FakeClock, restart: Callable[[], JobStore]
) -> None:
    create_processing(store)
    store = restart()
    store.recover(solo_limit=2)
    for queue in ("default", "mail", ""):
        for priority in (-100, 0, 100):
            create(store, queue=queue, priority=priority)
    clock.jump(-3600)
    assert follow(store, limit=2) == 10
    assert {due_in(job, clock) for job in all_jobs(store)} == {0.0}


def test_a_new_process_completes_what_the_last_one_began(
    store: JobStore, clock: FakeClock, reopen: Callable[[], JobStore]
) -> None:
    jobs = [finish(store, create_processing(store), BACKOFF) for _ in range(5)]
    clock.jump(-3600)
    assert store.follow_clock(2).moved == 2
    store = reopen()
    assert store.claim_job(jobs[4].id, OURS) is None
    assert follow(store) == 3
    assert {due_in(store.get_job(job.id), clock) for job in jobs} == {60.0}


def test_what_happens_between_two_processes_is_not_followed(
    clock: FakeClock, store: JobStore, reopen: Callable[[], JobStore]
) -> None:
    job = finish(store, create_processing(store), BACKOFF)
    store.close()
    clock.jump(3600)
    store = reopen()
    assert follow(store) == 0
    assert store.get_job(job.id) == job


def test_a_final_job_keeps_its_instants(store: JobStore, clock: FakeClock) -> None:
    jobs = [create_in(store, status) for status in JobStatus if status.is_final]
    assert set_clock(store, clock, -3600) == 0
    assert [store.get_job(job.id) for job in jobs] == jobs


def test_a_job_that_finishes_after_the_clock_was_set_back_says_what_the_clock_says(
    store: JobStore, clock: FakeClock
) -> None:
    job = create_processing(store)
    set_clock(store, clock, -3600)
    ended = finish(store, job)
    times: list[datetime | None] = [ended.created_at, ended.started_at, ended.finished_at]
    assert times == [START, START, START - timedelta(hours=1)]
