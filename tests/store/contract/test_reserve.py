"""Reserving: which jobs a dispatcher gets, and in which order."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from store.job import JobStatus
from store.protocol import DueJob, JobStore
from store.transitions import Failed
from tests.fake_clock import START, FakeClock
from tests.store.race import race
from tests.store.samples import BOOM, OURS, THEIRS, claim, create, create_in, create_processing, finish, new_job


def reserve(store: JobStore, limit: int = 100, queue: str = "default") -> list[str]:
    """The ids that we get."""
    return [due.id for due in store.reserve_jobs(queue, limit, OURS).jobs]


def test_an_empty_queue_gives_nothing(store: JobStore) -> None:
    reservation = store.reserve_jobs("default", 10, OURS)
    assert (reservation.jobs, reservation.next_run_at) == ([], None)


def test_the_oldest_jobs_come_first_up_to_the_limit(store: JobStore) -> None:
    ids = [created.job.id for created in store.create_jobs([new_job()] * 10)]
    assert reserve(store, limit=4) == ids[:4]
    assert reserve(store, limit=4) == ids[4:8]
    assert reserve(store, limit=4) == ids[8:]


def test_priority_comes_before_how_long_due_comes_before_age(store: JobStore, clock: FakeClock) -> None:
    runs = [(0, 5), (0, 3), (9, 9), (0, 3), (-9, 1), (9, 2), (0, None)]
    ids = [
        create(store, priority=priority, run_at=None if run_at is None else START + timedelta(seconds=run_at)).id
        for priority, run_at in runs
    ]
    clock.advance(10)
    jobs = store.reserve_jobs("default", 100, OURS).jobs
    assert jobs == [DueJob(ids[n], runs[n][0]) for n in (5, 2, 6, 1, 3, 0, 4)]


def test_the_order_holds_across_reservations(store: JobStore) -> None:
    late = create(store)
    assert reserve(store, limit=1) == [late.id]
    low, high = create(store, priority=-1), create(store, priority=1)
    assert reserve(store, limit=1) == [high.id]
    assert reserve(store, limit=1) == [low.id]


def test_a_limit_of_nothing_reserves_nothing(store: JobStore) -> None:
    create(store)
    assert reserve(store, limit=0) == []
    assert len(reserve(store)) == 1


def test_a_reserved_job_is_not_reserved_again(store: JobStore) -> None:
    create(store)
    assert len(reserve(store)) == 1
    assert reserve(store) == []
    assert store.reserve_jobs("default", 10, THEIRS).jobs == []


def test_only_pending_jobs_are_reserved(store: JobStore) -> None:
    jobs = {status: create_in(store, status) for status in JobStatus}
    assert reserve(store) == [jobs[JobStatus.PENDING].id]


def test_each_queue_has_its_own_jobs(store: JobStore) -> None:
    mail = create(store, queue="mail")
    create(store, queue="reports")
    assert reserve(store, queue="mail") == [mail.id]
    assert reserve(store, queue="Mail") == []


def test_a_paused_queue_gives_nothing(store: JobStore) -> None:
    create(store)
    store.pause_queue("default")
    assert reserve(store) == []
    store.resume_queue("default")
    assert len(reserve(store)) == 1


def test_a_future_job_is_not_reserved_before_it_is_due(store: JobStore, clock: FakeClock) -> None:
    job = create(store, run_at=START + timedelta(seconds=10))
    clock.advance(9.999999)
    assert reserve(store) == []
    clock.advance(0.000001)
    assert reserve(store) == [job.id]


def test_a_job_is_not_due_any_more_when_the_wall_clock_is_set_back(store: JobStore, clock: FakeClock) -> None:
    jobs = [create(store, priority=n, run_at=START + timedelta(seconds=10 * n)) for n in (1, 2)]
    clock.jump(15)
    reservation = store.reserve_jobs("default", 0, OURS)
    assert reservation.next_run_at == jobs[1].run_at
    clock.jump(-10)
    reservation = store.reserve_jobs("default", 10, OURS)
    assert (reservation.jobs, reservation.next_run_at) == ([], jobs[0].run_at)
    clock.jump(15)
    assert reserve(store) == [jobs[1].id, jobs[0].id]


def test_the_next_run_at_is_the_earliest_to_come_in_this_queue(store: JobStore) -> None:
    for seconds in (30, 10, 20):
        create(store, priority=seconds, run_at=START + timedelta(seconds=seconds))
    create(store, queue="other", run_at=START + timedelta(seconds=5))
    create(store)
    assert store.reserve_jobs("default", 10, OURS).next_run_at == START + timedelta(seconds=10)


def test_the_next_run_at_does_not_depend_on_the_limit(store: JobStore) -> None:
    store.create_jobs([new_job()] * 3)
    create(store, priority=-5, run_at=START + timedelta(seconds=10))
    assert store.reserve_jobs("default", 1, OURS).next_run_at == START + timedelta(seconds=10)


def test_a_cancelled_future_job_is_not_to_come(store: JobStore) -> None:
    store.cancel_job(create(store, run_at=START + timedelta(seconds=10)).id)
    assert store.reserve_jobs("default", 10, OURS).next_run_at is None


def test_a_retry_that_waits_is_to_come(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store)
    clock.advance(1)
    store.finish_job(job.id, 1, Failed(BOOM, retry_in=5))
    assert store.reserve_jobs("default", 10, OURS).next_run_at == START + timedelta(seconds=6)
    clock.advance(5)
    assert reserve(store) == [job.id]


def test_a_suspect_is_left_out(store: JobStore, restart: Callable[[], JobStore]) -> None:
    create_processing(store)
    other = create(store)
    store = restart()
    store.recover(solo_limit=2)
    assert reserve(store) == [other.id]


def test_a_released_job_is_free_again_in_its_old_place(store: JobStore) -> None:
    ids = [created.job.id for created in store.create_jobs([new_job()] * 3)]
    assert reserve(store) == ids
    store.release_jobs([ids[1], ids[0]], OURS.owner)
    assert [due.id for due in store.reserve_jobs("default", 10, THEIRS).jobs] == ids[:2]


def test_a_reservation_is_released_by_its_owner_only(store: JobStore) -> None:
    job = create(store)
    reserve(store)
    store.release_jobs([job.id], THEIRS.owner)
    assert store.reserve_jobs("default", 10, THEIRS).jobs == []
    assert store.renew_leases([job.id], OURS) == set()


@pytest.mark.parametrize("status", JobStatus)
def test_releasing_what_is_not_reserved_changes_nothing(store: JobStore, status: JobStatus) -> None:
    job = create_in(store, status)
    store.release_jobs([job.id, "nobody", job.id], OURS.owner)
    assert store.get_job(job.id) == job
    if status is JobStatus.PROCESSING:
        assert store.renew_leases([job.id], OURS) == set()
        finish(store, job)


def test_a_released_job_can_be_claimed_by_anybody(store: JobStore) -> None:
    job = create(store)
    reserve(store)
    store.release_jobs([job.id], OURS.owner)
    assert store.claim_job(job.id, THEIRS) is not None


def test_threads_that_reserve_at_once_never_get_the_same_job(store: JobStore) -> None:
    ids = {created.job.id for created in store.create_jobs([new_job()] * 100)}
    got = [job_id for each in race([partial(reserve, store, 7)] * 20) for job_id in each]
    assert len(got) == len(set(got)) == 100
    assert set(got) == ids


def test_a_job_claimed_without_reservation_is_not_reserved_after_its_end(store: JobStore) -> None:
    job = finish(store, claim(store, create(store)))
    assert job.status is JobStatus.COMPLETED
    assert reserve(store) == []
