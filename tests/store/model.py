"""What a store should do, in as few words as possible: a dict of expectations and no concern for speed."""

from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta

from store.job import AttemptStatus, Job, JobStatus
from store.leases import Lease
from store.transitions import FREE_CRASHES, Cancelled, Completed, Failed, Outcome
from tests.fake_clock import FakeClock

#: How often a job may take the service down while it runs alone.
SOLO_LIMIT = 2
#: How many lines a job's log keeps.
LOG_LINES = 3


@dataclass
class Expected:
    """What one job should look like."""

    id: str
    queue: str
    priority: int
    max_attempts: int
    run_at: datetime
    run_at_given: bool
    #: Seconds that the wall clock was set by, in all, when ``run_at`` was reckoned.
    setting: float
    status: JobStatus = JobStatus.PENDING
    attempt: int = 0
    failures: int = 0
    interruptions: int = 0
    solo_crashes: int = 0
    shared_crashes: int = 0
    cancel_requested: bool = False
    suspect: bool = False
    alone: bool = False
    finished_at: datetime | None = None
    #: Who holds it, and until when on the monotonic clock.
    holder: str | None = None
    expires: float = 0.0
    attempts: list[AttemptStatus] = field(default_factory=list)
    #: Number and message of each line.
    log: list[tuple[int, str]] = field(default_factory=list)


#: What of a job is compared.
SEEN = [each.name for each in fields(Expected) if each.name in Job.__struct_fields__]


def view(job: Job | Expected) -> dict[str, object]:
    """What is seen of a job; whether it is a suspect matters only while it waits."""
    seen = {name: getattr(job, name) for name in SEEN}
    return seen | {"suspect": job.suspect and job.status is JobStatus.PENDING}


