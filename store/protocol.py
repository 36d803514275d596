"""What every store does. One contract suite (``tests/store/contract``) holds all stores to it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from store.job import Attempt, Job, JobStatus, LogLine, NewJob, NewLogLine, Progress
from store.leases import Lease
from store.transitions import Outcome

#: A page of a listing ends early when its payloads and results reach this size: bytes, or characters of JSON.
PAGE_SIZE = 4 * 1024 * 1024
#: How many lines of a job's log are kept, unless a store is told otherwise.
LOG_LINES = 1_000


class Created(msgspec.Struct, frozen=True):
    """The answer to a submission."""

    job: Job
    #: The idempotency key was known: ``job`` is the first one, as it is now; nothing was stored.
    replayed: bool


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs a listing shows; None means any."""

    status: JobStatus | None = None
    type: str | None = None
    queue: str | None = None
    #: The job carries this tag.
    tag: str | None = None
    #: Created after (not at) this instant.
    created_after: datetime | None = None
    #: Created before (not at) this instant.
    created_before: datetime | None = None

    def matches(self, job: Job) -> bool:
        """Whether a listing shows this job."""
        return (
            self.status in (None, job.status)
            and self.type in (None, job.type)
            and self.queue in (None, job.queue)
            and (self.tag is None or self.tag in job.tags)
            and (self.created_after is None or job.created_at > self.created_after)
            and (self.created_before is None or job.created_at < self.created_before)
        )


class Page(msgspec.Struct, frozen=True):
    """One page of a listing, newest job first.

    It may hold fewer jobs than asked for, or none, and not be the last: large jobs fill it early, and so does a search
    that has met many jobs that do not match.
    """

    jobs: list[Job]
    #: Opaque; pass it to get the page after this one. None on the last page.
    next_cursor: str | None


class DueJob(msgspec.Struct, frozen=True):
    """A job that is reserved for the asking instance."""

    id: str
    priority: int


class Reservation(msgspec.Struct, frozen=True):
    """What a dispatcher got."""

    #: Best priority first, then the longest due, then the oldest.
    jobs: list[DueJob]
    #: The earliest ``run_at`` that is still to come in this queue; None if there is none.
    next_run_at: datetime | None


class Finished(msgspec.Struct, frozen=True):
    """What ending an attempt led to."""

    #: The job's status now.
    status: JobStatus
    #: When it runs again, if it is pending.
    run_at: datetime | None
    #: The next job, claimed in the same operation, if that was asked for and succeeded.
    next_job: Job | None


class Note(msgspec.Struct, frozen=True):
    """Progress and log lines of a running attempt, to be stored."""

    job_id: str
    attempt: int
    #: None leaves the progress as it is.
    progress: Progress | None
    lines: tuple[NewLogLine, ...] = ()
    #: How many lines were logged just before these and left out; they have numbers all the same. 0 without lines.
    skipped: int = 0


class Expired(msgspec.Struct, frozen=True):
    """What leases that ran out had held."""

    #: Jobs whose attempt was ended, as they are now.
    crashed: list[Job]
    #: Queues in which reserved jobs are free again.
    freed_queues: set[str]


class Recovery(msgspec.Struct, frozen=True):
    """What a start found of the process before it."""

    #: Jobs that were running when the process died, and are pending again or final now.
    crashed: list[Job]
    #: Pending jobs that are to be run with nothing beside them, oldest first; also ones that an
    #: earlier start left behind.
    suspects: list[str]


class Followed(msgspec.Struct, frozen=True):
    """What following the wall clock came to."""

    #: Jobs that were moved along.
    moved: int
    #: All that were to be moved are.
    is_complete: bool


class QueueCount(msgspec.Struct, frozen=True):
    """The jobs of one queue."""

    name: str
    paused: bool
    pending: int
    processing: int
    #: Seconds for which the pending job with the earliest ``run_at`` has been due; None if it is not.
    #: That the wall clock was set meanwhile adds nothing, unless the client gave ``run_at``.
    oldest_wait: float | None


