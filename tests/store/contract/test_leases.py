"""Leases: rights that end unless they are renewed, on a clock that nobody can set."""

from datetime import timedelta

import pytest

from store.job import AttemptStatus, JobStatus
from store.leases import Lease
from store.protocol import JobStore
from tests.fake_clock import START, FakeClock
from tests.store.samples import OURS, THEIRS, claim, create, create_in, create_processing, new_job


def test_the_owner_renews_what_it_holds(store: JobStore) -> None:
    reserved, running = create(store), create_processing(store)
    store.reserve_jobs("default", 1, OURS)
    assert store.renew_leases([reserved.id, running.id], OURS) == set()


def test_nobody_renews_what_another_holds(store: JobStore) -> None:
    reserved, running = create(store), create_processing(store)
    store.reserve_jobs("default", 1, OURS)
    assert store.renew_leases([reserved.id, running.id], THEIRS) == {reserved.id, running.id}
    assert store.renew_leases([reserved.id, running.id], OURS) == set()


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.PROCESSING])
def test_what_nobody_holds_cannot_be_renewed(store: JobStore, status: JobStatus) -> None:
    job = create_in(store, status)
    assert store.renew_leases([job.id, "nobody"], OURS) == {job.id, "nobody"}


def test_renewing_nothing_loses_nothing(store: JobStore) -> None:
    assert store.renew_leases([], OURS) == set()


def test_a_reservation_that_ran_out_becomes_free(store: JobStore, clock: FakeClock) -> None:
    job = create(store)
    store.reserve_jobs("default", 1, OURS)
    clock.advance(OURS.seconds)
    assert store.release_expired().crashed == []
    assert store.get_job(job.id) == job
    assert store.renew_leases([job.id], OURS) == {job.id}
    assert [due.id for due in store.reserve_jobs("default", 1, THEIRS).jobs] == [job.id]


def test_an_attempt_whose_lease_ran_out_ends_as_crashed(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store)
    clock.advance(OURS.seconds)
    (ended,) = store.release_expired().crashed
    assert ended == store.get_job(job.id)
    assert (ended.id, ended.status, ended.failures, ended.run_at) == (job.id, JobStatus.PENDING, 1, clock.now())
    assert not ended.suspect
    assert ended.error is not None
    assert ended.error.type == "Crashed"
    assert [attempt.status for attempt in store.list_attempts(job.id)] == [AttemptStatus.CRASHED]
    assert [due.id for due in store.reserve_jobs("default", 1, THEIRS).jobs] == [job.id]


def test_the_last_attempt_fails_the_job_when_its_lease_runs_out(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store, max_attempts=1)
    clock.advance(OURS.seconds)
    assert [ended.status for ended in store.release_expired().crashed] == [JobStatus.FAILED]
    assert store.get_job(job.id).finished_at == clock.now()


def test_a_job_that_was_to_cancel_is_cancelled_when_its_lease_runs_out(store: JobStore, clock: FakeClock) -> None:
    job = store.cancel_job(create_processing(store).id)
    clock.advance(OURS.seconds)
    assert [(ended.id, ended.status) for ended in store.release_expired().crashed] == [(job.id, JobStatus.CANCELLED)]


def test_a_lease_holds_until_it_ran_out(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store)
    clock.advance(OURS.seconds - 0.001)
    assert store.release_expired().crashed == []
    assert store.get_job(job.id) == job


def test_a_renewed_lease_begins_anew(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store)
    for _ in range(5):
        clock.advance(OURS.seconds - 1)
        assert store.renew_leases([job.id], OURS) == set()
        assert store.release_expired().crashed == []
    assert store.get_job(job.id) == job


def test_a_claim_begins_the_lease_anew(store: JobStore, clock: FakeClock) -> None:
    (created,) = store.create_jobs([new_job()], reserve=OURS)
    clock.advance(OURS.seconds - 1)
    claim(store, created.job)
    clock.advance(OURS.seconds - 1)
    assert store.release_expired().crashed == []


def test_each_lease_has_its_own_length(store: JobStore, clock: FakeClock) -> None:
    short, long = Lease("short", 1.0), Lease("long", 1000.0)
    one, other = create(store), create(store)
    store.claim_job(one.id, short)
    store.claim_job(other.id, long)
    clock.advance(999)
    assert [ended.id for ended in store.release_expired().crashed] == [one.id]


@pytest.mark.parametrize("seconds", [10**8, -(10**8)])
def test_setting_the_wall_clock_ends_no_lease(store: JobStore, clock: FakeClock, seconds: float) -> None:
    (created,) = store.create_jobs([new_job()], reserve=OURS)
    running = create_processing(store)
    clock.jump(seconds)
    assert store.release_expired().crashed == []
    assert store.get_job(running.id) == running
    assert store.claim_job(created.job.id, THEIRS) is None
    assert store.renew_leases([running.id, created.job.id], OURS) == set()


def test_a_lease_runs_out_although_the_wall_clock_was_set_back(store: JobStore, clock: FakeClock) -> None:
    job = create_processing(store)
    clock.jump(-(10**6))
    clock.advance(OURS.seconds)
    assert [ended.id for ended in store.release_expired().crashed] == [job.id]


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_the_lease_of_a_finished_job_cannot_run_out(store: JobStore, clock: FakeClock, status: JobStatus) -> None:
    job = create_in(store, status)
    clock.advance(1000)
    assert store.release_expired().crashed == []
    assert store.get_job(job.id) == job


def test_the_lease_of_a_deleted_job_cannot_run_out(store: JobStore, clock: FakeClock) -> None:
    (created,) = store.create_jobs([new_job()], reserve=OURS)
    store.cancel_job(created.job.id)
    store.delete_job(created.job.id)
    clock.advance(1000)
    assert store.release_expired().crashed == []


def test_an_expired_reservation_names_the_queue_that_it_freed(store: JobStore, clock: FakeClock) -> None:
    store.create_jobs([new_job(queue="mail"), new_job(queue="reports", run_at=START + timedelta(days=1))], reserve=OURS)
    clock.advance(OURS.seconds)
    assert store.release_expired().freed_queues == {"mail"}
    assert store.release_expired().freed_queues == set()
