"""Many real threads at once: no job is lost, none is run twice."""

import queue
import threading
from collections import Counter
from functools import partial

import pytest

from store.errors import IllegalTransition, StaleAttempt
from store.job import JobStatus
from store.protocol import JobStore
from tests.fake_clock import FakeClock
from tests.store.race import race
from tests.store.recount import check_counts
from tests.store.samples import DONE, EVERYTHING, FAILED, OURS, all_jobs, create, create_in, finish, new_job

SUBMITTERS, RUNNERS, JOBS_EACH = 6, 8, 30
TOTAL = SUBMITTERS * JOBS_EACH


class Crowd:
    """Threads that submit jobs and threads that run them, each id offered to two runners."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self.runs: Counter[str] = Counter()
        self._lock = threading.Lock()
        # guards: runs, _left
        self._left = TOTAL
        self._ids: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def submit(self) -> None:
        for number in range(JOBS_EACH):
            (created,) = self.store.create_jobs([new_job(payload=b"%d" % number)])
            self._ids.put(created.job.id)
            self._ids.put(created.job.id)

    def run(self) -> None:
        while (job_id := self._ids.get()) is not None:
            job = self.store.claim_job(job_id, OURS)
            if job is not None:
                self.store.finish_job(job.id, job.attempt, DONE)
                self._count(job_id)

    def _count(self, job_id: str) -> None:
        with self._lock:
            self.runs[job_id] += 1
            self._left -= 1
            done = self._left == 0
        if done:
            for _ in range(RUNNERS):
                self._ids.put(None)


def test_every_job_that_was_submitted_runs_exactly_once(store: JobStore, clock: FakeClock) -> None:
    crowd = Crowd(store)
    race([crowd.submit] * SUBMITTERS + [crowd.run] * RUNNERS)
    jobs = all_jobs(store)
    assert {(job.status, job.attempt) for job in jobs} == {(JobStatus.COMPLETED, 1)}
    assert crowd.runs == Counter(job.id for job in jobs)
    assert len(jobs) == TOTAL
    check_counts(store, clock)


def test_runners_that_claim_while_they_finish_share_the_work(store: JobStore, clock: FakeClock) -> None:
    """Each runner has its own reservations and goes from one job to the next in one operation."""
    store.create_jobs([new_job()] * TOTAL)

    def run() -> list[str]:
        done = []
        while due := store.reserve_jobs("default", 5, OURS).jobs:
            job = store.claim_job(due[0].id, OURS)
            for following in [*due[1:], None]:
                assert job is not None
                claim_next = (following.id, OURS) if following else None
                done.append(job.id)
                job = store.finish_job(job.id, job.attempt, DONE, claim_next=claim_next).next_job
        return done

    done = [job_id for each in race([run] * RUNNERS) for job_id in each]
    assert len(done) == len(set(done)) == TOTAL
    assert store.count_jobs()[JobStatus.COMPLETED] == TOTAL
    check_counts(store, clock)


@pytest.mark.parametrize("round_", range(5))
def test_a_cancel_and_a_claim_at_once_agree_on_who_was_first(store: JobStore, round_: int) -> None:
    job = create(store)
    cancelled, claimed = race([partial(store.cancel_job, job.id), partial(store.claim_job, job.id, OURS)])
    after = store.get_job(job.id)
    if claimed is None:
        assert cancelled.status is after.status is JobStatus.CANCELLED
    else:
        assert cancelled.cancel_requested
        assert (after.status, after.cancel_requested) == (JobStatus.PROCESSING, True)


@pytest.mark.parametrize("round_", range(5))
def test_a_cancel_and_the_end_at_once_agree_on_who_was_first(store: JobStore, round_: int) -> None:
    job = create_in(store, JobStatus.PROCESSING)

    def cancel() -> bool:
        try:
            store.cancel_job(job.id)
        except IllegalTransition:
            return False
        return True

    cancelled, _ = race([cancel, partial(store.finish_job, job.id, 1, FAILED)])
    after = store.get_job(job.id)
    assert after.status is (JobStatus.CANCELLED if cancelled else JobStatus.PENDING)


def test_of_many_retries_at_once_one_is_granted(store: JobStore) -> None:
    job = create_in(store, JobStatus.FAILED)

    def retry() -> bool:
        try:
            store.retry_job(job.id)
        except IllegalTransition:
            return False
        return True

    assert sum(race([retry] * 20)) == 1


def test_readers_never_see_half_a_change(store: JobStore) -> None:
    """A completed job has its result and its end, and one that is not has neither."""
    jobs = [create_in(store, JobStatus.PROCESSING) for _ in range(20)]

    def read() -> None:
        for job in jobs:
            for seen in (store.get_job(job.id), store.list_jobs(EVERYTHING, 1).jobs[0]):
                completed = seen.status is JobStatus.COMPLETED
                assert (seen.result is not None) == (seen.finished_at is not None) == completed
            assert sum(store.count_jobs().values()) == len(jobs)

    def run() -> None:
        for job in jobs:
            finish(store, job)

    race([read, read, read, run])


def test_a_failing_operation_does_not_disturb_its_neighbours(store: JobStore) -> None:
    """Stores that share one commit among callers must undo one caller's part alone."""
    jobs = [create_in(store, JobStatus.PROCESSING) for _ in range(20)]

    def end(number: int) -> bool:
        try:
            store.finish_job(jobs[number].id, 1 + number % 2, DONE)
        except StaleAttempt:
            return False
        return True

    answers = race([partial(end, number) for number in range(20)])
    assert answers == [number % 2 == 0 for number in range(20)]
    statuses = [store.get_job(job.id).status for job in jobs]
    assert statuses == [JobStatus.COMPLETED, JobStatus.PROCESSING] * 10
