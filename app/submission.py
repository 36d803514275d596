"""From the body of a request to jobs that may be stored."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from app import strict_json
from app.errors import MAX_ERRORS, FieldError, Problem, shown
from app.shapes import mismatches, unknown
from store.job import Backoff, NewJob
from worker.errors import InvalidPayload, UnknownType
from worker.registry import Registry

#: Seconds: the longest timeout and the longest delay between attempts.
WEEK = 604_800.0
#: How many jobs one batch may hold.
MAX_BATCH = 1000

Name = Annotated[str, Meta(min_length=1, max_length=100, description="a string of 1 to 100 characters")]
Priority = Annotated[int, Meta(ge=-100, le=100, description="a whole number from -100 to 100")]
MaxAttempts = Annotated[int, Meta(ge=1, le=100, description="a whole number from 1 to 100")]
Timeout = Annotated[float, Meta(gt=0, le=WEEK, description="a number of seconds above 0 and at most 604800 (7 days)")]
Instant = Annotated[
    datetime,
    Meta(tz=True, description="a time as RFC 3339 writes it, with an offset, such as 2026-01-05T10:00:00Z"),
]
Tag = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
Tags = Annotated[
    list[Tag],
    Meta(max_length=20, description="at most 20 strings of 1 to 100 characters, none a control character"),
]


class BackoffOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``backoff`` of a submission; what it leaves open comes from the handler."""

    base: Annotated[float, Meta(ge=0, le=86_400, description="a number of seconds from 0 to 86400")] | UnsetType = UNSET
    factor: Annotated[float, Meta(ge=1, le=10, description="a number from 1 to 10")] | UnsetType = UNSET
    cap: Annotated[float, Meta(ge=0, le=WEEK, description="a number of seconds from 0 to 604800")] | UnsetType = UNSET


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may send to ask for a job; what stays UNSET comes from the handler."""

    type: Name
    payload: Raw = Raw(b"null")
    queue: Name | UnsetType = UNSET
    priority: Priority = 0
    max_attempts: MaxAttempts | UnsetType = UNSET
    timeout: Timeout | UnsetType = UNSET
    run_at: Instant | UnsetType = UNSET
    tags: Tags = []
    backoff: Annotated[BackoffOptions, Meta(description="an object")] | UnsetType = UNSET


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Submissions that are stored together or not at all."""

    jobs: Annotated[
        list[Submission], Meta(min_length=1, max_length=MAX_BATCH, description="a list of 1 to 1000 submissions")
    ]


#: What applies where neither the submission nor the handler says anything.
_DEFAULTS = NewJob(type="", payload=Raw(b"null"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SUBMISSION = msgspec.json.Decoder(Submission)
_BATCH = msgspec.json.Decoder(Batch)


class SubmissionParser:
    """Checks submissions against the handlers and queues that there are. Safe to use from any thread."""

    def __init__(self, registry: Registry, queues: Collection[str]) -> None:
        """``queues``: the names of the queues that are configured."""
        self._registry = registry
        self._queues = frozenset(queues)

    def read(self, body: bytes, idempotency_key: str | None = None) -> NewJob:
        """The job that ``body`` asks for.

        Raises Problem: ``bad_json`` or ``invalid_submission``.
        """
        value = strict_json.decode(body)
        try:
            submission = _SUBMISSION.decode(body)
        except msgspec.ValidationError:
            raise _refusal(mismatches(Submission, value)) from None
        if errors := self._refusals(submission):
            raise _refusal(errors)
        if idempotency_key is None:
            return self._job(submission)
        return self._job(submission, idempotency_key, _fingerprint(value))

    def read_batch(self, body: bytes, idempotency_key: str | None = None) -> list[NewJob]:
        """The jobs that ``body`` asks for together.

        Raises Problem: ``bad_json`` or ``invalid_submission``.
        """
        value = strict_json.decode(body)
        try:
            submissions = _BATCH.decode(body).jobs
        except msgspec.ValidationError:
            raise _refusal(_batch_mismatches(value)) from None
        errors = (
            error for i, submission in enumerate(submissions) for error in self._refusals(submission, f"jobs[{i}].")
        )
        # A batch of a thousand slips is not looked at any further than its answer tells of it.
        if listed := list(islice(errors, MAX_ERRORS)):
            raise _refusal(listed)
        if idempotency_key is None:
            return [self._job(submission) for submission in submissions]
        fingerprint = _fingerprint(value)
        # No key of a single submission holds a newline, so the two kinds never meet.
        return [
            self._job(submission, f"{idempotency_key}\n{i}", fingerprint) for i, submission in enumerate(submissions)
        ]

    def _refusals(self, submission: Submission, prefix: str = "") -> list[FieldError]:
        """What is wrong with a submission although it has the right shape."""
        errors = []
        queue = submission.queue
        try:
            spec = self._registry.get(submission.type)
            queue = queue or spec.queue or _DEFAULTS.queue
            spec.check_payload(submission.payload)
        except UnknownType as error:
            errors.append(
                FieldError(
                    f"{prefix}type", f"{shown(submission.type)}: {unknown(submission.type, 'type', error.known)}"
                )
            )
        except InvalidPayload as error:
            errors += [FieldError(prefix + path, message) for path, message in error.errors]
        if queue is not UNSET and queue not in self._queues:
            errors.append(FieldError(f"{prefix}queue", f"{shown(queue)}: {unknown(queue, 'queue', self._queues)}"))
        if submission.run_at is not UNSET and not _is_storable(submission.run_at):
            errors.append(FieldError(f"{prefix}run_at", "must lie in the years 1970 to 9999, in UTC"))
        return errors

    def _job(
        self, submission: Submission, idempotency_key: str | None = None, fingerprint: bytes | None = None
    ) -> NewJob:
        spec = self._registry.get(submission.type)
        return NewJob(
            type=submission.type,
            payload=submission.payload,
            queue=submission.queue or spec.queue or _DEFAULTS.queue,
            priority=submission.priority,
            max_attempts=submission.max_attempts or spec.max_attempts or _DEFAULTS.max_attempts,
            timeout=submission.timeout or spec.timeout or _DEFAULTS.timeout,
            run_at=None if submission.run_at is UNSET else submission.run_at.astimezone(UTC),
            tags=tuple(dict.fromkeys(submission.tags)),
            backoff=_backoff(submission.backoff, spec.backoff or _DEFAULTS.backoff),
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
        )


def _backoff(options: BackoffOptions | UnsetType, default: Backoff) -> Backoff:
    if options is UNSET:
        return default
    return Backoff(
        default.base if options.base is UNSET else options.base,
        default.factor if options.factor is UNSET else options.factor,
        default.cap if options.cap is UNSET else options.cap,
    )


def _is_storable(instant: datetime) -> bool:
    try:
        return instant.astimezone(UTC) >= _EPOCH
    except OverflowError:
        return False


def _batch_mismatches(value: Any) -> Iterator[FieldError]:
    jobs = value.get("jobs") if isinstance(value, dict) else None
    if isinstance(jobs, list) and 1 <= len(jobs) <= MAX_BATCH:
        for i, job in enumerate(jobs):
            yield from mismatches(Submission, job, f"jobs[{i}]")
        value = {**value, "jobs": [{"type": "-"}]}  # its jobs have been looked at; the rest has not
    yield from mismatches(Batch, value)


def _refusal(errors: Iterable[FieldError]) -> Problem:
    return Problem.of_fields("invalid_submission", list(islice(errors, MAX_ERRORS)))


def _fingerprint(value: Any) -> bytes:
    """A digest of what was asked for: white space and the order of keys make no difference."""
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=16).digest()
