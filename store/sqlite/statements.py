"""Building blocks of the store's operations: one or two statements each, run on a given session."""

from collections import Counter
from collections.abc import Sequence

from store.errors import IdempotencyConflict, JobNotFound
from store.job import Job, JobStatus, NewJob
from store.protocol import Created, DueJob, Note
from store.sqlite.rows import job_from_row, line_row, to_micros
from store.sqlite.session import Session
from store.sqlite.writer import Transaction
from store.tally import Tally
from store.wall_clock import Moment


def count(session: Session) -> Tally:
    """Count every job; an index covers it."""
    by_status: Counter[JobStatus] = Counter()
    by_queue: dict[tuple[str, JobStatus], int] = {}
    for name, queue, jobs in session.rows("count_by_status_and_queue"):
        status = JobStatus(name)
        by_status[status] += jobs
        if not status.is_final:
            by_queue[queue, status] = jobs
    return Tally(by_status, by_queue)


def look_up(source: Session, job_id: str) -> tuple[Job, int] | None:
    """The job and its number; None if there is no such job."""
    row = source.row("get_job", (job_id,))
    return None if row is None else (job_from_row(row), row[-1])


def find(source: Session, job_id: str) -> tuple[Job, int]:
    """The job and its number. Raises JobNotFound."""
    found = look_up(source, job_id)
    if found is None:
        raise JobNotFound(job_id)
    return found


def find_number(source: Session, job_id: str) -> int:
    """The job's number alone. Raises JobNotFound."""
    number: int | None = source.value("find_number", (job_id,))
    if number is None:
        raise JobNotFound(job_id)
    return number


def replay(transaction: Transaction, new: NewJob, job_id: str, fingerprint: bytes | None) -> Created:
    """The answer to a submission whose key is known. Raises IdempotencyConflict."""
    if fingerprint != new.fingerprint:
        raise IdempotencyConflict
    return Created(find(transaction, job_id)[0], replayed=True)


def is_pending(transaction: Transaction, job_id: str) -> bool:
    """Whether the job exists and is pending."""
    return bool(transaction.value("is_pending", (job_id,)))


def free_due_jobs(transaction: Transaction, queue: str, priority: int, now: int, limit: int) -> list[DueJob]:
    """Up to ``limit`` due jobs of one priority that nobody holds, the longest due first."""
    jobs: list[DueJob] = []
    values = (queue, priority, now, transaction.setting, limit + len(transaction.leases))
    rows = transaction.rows("due_jobs", values)
    for job_id, _ in rows:
        if len(jobs) < limit and transaction.leases.is_free(job_id):
            jobs.append(DueJob(job_id, priority))
    return jobs


def oldest_wait(reader: Session, queue: str, moment: Moment) -> float | None:
    """Seconds for which the queue's pending job with the earliest ``run_at`` has been due."""
    values = (queue, to_micros(moment.now), moment.setting)
    firsts = reader.rows("first_suspect", values)
    for (priority,) in reader.rows("priorities", (queue,)):
        firsts += reader.rows("first_in_line", (*values, priority))
    if not firsts:
        return None
    _, _, wait = min(firsts)
    return wait / 1e6 if wait >= 0 else None


def insert_lines(transaction: Transaction, note: Note, job: int, keep: int) -> None:
    """Add a note's lines to the log of the job with this number, which keeps the last ``keep``."""
    if not note.lines:
        return
    last = transaction.value("last_line", (job,)) or 0
    rows = [line_row(line, job, number) for number, line in enumerate(note.lines, last + note.skipped + 1)]
    transaction.run_many("insert_log_line", rows[-keep:])
    last += note.skipped + len(rows)
    if last > keep:
        transaction.run("delete_old_lines", (job, last - keep))


def end_solitude(transaction: Transaction, job_id: str, attempt: int) -> None:
    """See :meth:`store.protocol.JobStore.end_solitude`."""
    transaction.run("end_solitude", (job_id, attempt))


def record_notes(transaction: Transaction, notes: Sequence[Note], keep: int) -> None:
    """See :meth:`store.protocol.JobStore.record_notes`; each log keeps its last ``keep`` lines."""
    for note in notes:
        for (number,) in transaction.rows("find_attempt", (note.job_id, note.attempt)):
            insert_lines(transaction, note, number, keep)
            if note.progress is not None:
                values = (note.progress.fraction, note.progress.message, number)
                transaction.run("record_progress", values)


def touch(transaction: Transaction) -> None:
    """Have one page written, and change nothing: it shows whether the disk takes what is written."""
    transaction.connection.pragma("user_version", transaction.connection.pragma("user_version"))


def release_suspects(transaction: Transaction, job_ids: Sequence[str]) -> None:
    """See :meth:`store.protocol.JobStore.release_suspects`."""
    transaction.run_many("release_suspect", [(job_id,) for job_id in job_ids])


def delete(transaction: Transaction, number: int) -> None:
    """Remove a job with all that belongs to it."""
    for statement in ("delete_tags", "delete_attempts", "delete_log", "delete_job"):
        transaction.run(statement, (number,))
