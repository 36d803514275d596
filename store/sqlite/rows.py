"""Rows of the SQLite schema to values and back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from store.job import Attempt, AttemptStatus, Backoff, Job, JobError, JobStatus, LogLine, NewJob, NewLogLine, Progress

Row = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DEFAULT_BACKOFF = Backoff()
_STATUS = {status.value: status for status in JobStatus}

_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(JobError).decode
_decode_backoff = msgspec.json.Decoder(Backoff).decode
_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode


def to_micros(instant: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The instant, aware and in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def job_from_row(row: Row) -> Job:
    """The job in a row of ``get_job``; the last column is its number."""
    return Job(
        id=row[0],
        type=row[1],
        queue=row[2],
        status=_STATUS[row[3]],
        priority=row[4],
        payload=msgspec.Raw(row[5]),
        result=None if row[6] is None else msgspec.Raw(row[6]),
        error=None if row[7] is None else _decode_error(row[7]),
        progress=Progress(row[8], row[9]),
        attempt=row[10],
        interruptions=row[11],
        cancel_requested=bool(row[12]),
        max_attempts=row[13],
        timeout=row[14],
        tags=() if row[15] is None else _decode_tags(row[15]),
        created_at=from_micros(row[16]),
        run_at=from_micros(row[17]),
        run_at_given=row[28] is None,
        started_at=None if row[18] is None else from_micros(row[18]),
        finished_at=None if row[19] is None else from_micros(row[19]),
        backoff=_DEFAULT_BACKOFF if row[20] is None else _decode_backoff(row[20]),
        failures=row[21],
        suspect=bool(row[22]),
        alone=bool(row[23]),
        solo_crashes=row[24],
        traceparent=row[25],
        submitted_by=row[26],
        shared_crashes=row[27],
    )


def insert_row(new: NewJob, job: Job, setting: int) -> Row:
    """The bindings of ``insert_job``; ``setting``: how the wall clock is set."""
    return (
        job.id,
        job.type,
        job.queue,
        job.priority,
        text(job.payload),
        job.max_attempts,
        job.timeout,
        _encode(job.tags).decode() if job.tags else None,
        to_micros(job.created_at),
        to_micros(job.run_at),
        None if job.backoff == _DEFAULT_BACKOFF else _encode(job.backoff).decode(),
        job.traceparent,
        job.submitted_by,
        new.idempotency_key,
        new.fingerprint,
        None if job.run_at_given else setting,
    )


def update_row(job: Job, number: int, setting: int) -> Row:
    """The bindings of ``update_job``; ``setting``: how the wall clock is set."""
    return (
        job.status,
        None if job.result is None else text(job.result),
        error_text(job.error),
        job.progress.fraction,
        job.progress.message,
        job.attempt,
        job.interruptions,
        job.cancel_requested,
        to_micros(job.run_at),
        None if job.started_at is None else to_micros(job.started_at),
        None if job.finished_at is None else to_micros(job.finished_at),
        job.failures,
        job.suspect,
        job.alone,
        job.solo_crashes,
        job.shared_crashes,
        None if job.run_at_given else setting,
        number,
    )


def attempt_row(attempt: Attempt, number: int) -> Row:
    """The bindings of ``insert_attempt``."""
    assert attempt.finished_at is not None
    started_at, finished_at = to_micros(attempt.started_at), to_micros(attempt.finished_at)
    return (number, attempt.attempt, attempt.status, started_at, finished_at, error_text(attempt.error))


def attempt_from_row(row: Row) -> Attempt:
    """The attempt in a row of ``list_attempts``."""
    error = None if row[4] is None else _decode_error(row[4])
    return Attempt(row[0], AttemptStatus(row[1]), from_micros(row[2]), from_micros(row[3]), error)


def line_row(line: NewLogLine, job: int, number: int) -> Row:
    """The bindings of ``insert_log_line``; ``job`` is that one's number."""
    return (job, number, line.attempt, to_micros(line.time), line.level, line.message)


def line_from_row(row: Row) -> LogLine:
    """The line in a row of ``list_log``."""
    return LogLine(row[0], from_micros(row[1]), row[2], row[3], row[4])


def text(raw: msgspec.Raw) -> str:
    """JSON as the text that came; it was checked to be UTF-8 when it came."""
    return bytes(raw).decode()


def error_text(error: JobError | None) -> str | None:
    """The error as JSON."""
    return None if error is None else _encode(error).decode()