class Model:
    """All jobs as they should be."""

    def __init__(self, clock: FakeClock) -> None:
        self.jobs: dict[str, Expected] = {}
        self.paused: set[str] = set()
        #: Seconds that the wall clock was set by, in all.
        self.setting = 0.0
        self._clock = clock

    def in_status(self, status: JobStatus) -> list[Expected]:
        """The jobs in a status, oldest first."""
        return [job for job in self.jobs.values() if job.status is status]

    def is_due(self, job: Expected) -> bool:
        """Whether it waits, may run now, and its queue is not paused."""
        return self.waits(job) and job.run_at <= self._clock.now()

    def waits(self, job: Expected) -> bool:
        """Whether it waits, due or not, and its queue is not paused."""
        return job.status is JobStatus.PENDING and job.queue not in self.paused

    def due_anywhere(self) -> list[Expected]:
        """The jobs that somebody could claim."""
        return [job for job in self.jobs.values() if self.is_due(job)]

    def due(self, queue: str, limit: int) -> list[Expected]:
        """What a reservation should get."""
        free = [
            job
            for job in self.jobs.values()
            if job.queue == queue and self.is_due(job) and job.holder is None and not job.suspect
        ]
        return sorted(free, key=lambda job: (-job.priority, job.run_at, job.id))[:limit]

    def to_come(self, queue: str, *, held: bool) -> datetime | None:
        """The earliest ``run_at`` to come, counting what is held or not."""
        return min(
            (
                job.run_at
                for job in self.in_status(JobStatus.PENDING)
                if job.queue == queue and job.run_at > self._clock.now() and not job.suspect
                if held or job.holder is None
            ),
            default=None,
        )

    def hold(self, job: Expected, lease: Lease) -> None:
        """Give it to the lease's owner."""
        job.holder, job.expires = lease.owner, self._clock.monotonic() + lease.seconds

    def claim(self, job_id: str, lease: Lease, *, alone: bool = False) -> bool:
        """Begin an attempt if that is allowed; a refused owner gives its reservation back."""
        job = self.jobs.get(job_id)
        if job is None:
            return False
        due = self.is_due(job) or (alone and self.waits(job))
        if not due or job.holder not in (None, lease.owner):
            if job.status is JobStatus.PENDING and job.holder == lease.owner:
                job.holder = None
            return False
        self.hold(job, lease)
        job.status, job.alone = JobStatus.PROCESSING, alone
        job.attempt += 1
        job.attempts.append(AttemptStatus.PROCESSING)
        return True

    def end(self, job: Expected, outcome: Outcome) -> None:
        """End the attempt."""
        match outcome:
            case Completed():
                self._settle(job, AttemptStatus.COMPLETED, JobStatus.COMPLETED)
            case Cancelled():
                self._settle(job, AttemptStatus.CANCELLED, JobStatus.CANCELLED)
            case Failed():
                self._fail(job, outcome)
            case _:
                job.interruptions += 1
                self._settle(job, AttemptStatus.INTERRUPTED, self._again(job))
                if job.status is JobStatus.PENDING:
                    self._reckon(job, min(job.run_at, self._clock.now()))

    def log(self, job: Expected, messages: list[str], skipped: int) -> None:
        """Add lines to its log; only those with the highest numbers stay."""
        if messages:
            last = job.log[-1][0] if job.log else 0
            job.log += enumerate(messages, last + skipped + 1)
            job.log = [(number, message) for number, message in job.log if number > job.log[-1][0] - LOG_LINES]

    def crash(self, job: Expected, *, suspect: bool, solo_limit: float, others: bool) -> None:
        """End the attempt because its process died, under others, too, or not."""
        shared = others and not job.alone
        job.shared_crashes += shared
        job.solo_crashes += job.alone
        guilty = job.solo_crashes >= solo_limit
        counts = not shared or job.shared_crashes > FREE_CRASHES
        self._fail(job, Failed(None, final=guilty, how=AttemptStatus.CRASHED, counts=counts))  # type: ignore[arg-type]
        job.suspect = suspect and job.status is JobStatus.PENDING and job.queue not in self.paused

    def cancel(self, job: Expected) -> None:
        """Cancel it or ask it to."""
        job.cancel_requested = True
        if job.status is JobStatus.PENDING:
            job.status, job.finished_at = JobStatus.CANCELLED, self._clock.now()
            job.holder, job.suspect = None, False

    def retry(self, job: Expected) -> None:
        """Give it a new life."""
        job.status, job.finished_at = JobStatus.PENDING, None
        self._reckon(job, self._clock.now())
        job.failures, job.solo_crashes, job.shared_crashes, job.cancel_requested = 0, 0, 0, False

    def set_clock(self, seconds: float) -> int:
        """The wall clock was set; how many jobs are moved along."""
        self.setting += seconds
        pending = [job for job in self.in_status(JobStatus.PENDING) if not job.run_at_given]
        return sum(self._move(job, timedelta(seconds=self.setting - job.setting)) for job in pending)

    def _move(self, job: Expected, by: timedelta) -> bool:
        moves = job.run_at + by > self._clock.now() or by < timedelta()
        if moves and by:
            self._reckon(job, job.run_at + by)
        return moves and bool(by)

    def _reckon(self, job: Expected, run_at: datetime) -> None:
        job.run_at, job.run_at_given, job.setting = run_at, False, self.setting

    def expire(self) -> set[str]:
        """End every lease that ran out; the ids whose attempt that ended."""
        lapsed = [job for job in self.jobs.values() if job.holder and job.expires <= self._clock.monotonic()]
        ended = {job.id for job in lapsed if job.status is JobStatus.PROCESSING}
        for job in lapsed:
            job.holder = None
            if job.id in ended:
                self._fail(job, Failed(None, how=AttemptStatus.CRASHED))  # type: ignore[arg-type]
        return ended

    def recover(self) -> set[str]:
        """The process died and a new one starts; the ids of the jobs that were running."""
        running = self.in_status(JobStatus.PROCESSING)
        for job in self.jobs.values():
            job.suspect = job.suspect and job.queue not in self.paused
            job.holder = None
        for job in running:
            self.crash(job, suspect=True, solo_limit=SOLO_LIMIT, others=len(running) > 1)
        return {job.id for job in running}

    def _fail(self, job: Expected, outcome: Failed) -> None:
        job.failures += outcome.counts
        over = outcome.final or job.failures >= job.max_attempts
        after = JobStatus.FAILED if over and not job.cancel_requested else self._again(job)
        self._settle(job, outcome.how, after)
        if after is JobStatus.PENDING:
            self._reckon(job, self._clock.now() + timedelta(seconds=outcome.retry_in))

    def _again(self, job: Expected) -> JobStatus:
        return JobStatus.CANCELLED if job.cancel_requested else JobStatus.PENDING

    def _settle(self, job: Expected, attempt: AttemptStatus, status: JobStatus) -> None:
        job.attempts[-1], job.status = attempt, status
        job.holder, job.suspect, job.alone = None, False, False
        if status.is_final:
            job.finished_at = self._clock.now()
