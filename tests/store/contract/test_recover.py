"""Recovery: what a start makes of the process that died before it."""

from collections.abc import Callable

import pytest

from store.job import AttemptStatus, Job, JobStatus
from store.protocol import JobStore
from store.transitions import FREE_CRASHES, crashed
from tests.fake_clock import FakeClock
from tests.store.samples import OURS, THEIRS, all_jobs, claim, create, create_in, create_processing, finish

Restart = Callable[[], JobStore]


def test_nothing_to_recover_is_no_trouble(store: JobStore) -> None:
    recovery = store.recover(solo_limit=2)
    assert (recovery.crashed, recovery.suspects) == ([], [])


def test_a_job_that_was_running_is_pending_again_and_a_suspect(
    store: JobStore, clock: FakeClock, restart: Restart
) -> None:
    job = create_processing(store)
    clock.advance(1)
    store = restart()
    recovery = store.recover(solo_limit=2)
    expected = crashed(job, clock.now(), solo_limit=2, suspect=True, beside_others=False).job
    assert recovery.crashed == [expected]
    assert recovery.suspects == [job.id]
    assert store.get_job(job.id) == expected
    assert (expected.status, expected.failures, expected.suspect) == (JobStatus.PENDING, 1, True)


def test_the_attempt_that_crashed_is_kept(store: JobStore, clock: FakeClock, restart: Restart) -> None:
    job = create_processing(store)
    clock.advance(1)
    store = restart()
    store.recover(solo_limit=2)
    (attempt,) = store.list_attempts(job.id)
    assert (attempt.attempt, attempt.status, attempt.finished_at) == (1, AttemptStatus.CRASHED, clock.now())
    assert attempt.error is not None
    assert attempt.error == store.get_job(job.id).error


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.PROCESSING])
def test_jobs_that_were_not_running_stay_as_they_are(store: JobStore, restart: Restart, status: JobStatus) -> None:
    job = create_in(store, status)
    store = restart()
    recovery = store.recover(solo_limit=2)
    assert (recovery.crashed, recovery.suspects) == ([], [])
    assert store.get_job(job.id) == job


def test_what_a_dead_process_reserved_is_free(store: JobStore, restart: Restart) -> None:
    job = create(store)
    store.reserve_jobs("default", 1, OURS)
    store = restart()
    store.recover(solo_limit=2)
    assert [due.id for due in store.reserve_jobs("default", 1, THEIRS).jobs] == [job.id]


def test_a_suspect_can_be_claimed_by_its_id(store: JobStore, restart: Restart) -> None:
    job = create_processing(store)
    store = restart()
    store.recover(solo_limit=2)
    running = store.claim_job(job.id, THEIRS, alone=True)
    assert running is not None
    assert (running.attempt, running.alone) == (2, True)
    done = finish(store, running)
    assert (done.status, done.suspect, done.alone) == (JobStatus.COMPLETED, False, False)


def test_suspects_come_oldest_first_and_earlier_ones_are_among_them(store: JobStore, restart: Restart) -> None:
    jobs = [create(store) for _ in range(4)]
    claim(store, jobs[2])
    claim(store, jobs[1])
    store = restart()
    assert store.recover(solo_limit=2).suspects == [jobs[1].id, jobs[2].id]
    claim(store, jobs[0])
    store = restart()
    recovery = store.recover(solo_limit=2)
    assert [job.id for job in recovery.crashed] == [jobs[0].id]
    assert recovery.suspects == [jobs[0].id, jobs[1].id, jobs[2].id]


def test_a_job_of_a_paused_queue_is_no_suspect(store: JobStore, restart: Restart) -> None:
    job = create_processing(store)
    store.pause_queue("default")
    store = restart()
    recovery = store.recover(solo_limit=2)
    assert [each.suspect for each in recovery.crashed] == [False]
    assert recovery.suspects == []
    store.resume_queue("default")
    assert [due.id for due in store.reserve_jobs("default", 1, OURS).jobs] == [job.id]


def test_a_suspect_whose_queue_was_paused_is_an_ordinary_job_once_it_is_resumed(
    store: JobStore, restart: Restart
) -> None:
    job = create_processing(store)
    store = restart()
    store.recover(solo_limit=2)
    store.pause_queue("default")
    store.resume_queue("default")
    assert not store.get_job(job.id).suspect
    assert [due.id for due in store.reserve_jobs("default", 1, OURS).jobs] == [job.id]


def crash_alone(store: JobStore, job: Job, restart: Restart, solo_limit: int) -> tuple[JobStore, Job]:
    """Run the job alone and let the service die."""
    claim(store, job, alone=True)
    store = restart()
    store.recover(solo_limit=solo_limit)
    return store, store.get_job(job.id)


@pytest.mark.parametrize("solo_limit", [1, 2, 3])
def test_a_job_that_takes_the_service_down_while_alone_is_failed_at_the_limit(
    store: JobStore, restart: Restart, solo_limit: int
) -> None:
    job = create(store, max_attempts=100)
    for crashes in range(1, solo_limit + 1):
        assert job.status is JobStatus.PENDING
        store, job = crash_alone(store, job, restart, solo_limit)
        assert job.solo_crashes == crashes
    assert (job.status, job.suspect, job.failures) == (JobStatus.FAILED, False, solo_limit)
    assert job.error is not None
    assert job.error.type == "Crashed"


