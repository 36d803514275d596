"""The life of a job as pure functions: each takes a job and gives the next one.

The stores call these for every change that is rare enough to read the job
first. The two that happen for each job, claim and completion, may be written
as one conditional statement instead; the contract suite holds them to
:func:`claimed` and :func:`ended`.
"""

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from store.errors import IllegalTransition, StaleAttempt
from store.job import (
    Attempt,
    AttemptStatus,
    Job,
    JobError,
    JobStatus,
    NewJob,
    Progress,
    check_transition,
)

#: Seconds: no attempt is put off for longer, so that every ``run_at`` is a date that exists.
_LONGEST_DELAY = 366 * 86_400.0

#: How often the service may die while a job runs beside others before that counts against the job's attempts.
FREE_CRASHES = 5


class Completed(msgspec.Struct, frozen=True):
    """The handler returned ``result``."""

    result: msgspec.Raw


class Failed(msgspec.Struct, frozen=True):
    """The attempt failed."""

    error: JobError
    #: Seconds until the next attempt, if there is one.
    retry_in: float = 0.0
    #: Retrying cannot mend it: the job is failed whatever attempts are left.
    final: bool = False
    #: ``FAILED``, ``TIMED_OUT`` or ``CRASHED``.
    how: AttemptStatus = AttemptStatus.FAILED
    #: It counts against ``max_attempts``.
    counts: bool = True


class Cancelled(msgspec.Struct, frozen=True):
    """The handler ended because the job was being cancelled."""

    error: JobError | None = None
    #: What the handler returned on its way out, if anything.
    result: msgspec.Raw | None = None


class Interrupted(msgspec.Struct, frozen=True):
    """A shutdown ended the attempt; the job goes back to pending and loses nothing."""


#: How an attempt can end.
Outcome = Completed | Failed | Cancelled | Interrupted


class Change(msgspec.Struct, frozen=True):
    """What ending an attempt makes of a job."""

    job: Job
    #: The record of the attempt to keep beside the job; a completed attempt is implied by the job itself.
    attempt: Attempt | None


def created(new: NewJob, job_id: str, now: datetime) -> Job:
    """The job that a submission becomes."""
    return Job(
        id=job_id,
        type=new.type,
        queue=new.queue,
        status=JobStatus.PENDING,
        priority=new.priority,
        payload=new.payload,
        result=None,
        error=None,
        progress=Progress(),
        attempt=0,
        interruptions=0,
        cancel_requested=False,
        max_attempts=new.max_attempts,
        timeout=new.timeout,
        tags=new.tags,
        created_at=now,
        run_at=new.run_at or now,
        run_at_given=new.run_at is not None,
        started_at=None,
        finished_at=None,
        backoff=new.backoff,
        failures=0,
        suspect=False,
        alone=False,
        solo_crashes=0,
        shared_crashes=0,
        traceparent=new.traceparent,
        submitted_by=new.submitted_by,
    )


def claimed(job: Job, now: datetime, *, alone: bool = False) -> Job:
    """The job once a worker has it: a new attempt, counted before the handler runs."""
    check_transition(job.status, JobStatus.PROCESSING, "claimed")
    return replace(
        job,
        status=JobStatus.PROCESSING,
        attempt=job.attempt + 1,
        started_at=now,
        progress=Progress(),
        alone=alone,
    )


def is_current(job: Job, attempt: int) -> bool:
    """Fencing: whether ``attempt`` is the one that runs now and may write."""
    return job.status is JobStatus.PROCESSING and job.attempt == attempt


def stale(job: Job | None, attempt: int) -> StaleAttempt:
    """The error for an attempt that may not write any more; ``job`` is None when it is gone."""
    if job is None:
        return StaleAttempt(f"attempt {attempt} is over: the job is gone")
    return StaleAttempt(f"attempt {attempt} of job {job.id} is over: the job is {job.status} at attempt {job.attempt}")


def ended(job: Job, outcome: Outcome, now: datetime) -> Change:
    """The processing ``job`` once its attempt ended with ``outcome``."""
    if job.status is not JobStatus.PROCESSING:
        raise IllegalTransition(f"a job that is {job.status} has no attempt that could end")
    job = replace(job, suspect=False, alone=False)
    match outcome:
        case Completed(result):
            progress = Progress(1.0, job.progress.message)
            done = _final(job, JobStatus.COMPLETED, now)
            return Change(replace(done, result=result, error=None, progress=progress), None)
        case Cancelled(error, result):
            done = replace(_final(job, JobStatus.CANCELLED, now), error=error, result=result)
            return _change(done, AttemptStatus.CANCELLED, error, now)
        case Interrupted():
            # It keeps its place in line; and it was due, whatever the wall clock shows by now.
            again = min(job.run_at, now)
            after = _final(job, JobStatus.CANCELLED, now) if job.cancel_requested else _pending(job, again)
            after = replace(after, interruptions=job.interruptions + 1)
            return _change(after, AttemptStatus.INTERRUPTED, None, now)
        case Failed():
            return _failed(job, outcome, now)


def _failed(job: Job, outcome: Failed, now: datetime) -> Change:
    job = replace(job, failures=job.failures + outcome.counts, error=outcome.error)
    if job.cancel_requested:
        after = _final(job, JobStatus.CANCELLED, now)
    elif outcome.final or job.failures >= job.max_attempts:
        after = _final(job, JobStatus.FAILED, now)
    else:
        after = _pending(job, now + timedelta(seconds=min(max(0.0, outcome.retry_in), _LONGEST_DELAY)))
    return _change(after, outcome.how, outcome.error, now)


