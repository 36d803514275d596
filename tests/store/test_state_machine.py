"""Hypothesis drives each store and a simple model side by side; they must never differ."""

import random
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from store.errors import IllegalTransition, JobNotFound, StaleAttempt
from store.job import JobStatus
from store.leases import Lease
from store.protocol import DueJob, JobStore, Note
from store.transitions import Failed, Outcome
from tests.fake_clock import FakeClock
from tests.store.every_store import EVERY_STORE, PERSISTENT
from tests.store.model import LOG_LINES, SOLO_LIMIT, Expected, Model, view
from tests.store.recount import check_counts
from tests.store.samples import (
    BOOM,
    CANCELLED,
    DONE,
    EVERYTHING,
    FAILED,
    FAILED_FOR_GOOD,
    INTERRUPTED,
    OURS,
    THEIRS,
    line,
    new_job,
)

QUEUES = st.sampled_from(["a", "b"])
LEASES = st.sampled_from([OURS, THEIRS])
OUTCOMES = st.sampled_from(
    [DONE, FAILED, FAILED, Failed(BOOM, retry_in=5), FAILED_FOR_GOOD, CANCELLED, INTERRUPTED, INTERRUPTED]
)
#: How far an attempt's number is from the running one's: mostly right, now and then of a stale worker.
OFF_BY = st.sampled_from([0, 0, 0, 0, -1, 1])

MESSAGES = st.lists(st.sampled_from("abc"), max_size=LOG_LINES + 1)
#: How many lines were left out before those of a note.
SKIPPED = st.sampled_from([0, 0, 0, 1, 5])


