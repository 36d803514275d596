"""Jobs: their fields, their states, and the records of their attempts.

Everything here is a value or a pure function. Every store obeys
:data:`TRANSITIONS`; an illegal transition is refused, never silently applied.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

import msgspec

from store.errors import IllegalTransition


class JobStatus(StrEnum):
    """Where a job is in its life; the value is the stored text."""

    #: Waiting for a worker, or for ``run_at``. Entered by submission, by a failed attempt with
    #: attempts left, by an interrupted attempt and by a retry by hand; left by claim or cancel.
    PENDING = "pending"
    #: A worker runs the handler. Entered by claim; left when the attempt ends in any way.
    PROCESSING = "processing"
    #: The handler returned and its result is stored. Never left.
    COMPLETED = "completed"
    #: The dead letter: no attempts left, or an error that retrying cannot mend. Left by a retry by hand.
    FAILED = "failed"
    #: Cancelled before it ran, or ended because it was told to cancel. Left by a retry by hand.
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing but a retry by hand changes the job from here."""
        return self not in (JobStatus.PENDING, JobStatus.PROCESSING)


#: Every transition that is allowed; whatever is not here is refused.
TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        JobStatus.PENDING: frozenset({JobStatus.PROCESSING, JobStatus.CANCELLED}),
        JobStatus.PROCESSING: frozenset(
            {JobStatus.PENDING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED}
        ),
        JobStatus.COMPLETED: frozenset(),
        JobStatus.FAILED: frozenset({JobStatus.PENDING}),
        JobStatus.CANCELLED: frozenset({JobStatus.PENDING}),
    }
)


def check_transition(old: JobStatus, new: JobStatus, action: str) -> None:
    """Raise :class:`IllegalTransition` unless a job may go from ``old`` to ``new``.

    ``action``, a past participle such as "cancelled", completes the message.
    """
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"a job that is {old} cannot be {action}")


class AttemptStatus(StrEnum):
    """How one attempt at a job stands; the value is the stored text."""

    #: The handler is running.
    PROCESSING = "processing"
    #: The handler returned a result.
    COMPLETED = "completed"
    #: The handler raised, or its result could not be kept. Counts against ``max_attempts``.
    FAILED = "failed"
    #: The attempt ran past its timeout. Counts against ``max_attempts``.
    TIMED_OUT = "timed_out"
    #: The process or its lease died under the attempt. Counts against ``max_attempts``, unless the process
    #: died while others ran, too (see :func:`store.transitions.crashed`).
    CRASHED = "crashed"
    #: The handler ended because the job was being cancelled.
    CANCELLED = "cancelled"
    #: A shutdown cut the attempt short; it costs nothing.
    INTERRUPTED = "interrupted"


class JobError(msgspec.Struct, frozen=True):
    """Why an attempt did not complete."""

    #: Name of the exception's class, or of the reason (``TimedOut``, ``Crashed``).
    type: str
    #: One sentence for a person.
    message: str
    #: The Python traceback, where there is one.
    traceback: str | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a job says it has come."""

    #: 0.0 to 1.0.
    fraction: float = 0.0
    #: The handler's words, possibly empty.
    message: str = ""


class Backoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait before the next attempt: exponential with full jitter."""

    #: Seconds: the bound of the first delay.
    base: float = 1.0
    #: By how much the bound grows with each failed attempt.
    factor: float = 2.0
    #: Seconds: the bound never grows past this.
    cap: float = 3600.0


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A checked submission, ready to be stored."""

    #: Which handler runs it.
    type: str
    #: Any JSON value, as the client sent it.
    payload: msgspec.Raw
    queue: str = "default"
    #: -100..100; higher runs first.
    priority: int = 0
    #: How many attempts may fail before the job is failed for good; at least 1.
    max_attempts: int = 5
    #: Seconds that one attempt may take.
    timeout: float = 3600.0
    #: Not before this instant, aware and in UTC; None means now.
    run_at: datetime | None = None
    tags: tuple[str, ...] = ()
    backoff: Backoff = Backoff()
    #: The ``traceparent`` of the request (W3C Trace Context), for what the job calls in turn.
    traceparent: str | None = None
    #: The name of the key that it was submitted with; None without keys.
    submitted_by: str | None = None
    #: The key that makes a repeated submission return the first job; one of its submitter, where there is one.
    idempotency_key: str | None = None
    #: Digest of the submission; the same key with another digest is a conflict.
    fingerprint: bytes | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the store keeps it, at one moment."""

    #: UUIDv7 (RFC 9562): ids sort by time of creation.
    id: str
    type: str
    queue: str
    status: JobStatus
    priority: int
    payload: msgspec.Raw
    #: The handler's result as JSON; None until there is one.
    result: msgspec.Raw | None
    #: Of the last attempt that did not complete; None once the job completed.
    error: JobError | None
    progress: Progress
    #: Claims so far; the current one's number is the fencing token.
    attempt: int
    #: Attempts that a shutdown cut short.
    interruptions: int
    #: Somebody asked to cancel this run of the job; a job that completed all the same keeps it.
    cancel_requested: bool
    max_attempts: int
    #: Seconds that one attempt may take.
    timeout: float
    tags: tuple[str, ...]
    created_at: datetime
    #: Not run before this instant.
    run_at: datetime
    #: The client gave ``run_at``, so the wall clock decides, however it is set. Else it was reckoned from a
    #: duration (none, the wait for a retry) and is moved along when the wall clock is set.
    run_at_given: bool
    #: When the current or last attempt began.
    started_at: datetime | None
    #: When the job became final.
    finished_at: datetime | None
    backoff: Backoff
    #: Attempts that counted against ``max_attempts`` since the submission or the last retry by hand.
    failures: int
    #: The service died while this job ran; it is run again with nothing beside it.
    suspect: bool
    #: The current attempt has the service to itself.
    alone: bool
    #: How often the service died while this job had it to itself.
    solo_crashes: int
    #: How often the service died while this job ran beside others, since the submission or the last retry by hand.
    shared_crashes: int
    #: As in the submission.
    traceparent: str | None = None
    #: As in the submission.
    submitted_by: str | None = None


class Attempt(msgspec.Struct, frozen=True):
    """One claim of a job and how it ended."""

    attempt: int
    status: AttemptStatus
    started_at: datetime
    finished_at: datetime | None
    error: JobError | None


class NewLogLine(msgspec.Struct, frozen=True):
    """A line that a handler logged about its job, ready to be stored."""

    time: datetime
    attempt: int
    #: ``debug``, ``info``, ``warning`` or ``error``.
    level: str
    message: str


class LogLine(msgspec.Struct, frozen=True):
    """A line of a job's log as the store keeps it."""

    #: 1 for the job's first line, rising by one across its attempts; a line that was left out had one, too.
    number: int
    time: datetime
    attempt: int
    #: ``debug``, ``info``, ``warning`` or ``error``.
    level: str
    message: str