class JobStore(Protocol):
    """Keeps jobs. Every method is atomic and may be called from any thread.

    Durability: ``create_jobs``, ``cancel_job``, ``retry_job``, ``delete_job`` and the pausing of
    queues return only once their effect survives a power cut. Claims survive the death of the
    process. Outcomes (``finish_job``) survive the death of the process at once and a power cut
    before any read of this store shows them, or after ``flush``. Notes may be lost.

    Besides the errors named below, each method may raise :class:`StoreUnavailable` (nothing was
    done) or one of its subclasses; :class:`OutcomeUnknown` means that it may have been, and that
    the process must end.
    """

    def create_jobs(self, new_jobs: Sequence[NewJob], reserve: Lease | None = None) -> list[Created]:
        """Store jobs, all or none, in order; ids rise in that order.

        With ``reserve``, each job that is due and whose queue is not paused is reserved at once.
        A job whose ``idempotency_key`` is known already is not stored; the first one is returned.
        The same key twice within one call is a replay, too. The key is forgotten with its job.

        Raises IdempotencyConflict when a key is known with another fingerprint.
        """
        ...

    def get_job(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        ...

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        """Up to ``limit`` jobs, newest first; fewer when payloads and results are large.

        Walking the cursors shows each job that was there all along exactly once.

        Raises InvalidCursor.
        """
        ...

    def list_attempts(self, job_id: str) -> list[Attempt]:
        """Every attempt, first to last; the one that is running is among them. Raises JobNotFound."""
        ...

    def list_log(self, job_id: str, *, after: int = 0, tail: int | None = None) -> list[LogLine]:
        """The job's log lines in the order in which they were logged, which is that of their numbers.

        Only those with a number greater than ``after``, and of these only the last ``tail`` (at
        least 1). A log is bounded: of all numbers that a job's lines were given, lines with the
        last so many are kept (the store's ``log_lines``), older ones are deleted as new ones come.
        The last line of all is always there. Raises JobNotFound.
        """
        ...

    def reserve_jobs(self, queue: str, limit: int, lease: Lease) -> Reservation:
        """Reserve up to ``limit`` due jobs of a queue that nobody holds; none if it is paused.

        Suspects are left out: they are run by themselves.
        """
        ...

    def release_jobs(self, job_ids: Sequence[str], owner: str) -> None:
        """Give back reservations of pending jobs that ``owner`` holds; others are passed over."""
        ...

    def claim_job(self, job_id: str, lease: Lease, *, alone: bool = False) -> Job | None:
        """Begin an attempt: the job is processing and ``attempt`` has risen by one.

        ``alone`` records that it has the service to itself; such a job need not be due, since the
        wall clock may have been set back since it ran. Returns None when the job is gone, not
        pending, not due, held by another owner, or its queue is paused; nothing is changed then,
        but a reservation of a pending job that the owner held ends.
        """
        ...

    def finish_job(
        self,
        job_id: str,
        attempt: int,
        outcome: Outcome,
        *,
        lines: Sequence[NewLogLine] = (),
        skipped: int = 0,
        progress: Progress | None = None,
        claim_next: tuple[str, Lease] | None = None,
    ) -> Finished:
        """End an attempt and, in the same operation, claim another job.

        ``lines``, ``skipped`` and ``progress`` are what the attempt noted and has not been recorded
        yet, as in a :class:`Note`; progress is stored before the outcome is applied.

        Raises StaleAttempt when ``attempt`` is not running any more (or the job is gone); nothing
        is changed or claimed then.
        """
        ...

    def end_solitude(self, job_id: str, attempt: int) -> None:
        """The attempt, claimed ``alone``, is not alone any more. Passed over if it is over."""
        ...

    def record_notes(self, notes: Sequence[Note]) -> None:
        """Store progress and log lines; those of attempts that are over are passed over."""
        ...

    def cancel_job(self, job_id: str) -> Job:
        """Cancel a pending job; ask a processing one to cancel (``cancel_requested``).

        Raises JobNotFound, IllegalTransition.
        """
        ...

    def retry_job(self, job_id: str) -> Job:
        """Make a failed or cancelled job pending and due. Raises JobNotFound, IllegalTransition."""
        ...

    def delete_job(self, job_id: str) -> None:
        """Remove a final job with all that belongs to it. Raises JobNotFound, IllegalTransition."""
        ...

    def renew_leases(self, job_ids: Sequence[str], lease: Lease) -> set[str]:
        """Prolong the owner's leases; return the ids that it does not hold any more."""
        ...

    def release_expired(self) -> Expired:
        """End every lease that ran out: reservations become free, attempts end as crashed."""
        ...

    def release_suspects(self, job_ids: Sequence[str]) -> None:
        """Make pending suspects ordinary jobs; others are passed over."""
        ...

    def recover(self, *, solo_limit: int) -> Recovery:
        """Take back what a process that died was running. Called once, before anything else runs.

        On a store that one process owns, every processing job's attempt ends as crashed, and the
        job becomes a suspect unless its queue is paused. ``solo_limit``: how often a job may take
        the service down while it runs alone before it is failed. Which crashes count against the
        attempts, :func:`store.transitions.crashed` says.
        """
        ...

    def pause_queue(self, queue: str) -> None:
        """No job of this queue is reserved or claimed from now on; survives restarts."""
        ...

    def resume_queue(self, queue: str) -> None:
        """End a pause; suspects of the queue become ordinary jobs. Nothing happens if it is not paused."""
        ...

    def count_jobs(self) -> Mapping[JobStatus, int]:
        """How many jobs there are in each status. Cheap."""
        ...

    def count_queues(self) -> list[QueueCount]:
        """Every queue that is paused or has pending or processing jobs, by name. Cheap."""
        ...

    def is_paused(self, queue: str) -> bool:
        """Whether the queue is paused. Cheap."""
        ...

    def delete_finished(self, status: JobStatus, before: datetime, limit: int) -> int:
        """Delete up to ``limit`` jobs with this final status that finished before then, oldest first.

        Returns how many it deleted.
        """
        ...

    def follow_clock(self, limit: int) -> Followed:
        """Move along the pending jobs whose ``run_at`` was reckoned before the wall clock was set.

        Up to about ``limit`` of them, so that others get at the store. How a job is moved,
        :func:`store.transitions.moved` says. From the first operation after the clock was set, no job
        is reserved or claimed before its time, whether it is moved yet or not; one that is due may
        not be reserved before it is moved. What an earlier process has not completed is taken up.
        """
        ...

    def flush(self) -> None:
        """Make every outcome so far survive a power cut."""
        ...

    def maintain(self) -> float:
        """Do the store's own housekeeping; return the seconds until it wants to be called again.

        Raises StoreUnavailable for as long as nothing can be written, such as on a full disk, once
        somebody has met that; OutcomeUnknown for as long as the store has failed: the process must
        end then.
        """
        ...

    def close(self) -> None:
        """Flush and close. May be called twice; every other call raises StoreClosed afterwards."""
        ...