class StoreMachine(RuleBasedStateMachine):
    """Each rule does one thing to the store and to the model and compares the answers."""

    ids = Bundle("ids")

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.clock = FakeClock()
        self.model = Model(self.clock)
        self.directory = tempfile.TemporaryDirectory()
        self.starts = 0
        self.store = self.open()

    def open(self) -> JobStore:
        self.starts += 1
        rng = random.Random(self.starts)
        return EVERY_STORE[self.kind](Path(self.directory.name), self.clock, rng, log_lines=LOG_LINES)

    @initialize(target=ids, queues=st.lists(QUEUES, min_size=4, max_size=4))
    def begin_with_some_jobs(self, queues: list[str]) -> MultipleResults[str]:
        """Hypothesis leaves some rules out of each run; without this, many runs would have no job."""
        return multiple(*(self.create(queue, 0, None, 2, None) for queue in queues))

    @rule(
        target=ids,
        queue=QUEUES,
        priority=st.integers(-1, 1),
        delay=st.sampled_from([None, None, None, -3, 0, 5, 100]),
        max_attempts=st.integers(1, 3),
        lease=st.sampled_from([None, OURS, THEIRS]),
    )
    def create(self, queue: str, priority: int, delay: int | None, max_attempts: int, lease: Lease | None) -> str:
        run_at = None if delay is None else self.clock.now() + timedelta(seconds=delay)
        new = new_job(queue=queue, priority=priority, run_at=run_at, max_attempts=max_attempts)
        (created,) = self.store.create_jobs([new], reserve=lease)
        job = created.job
        expected = Expected(
            job.id,
            queue,
            priority,
            max_attempts,
            run_at or self.clock.now(),
            run_at_given=run_at is not None,
            setting=self.model.setting,
        )
        self.model.jobs[job.id] = expected
        if lease and self.model.is_due(expected):
            self.model.hold(expected, lease)
        return job.id

    @rule(queue=QUEUES, limit=st.integers(0, 3), lease=LEASES)
    def reserve(self, queue: str, limit: int, lease: Lease) -> None:
        due = self.model.due(queue, limit)
        reservation = self.store.reserve_jobs(queue, limit, lease)
        assert reservation.jobs == [DueJob(job.id, job.priority) for job in due]
        for job in due:
            self.model.hold(job, lease)
        if queue not in self.model.paused:
            # What is held is not due only if the clock was set back; either answer is right then.
            assert reservation.next_run_at in {self.model.to_come(queue, held=held) for held in (True, False)}

    @rule(ids=st.lists(ids, max_size=4), lease=LEASES)
    def release(self, ids: list[str], lease: Lease) -> None:
        self.store.release_jobs(ids, lease.owner)
        for job in map(self.model.jobs.get, ids):
            if job and job.status is JobStatus.PENDING and job.holder == lease.owner:
                job.holder = None

    @rule(job_id=ids, lease=LEASES, alone=st.booleans())
    def claim(self, job_id: str, lease: Lease, alone: bool) -> None:
        claimed = self.store.claim_job(job_id, lease, alone=alone)
        assert (claimed is not None) == self.model.claim(job_id, lease, alone=alone)
        assert claimed is None or view(claimed) == view(self.model.jobs[job_id])

    @precondition(lambda self: self.model.due_anywhere())
    @rule(data=st.data(), alone=st.booleans())
    def begin(self, data: st.DataObject, alone: bool) -> None:
        """Claim what can be claimed; a job drawn from all is rarely due."""
        job = data.draw(st.sampled_from(self.model.due_anywhere()))
        self.claim(job.id, THEIRS if job.holder == THEIRS.owner else OURS, alone)

    @precondition(lambda self: self.model.due_anywhere())
    @rule(data=st.data(), outcome=OUTCOMES)
    def run(self, data: st.DataObject, outcome: Outcome) -> None:
        """Run a job from claim to end."""
        self.begin(data, False)
        self.finish(data, 0, outcome, None, OURS)

    @precondition(lambda self: self.model.in_status(JobStatus.PROCESSING))
    @rule(data=st.data(), off_by=OFF_BY, outcome=OUTCOMES, following=st.none() | ids, lease=LEASES)
    def finish(self, data: st.DataObject, off_by: int, outcome: Outcome, following: str | None, lease: Lease) -> None:
        job = data.draw(st.sampled_from(self.model.in_status(JobStatus.PROCESSING)))
        claim_next = (following, lease) if following else None
        end = partial(
            self.store.finish_job, job.id, job.attempt + off_by, outcome, lines=[line("end")], claim_next=claim_next
        )
        if off_by:
            with pytest.raises(StaleAttempt):
                end()
            return
        finished = end()
        self.model.log(job, ["end"], 0)
        self.model.end(job, outcome)
        assert (finished.status, finished.run_at) == (job.status, None if job.finished_at else job.run_at)
        claimed = claim_next is not None and self.model.claim(*claim_next)
        assert (finished.next_job is not None) == claimed
        assert finished.next_job is None or view(finished.next_job) == view(self.model.jobs[finished.next_job.id])

    @rule(job_id=ids, outcome=OUTCOMES)
    def finish_what_does_not_run(self, job_id: str, outcome: Outcome) -> None:
        job = self.model.jobs.get(job_id)
        if job is None or job.status is not JobStatus.PROCESSING:
            with pytest.raises(StaleAttempt):
                self.store.finish_job(job_id, job.attempt if job else 1, outcome)

    @rule(job_id=ids, off_by=OFF_BY, messages=MESSAGES, skipped=SKIPPED)
    def note(self, job_id: str, off_by: int, messages: list[str], skipped: int) -> None:
        job = self.model.jobs.get(job_id)
        attempt = (job.attempt if job else 1) + off_by
        self.store.record_notes([Note(job_id, attempt, None, tuple(map(line, messages)), skipped)])
        if job and job.status is JobStatus.PROCESSING and not off_by:
            self.model.log(job, messages, skipped)

    @rule(job_id=ids, after=st.integers(0, 6), tail=st.none() | st.integers(1, 4))
    def read_log(self, job_id: str, after: int, tail: int | None) -> None:
        job = self.model.jobs.get(job_id)
        if job is None:
            with pytest.raises(JobNotFound):
                self.store.list_log(job_id, after=after, tail=tail)
            return
        wanted = [each for each in job.log if each[0] > after]
        shown = [(each.number, each.message) for each in self.store.list_log(job_id, after=after, tail=tail)]
        assert shown == (wanted if tail is None else wanted[-tail:])

    @rule(job_id=ids, off_by=OFF_BY)
    def end_solitude(self, job_id: str, off_by: int) -> None:
        job = self.model.jobs.get(job_id)
        self.store.end_solitude(job_id, (job.attempt if job else 1) + off_by)
        if job and job.status is JobStatus.PROCESSING and not off_by:
            job.alone = False

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        job = self.model.jobs.get(job_id)
        if job is None or job.status.is_final:
            with pytest.raises(IllegalTransition if job else JobNotFound):
                self.store.cancel_job(job_id)
            return
        self.model.cancel(job)
        assert view(self.store.cancel_job(job_id)) == view(job)

    @rule(job_id=ids)
    def retry(self, job_id: str) -> None:
        job = self.model.jobs.get(job_id)
        if job is None or job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            with pytest.raises(IllegalTransition if job else JobNotFound):
                self.store.retry_job(job_id)
            return
        self.model.retry(job)
        assert view(self.store.retry_job(job_id)) == view(job)

    @rule(job_id=ids)
    def delete(self, job_id: str) -> None:
        job = self.model.jobs.get(job_id)
        if job is None or not job.status.is_final:
            with pytest.raises(IllegalTransition if job else JobNotFound):
                self.store.delete_job(job_id)
            return
        del self.model.jobs[job_id]
        self.store.delete_job(job_id)

    @rule(status=st.sampled_from(JobStatus), limit=st.integers(1, 2))
    def delete_finished(self, status: JobStatus, limit: int) -> None:
        before = self.clock.now()
        old = [job for job in self.model.in_status(status) if job.finished_at and job.finished_at < before]
        assert self.store.delete_finished(status, before, limit) == min(limit, len(old))
        left = {job.id for job in self.store.list_jobs(EVERYTHING, 1000).jobs}
        deleted = [job for job in old if job.id not in left]
        for job in deleted:
            del self.model.jobs[job.id]
        # Which of those that finished at the same instant goes first is the store's choice.
        assert sorted(job.finished_at for job in old)[: len(deleted)] == sorted(job.finished_at for job in deleted)

    @rule(queue=QUEUES)
    def pause_or_resume(self, queue: str) -> None:
        if queue not in self.model.paused:
            self.store.pause_queue(queue)
            self.model.paused.add(queue)
            return
        self.store.resume_queue(queue)
        self.model.paused.remove(queue)
        for job in self.model.jobs.values():
            job.suspect = job.suspect and job.queue != queue

    @rule(ids=st.lists(ids, max_size=4, unique=True), lease=LEASES)
    def renew(self, ids: list[str], lease: Lease) -> None:
        held = {job_id for job_id in ids if job_id in self.model.jobs and self.model.jobs[job_id].holder == lease.owner}
        assert self.store.renew_leases(ids, lease) == set(ids) - held
        for job_id in held:
            self.model.hold(self.model.jobs[job_id], lease)

    @rule(seconds=st.sampled_from([0.000001, 1, 6, 20, 31]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)
        lapsed = self.model.expire()
        ended = self.store.release_expired().crashed
        assert {job.id for job in ended} == lapsed
        assert [view(job) for job in ended] == [view(self.model.jobs[job.id]) for job in ended]

    @rule(seconds=st.sampled_from([-2, 50]))
    def set_the_wall_clock(self, seconds: float) -> None:
        self.clock.jump(seconds)
        moved = self.model.set_clock(seconds)
        assert self.store.release_expired().crashed == []
        followed = self.store.follow_clock(1)
        while not followed.is_complete:
            moved -= followed.moved
            followed = self.store.follow_clock(1)
        assert moved == followed.moved

    @precondition(lambda self: self.model.in_status(JobStatus.PROCESSING))
    @rule()
    def die_and_start_again(self) -> None:
        if self.kind in PERSISTENT:
            self.store.close()
            self.store = self.open()
        crashed = self.model.recover()
        recovery = self.store.recover(solo_limit=SOLO_LIMIT)
        assert {job.id for job in recovery.crashed} == crashed
        assert recovery.suspects == sorted(job.id for job in self.model.jobs.values() if job.suspect)

    @rule()
    def keep_house(self) -> None:
        self.store.flush()
        assert self.store.maintain() > 0

    @invariant()
    def jobs_are_as_expected(self) -> None:
        seen = [view(job) for job in self.store.list_jobs(EVERYTHING, 1000).jobs]
        assert seen == [view(job) for job in reversed(self.model.jobs.values())]

    @invariant()
    def counts_are_those_of_a_recount(self) -> None:
        set_by = {job.id: self.model.setting - job.setting for job in self.model.jobs.values() if not job.run_at_given}
        check_counts(self.store, self.clock, set_by)

    def teardown(self) -> None:
        try:
            for job in self.model.jobs.values():
                assert [attempt.status for attempt in self.store.list_attempts(job.id)] == job.attempts
                assert [(logged.number, logged.message) for logged in self.store.list_log(job.id)] == job.log
        finally:
            self.store.close()
            self.directory.cleanup()


@pytest.mark.parametrize("kind", EVERY_STORE)
def test_a_store_never_differs_from_a_simple_model(kind: str) -> None:
    run_state_machine_as_test(
        partial(StoreMachine, kind),
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            max_examples=150,
            stateful_step_count=50,
            suppress_health_check=list(HealthCheck),
        ),
    )