def expired(job: Job, now: datetime) -> Change:
    """The processing ``job`` after the lease of its attempt ran out."""
    error = JobError("Crashed", f"the lease of attempt {job.attempt} ran out")
    return ended(job, Failed(error, how=AttemptStatus.CRASHED), now)


def crashed(job: Job, now: datetime, *, solo_limit: int, suspect: bool, beside_others: bool) -> Change:
    """The processing ``job`` after the process that ran it died.

    ``suspect``: run it with nothing beside it next time. ``solo_limit``: how often it may take the
    service down while it has it to itself before it is failed. ``beside_others``: other jobs were
    running, too.

    Who is to blame? A job that nothing ran beside has done it, or something outside has: that
    counts against its attempts. Of several that ran beside each other one has, and the others are
    innocent, so it counts for none of them: they run alone next, where the one shows itself. But a
    job may do it beside others only, and would take the service down for ever; so it is free
    :data:`FREE_CRASHES` times, and counts from then on.
    """
    beside_others = beside_others and not job.alone
    job = replace(
        job,
        solo_crashes=job.solo_crashes + job.alone,
        shared_crashes=job.shared_crashes + beside_others,
    )
    guilty = job.solo_crashes >= solo_limit
    outcome = Failed(
        JobError("Crashed", _how_it_died(job, beside_others=beside_others, guilty=guilty)),
        final=guilty,
        how=AttemptStatus.CRASHED,
        counts=not beside_others or job.shared_crashes > FREE_CRASHES,
    )
    change = ended(job, outcome, now)
    again = change.job.status is JobStatus.PENDING
    return Change(replace(change.job, suspect=suspect and again), change.attempt)


def _how_it_died(job: Job, *, beside_others: bool, guilty: bool) -> str:
    """What is known of the death of the service while ``job`` ran, in words."""
    died = "the service died (it crashed, was killed or ran out of memory)"
    if guilty:
        times = "" if job.solo_crashes == 1 else f" {job.solo_crashes} times"
        return f"{died}{times} while this job ran alone in it, so the job is held to be the cause and is not run again"
    during = f"{died} while attempt {job.attempt} of this job ran"
    if job.alone:
        return f"{during} alone in it"
    if not beside_others:
        return f"{during} and no other job did"
    if job.shared_crashes <= FREE_CRASHES:
        return f"{during} beside others; any of them may be the cause, so it costs no attempt"
    return f"{during} beside others, {job.shared_crashes} times by now; past {FREE_CRASHES} it costs an attempt"


def cancelled(job: Job, now: datetime) -> Job:
    """The job once somebody asked to cancel it: at once if it waits, else a request to its handler."""
    check_transition(job.status, JobStatus.CANCELLED, "cancelled")
    if job.status is JobStatus.PROCESSING:
        return replace(job, cancel_requested=True)
    return replace(_final(job, JobStatus.CANCELLED, now), suspect=False, cancel_requested=True)


def retried(job: Job, now: datetime) -> Job:
    """The failed or cancelled job with a fresh budget of attempts; ``attempt`` goes on rising."""
    if not job.status.is_final:
        check_transition(job.status, job.status, "retried")
    check_transition(job.status, JobStatus.PENDING, "retried")
    return replace(_pending(job, now), failures=0, solo_crashes=0, shared_crashes=0, result=None)


def moved(job: Job, by: timedelta, now: datetime) -> Job:
    """The pending job after the wall clock was set forward (or back) by ``by`` since its ``run_at`` was reckoned.

    Only where it makes a difference; else, and if a client gave ``run_at``, it is the same job. What is due
    stays due when the clock is set forward. When it is set back, all jobs are moved, or those that
    are due would change places with those that are not quite.
    """
    if job.run_at_given or (by >= timedelta() and job.run_at + by <= now):
        return job
    return replace(job, run_at=job.run_at + by)


def implied_attempt(job: Job) -> list[Attempt]:
    """The attempt that needs no record beside the job: one that is running or completed; none for other jobs."""
    if job.status not in (JobStatus.PROCESSING, JobStatus.COMPLETED):
        return []
    assert job.started_at is not None
    return [Attempt(job.attempt, AttemptStatus(job.status), job.started_at, job.finished_at, None)]


def check_deletable(job: Job) -> None:
    """Raise :class:`IllegalTransition` unless the job is final."""
    if not job.status.is_final:
        check_transition(job.status, job.status, "deleted; cancel it first")


def _pending(job: Job, run_at: datetime) -> Job:
    check_transition(job.status, JobStatus.PENDING, "put back")
    return replace(
        job,
        status=JobStatus.PENDING,
        run_at=run_at,
        run_at_given=False,
        finished_at=None,
        cancel_requested=False,
        progress=Progress(),
    )


def _final(job: Job, status: JobStatus, now: datetime) -> Job:
    check_transition(job.status, status, str(status))
    return replace(job, status=status, finished_at=now)


def _change(job: Job, status: AttemptStatus, error: JobError | None, now: datetime) -> Change:
    assert job.started_at is not None
    return Change(job, Attempt(job.attempt, status, job.started_at, now, error))