def test_crashes_outside_of_the_quarantine_do_not_count_as_alone(store: JobStore, restart: Restart) -> None:
    job = create(store, max_attempts=100)
    for _ in range(5):
        claim(store, job)
        store = restart()
        store.recover(solo_limit=2)
        job = store.get_job(job.id)
    assert (job.status, job.solo_crashes, job.failures) == (JobStatus.PENDING, 0, 5)


def crash_beside(store: JobStore, jobs: list[Job], restart: Restart) -> tuple[JobStore, list[Job]]:
    """Run the jobs beside each other and let the service die."""
    for job in jobs:
        claim(store, job)
    store = restart()
    assert len(store.recover(solo_limit=2).crashed) == len(jobs)
    return store, [store.get_job(job.id) for job in jobs]


def test_jobs_that_ran_beside_each_other_keep_their_attempts_and_are_all_suspects(
    store: JobStore, restart: Restart
) -> None:
    jobs = [create(store, max_attempts=1), create(store, max_attempts=2)]
    store, jobs = crash_beside(store, jobs, restart)
    assert [(job.status, job.failures, job.shared_crashes, job.suspect) for job in jobs] == [
        (JobStatus.PENDING, 0, 1, True)
    ] * 2
    assert store.recover(solo_limit=2).suspects == [job.id for job in jobs]
    statuses = [[attempt.status for attempt in store.list_attempts(job.id)] for job in jobs]
    assert statuses == [[AttemptStatus.CRASHED]] * 2


def test_a_crash_beside_others_costs_an_attempt_once_it_has_happened_too_often(
    store: JobStore, restart: Restart
) -> None:
    jobs = [create(store, max_attempts=1), create(store, max_attempts=2)]
    for crashes in range(1, FREE_CRASHES + 1):
        store, jobs = crash_beside(store, jobs, restart)
        assert [(job.failures, job.shared_crashes) for job in jobs] == [(0, crashes)] * 2
    store, jobs = crash_beside(store, jobs, restart)
    assert [(job.status, job.failures) for job in jobs] == [(JobStatus.FAILED, 1), (JobStatus.PENDING, 1)]


def test_a_suspect_is_not_excused_by_an_attempt_that_was_still_there_when_it_ran_alone(
    store: JobStore, restart: Restart
) -> None:
    """The end of an abandoned attempt may not have been written yet."""
    alone, other = create(store), create(store)
    claim(store, other)
    claim(store, alone, alone=True)
    store = restart()
    store.recover(solo_limit=2)
    alone, other = store.get_job(alone.id), store.get_job(other.id)
    assert (alone.solo_crashes, alone.shared_crashes, alone.failures) == (1, 0, 1)
    assert (other.solo_crashes, other.shared_crashes, other.failures) == (0, 1, 0)


def test_a_retry_by_hand_forgets_the_crashes(store: JobStore, restart: Restart) -> None:
    store, jobs = crash_beside(store, [create(store), create(store)], restart)
    store.cancel_job(jobs[0].id)
    assert store.retry_job(jobs[0].id).shared_crashes == 0
    assert store.get_job(jobs[1].id).shared_crashes == 1


def test_a_job_whose_solitude_ended_is_not_held_to_be_the_cause(store: JobStore, restart: Restart) -> None:
    job = claim(store, create(store), alone=True)
    store.end_solitude(job.id, 1)
    store = restart()
    store.recover(solo_limit=1)
    after = store.get_job(job.id)
    assert (after.status, after.solo_crashes) == (JobStatus.PENDING, 0)


def test_a_crash_counts_against_the_attempts(store: JobStore, restart: Restart) -> None:
    job = create_processing(store, max_attempts=1)
    store = restart()
    recovery = store.recover(solo_limit=2)
    assert [each.status for each in recovery.crashed] == [JobStatus.FAILED]
    assert recovery.suspects == []
    assert store.get_job(job.id).finished_at is not None


def test_a_job_that_was_to_cancel_is_cancelled_by_the_crash(store: JobStore, restart: Restart) -> None:
    job = store.cancel_job(create_processing(store).id)
    store = restart()
    recovery = store.recover(solo_limit=2)
    assert [(each.id, each.status) for each in recovery.crashed] == [(job.id, JobStatus.CANCELLED)]
    assert recovery.suspects == []


def test_a_cancelled_suspect_is_no_suspect(store: JobStore, restart: Restart) -> None:
    job = create_processing(store)
    store = restart()
    store.recover(solo_limit=2)
    assert not store.cancel_job(job.id).suspect
    store.retry_job(job.id)
    assert [due.id for due in store.reserve_jobs("default", 1, OURS).jobs] == [job.id]


def test_recovering_twice_is_recovering_once(store: JobStore, restart: Restart) -> None:
    create_processing(store)
    store = restart()
    first = store.recover(solo_limit=2)
    jobs = all_jobs(store)
    again = store.recover(solo_limit=2)
    assert (again.crashed, again.suspects) == ([], first.suspects)
    assert all_jobs(store) == jobs


def test_a_released_suspect_is_an_ordinary_job(store: JobStore, restart: Restart) -> None:
    suspect, running = create_processing(store), create(store)
    store = restart()
    store.recover(solo_limit=2)
    running = claim(store, running)
    store.release_suspects([suspect.id, running.id, "no such job"])
    assert not store.get_job(suspect.id).suspect
    assert [due.id for due in store.reserve_jobs("default", 10, OURS).jobs] == [suspect.id]
    assert store.get_job(running.id) == running
