"""The SQLite store. Reads run on their own connections; writes are operations of the writer."""

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import apsw
from msgspec.structs import replace

from store import transitions
from store.clock import Clock
from store.ids import IdSource
from store.job import Attempt, Job, JobStatus, LogLine, NewJob, Progress
from store.leases import Lease, LeaseBook
from store.protocol import (
    Created,
    DueJob,
    Expired,
    Finished,
    JobFilter,
    Note,
    Page,
    QueueCount,
    Recovery,
    Reservation,
)
from store.sqlite.checkpointer import Checkpointer
from store.sqlite.condition import Condition
from store.sqlite.database import Database
from store.sqlite.durability import Durability
from store.sqlite.listing import list_jobs
from store.sqlite.rows import (
    Row,
    attempt_from_row,
    attempt_row,
    from_micros,
    insert_row,
    job_from_row,
    line_from_row,
    text,
    to_micros,
    update_row,
)
from store.sqlite.session import Session
from store.sqlite.statements import (
    count,
    delete,
    end_solitude,
    find,
    free_due_jobs,
    insert_lines,
    is_pending,
    oldest_wait,
    record_notes,
    release_suspects,
    replay,
    stale,
)
from store.sqlite.writer import SqliteWriter, Transaction

#: Rows, of all tables, that one call of ``delete_finished`` deletes, but for those of its last job.
_MOST_DELETED_ROWS = 5_000
#: Seconds between two looks at the size of the WAL.
_MAINTENANCE_INTERVAL = 1.0


class SqliteStore:
    """A :class:`~store.protocol.JobStore` in one SQLite file that one process owns.

    Leases are kept in memory: they die with the process, and so does everything they protect.
    """

    def __init__(
        self, path: Path, clock: Clock, rng: random.Random, fdatasync: Callable[[int], None] = os.fdatasync
    ) -> None:
        """Open or create the file. Raises CannotOpenStore and its subclasses.

        ``fdatasync`` makes a file descriptor's data survive a power cut; tests watch it and let it fail.
        """
        self._clock = clock
        self._condition = Condition()
        self._database = Database(path, self._condition)
        with self._database.snapshot() as reader:
            self._ids = IdSource(clock.now, rng, reader.value("last_id"))
            self._paused = frozenset(name for (name,) in reader.rows("paused_queues"))
            self._tally = count(reader)
        self._write_lock = threading.Lock()
        # guards: the connection that writes, and the leases
        self._durability = Durability(self._database.wal, self._condition, fdatasync)
        self._checkpointer = Checkpointer(self._database.checkpointer, self._write_lock, self._condition)
        self._writer = SqliteWriter(
            self._database.writer,
            write_lock=self._write_lock,
            condition=self._condition,
            durability=self._durability,
            leases=LeaseBook(clock.monotonic),
            tally=self._tally,
        )
        self._database.writer.set_wal_hook(self._note_log_size)

    def _note_log_size(self, _connection: object, _database: str, frames: int) -> int:
        self._checkpointer.frames = frames
        return apsw.SQLITE_OK

    # Reading.

    @contextmanager
    def _reader(self) -> Iterator[Session]:
        """A connection that sees one state; nobody gets away with what a power cut could undo."""
        with self._database.snapshot() as reader:
            yield reader
        self._durability.sync_what_was_read()

    def get_job(self, job_id: str) -> Job:
        with self._reader() as reader:
            return find(reader, job_id)[0]

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        with self._reader() as reader:
            return list_jobs(reader, where, limit, cursor)

    def list_attempts(self, job_id: str) -> list[Attempt]:
        with self._reader() as reader:
            job, number = find(reader, job_id)
            attempts = [attempt_from_row(row) for row in reader.rows("list_attempts", (number,))]
            return attempts + transitions.implied_attempt(job)

    def list_log(self, job_id: str) -> list[LogLine]:
        with self._reader() as reader:
            _, number = find(reader, job_id)
            return [line_from_row(row) for row in reader.rows("list_log", (number,))]

    def count_jobs(self) -> Mapping[JobStatus, int]:
        self._condition.check_open()
        counts = self._tally.by_status()
        self._durability.sync_what_was_read()
        return counts

    def count_queues(self) -> list[QueueCount]:
        now = to_micros(self._clock.now())
        counts, paused = self._tally.by_queue(), self._paused
        names = {queue for queue, _ in counts} | paused
        with self._reader() as reader:
            waits = {name: oldest_wait(reader, name, now) for name in names}
        return [
            QueueCount(
                name=name,
                paused=name in paused,
                pending=counts.get((name, JobStatus.PENDING), 0),
                processing=counts.get((name, JobStatus.PROCESSING), 0),
                oldest_wait=waits[name],
            )
            for name in sorted(names)
        ]

    def is_paused(self, queue: str) -> bool:
        self._condition.check_open()
        return queue in self._paused

    # What clients ask for.

    def create_jobs(self, new_jobs: Sequence[NewJob], reserve: Lease | None = None) -> list[Created]:
        return self._writer.run(self._create_jobs, new_jobs, reserve, durable=True)

    def _create_jobs(
        self, transaction: Transaction, new_jobs: Sequence[NewJob], reserve: Lease | None
    ) -> list[Created]:
        now = self._clock.now()
        created = [self._create_job(transaction, new, now) for new in new_jobs]
        stored = [each.job for each in created if not each.replayed]
        for job in stored:
            if reserve and job.run_at <= now and job.queue not in self._paused:
                transaction.leases.grant(job.id, reserve)
        transaction.deltas += [(job.queue, JobStatus.PENDING, +1) for job in stored]
        transaction.needs_sync = True
        return created

    def _create_job(self, transaction: Transaction, new: NewJob, now: datetime) -> Created:
        if new.idempotency_key is not None:
            first = transaction.row("find_idempotency_key", (new.idempotency_key,))
            if first is not None:
                return replay(transaction, new, *first)
        job = transitions.created(new, self._ids.next(), now)
        transaction.run("insert_job", insert_row(new, job))
        if job.tags:
            number = transaction.connection.last_insert_rowid()
            transaction.run_many("insert_tag", [(tag, number) for tag in job.tags])
        return Created(job, replayed=False)

    def cancel_job(self, job_id: str) -> Job:
        return self._writer.run(self._change, job_id, transitions.cancelled, durable=True)

    def retry_job(self, job_id: str) -> Job:
        return self._writer.run(self._change, job_id, transitions.retried, durable=True)

    def _change(self, transaction: Transaction, job_id: str, change: Callable[[Job, datetime], Job]) -> Job:
        before, number = find(transaction, job_id)
        after = change(before, self._clock.now())
        self._save(transaction, before, after, number)
        if after.status is JobStatus.CANCELLED:
            transaction.leases.drop(job_id)
        return after

    def delete_job(self, job_id: str) -> None:
        self._writer.run(self._delete_job, job_id, durable=True)

    def _delete_job(self, transaction: Transaction, job_id: str) -> None:
        job, number = find(transaction, job_id)
        transitions.check_deletable(job)
        delete(transaction, number)
        transaction.deltas.append((job.queue, job.status, -1))
        transaction.needs_sync = True

    def pause_queue(self, queue: str) -> None:
        self._writer.run(self._pause_queue, queue, durable=True)

    def _pause_queue(self, transaction: Transaction, queue: str) -> None:
        transaction.run("pause_queue", (queue,))
        transaction.needs_sync = True
        transaction.on_commit(lambda: self._set_paused(self._paused | {queue}))

    def resume_queue(self, queue: str) -> None:
        self._writer.run(self._resume_queue, queue, durable=True)

    def _resume_queue(self, transaction: Transaction, queue: str) -> None:
        if transaction.rows("resume_queue", (queue,)):
            transaction.run("clear_suspects", (queue,))
        transaction.needs_sync = True
        transaction.on_commit(lambda: self._set_paused(self._paused - {queue}))

    def _set_paused(self, queues: frozenset[str]) -> None:
        self._paused = queues

    # What the engine asks for.

    def reserve_jobs(self, queue: str, limit: int, lease: Lease) -> Reservation:
        return self._writer.run(self._reserve_jobs, queue, limit, lease, durable=False)

    def _reserve_jobs(self, transaction: Transaction, queue: str, limit: int, lease: Lease) -> Reservation:
        # Not by memory, which a pause in this very transaction has not reached yet.
        if transaction.value("is_paused", (queue,)):
            return Reservation([], None)
        now = to_micros(self._clock.now())
        priorities = [priority for (priority,) in transaction.rows("priorities", (queue,))]
        jobs: list[DueJob] = []
        for priority in priorities:
            if len(jobs) >= limit:
                break
            jobs += free_due_jobs(transaction, queue, priority, now, limit - len(jobs))
        for job in jobs:
            transaction.leases.grant(job.id, lease)
        upcoming = [transaction.value("next_run_at", (queue, each, now)) for each in priorities]
        next_run_at = min((micros for micros in upcoming if micros is not None), default=None)
        return Reservation(jobs, None if next_run_at is None else from_micros(next_run_at))

    def release_jobs(self, job_ids: Sequence[str], owner: str) -> None:
        self._writer.run(self._release_jobs, job_ids, owner, durable=False)

    def _release_jobs(self, transaction: Transaction, job_ids: Sequence[str], owner: str) -> None:
        pending = [job_id for job_id in job_ids if is_pending(transaction, job_id)]
        transaction.leases.drop_owned(pending, owner)

    def claim_job(self, job_id: str, lease: Lease, *, alone: bool = False) -> Job | None:
        return self._writer.run(self._claim_job, job_id, lease, alone, durable=False)

    def _claim_job(self, transaction: Transaction, job_id: str, lease: Lease, alone: bool) -> Job | None:
        if not transaction.leases.is_free(job_id, lease.owner):
            return None
        now = to_micros(self._clock.now())
        rows = transaction.rows("claim_job", (now, alone, job_id))
        if not rows:
            self._release_jobs(transaction, [job_id], lease.owner)
            return None
        job = job_from_row(rows[0])
        transaction.leases.grant(job_id, lease)
        transaction.deltas += [(job.queue, JobStatus.PENDING, -1), (job.queue, JobStatus.PROCESSING, +1)]
        return job

    def finish_job(
        self,
        job_id: str,
        attempt: int,
        outcome: transitions.Outcome,
        *,
        lines: Sequence[LogLine] = (),
        progress: Progress | None = None,
        claim_next: tuple[str, Lease] | None = None,
    ) -> Finished:
        note = Note(job_id, attempt, progress, tuple(lines))
        return self._writer.run(self._finish_job, note, outcome, claim_next, durable=False)

    def _finish_job(
        self,
        transaction: Transaction,
        note: Note,
        outcome: transitions.Outcome,
        claim_next: tuple[str, Lease] | None,
    ) -> Finished:
        if isinstance(outcome, transitions.Completed):
            status, run_at = self._complete_job(transaction, note, outcome)
        else:
            status, run_at = self._end_attempt(transaction, note, outcome)
        transaction.needs_sync = True
        next_job = None if claim_next is None else self._claim_job(transaction, *claim_next, alone=False)
        return Finished(status, run_at, next_job)

    def _complete_job(
        self, transaction: Transaction, note: Note, outcome: transitions.Completed
    ) -> tuple[JobStatus, datetime | None]:
        """The happy path of every job, as one conditional statement."""
        message = note.progress and note.progress.message
        now = to_micros(self._clock.now())
        values = (text(outcome.result), message, now, note.job_id, note.attempt)
        rows = transaction.rows("complete_job", values)
        if not rows:
            raise stale(transaction, note)
        number, queue = rows[0]
        insert_lines(transaction, note.lines, number)
        transaction.leases.drop(note.job_id)
        transaction.deltas += [(queue, JobStatus.PROCESSING, -1), (queue, JobStatus.COMPLETED, +1)]
        return JobStatus.COMPLETED, None

    def _end_attempt(
        self, transaction: Transaction, note: Note, outcome: transitions.Outcome
    ) -> tuple[JobStatus, datetime | None]:
        rows = transaction.rows("get_job", (note.job_id,))
        job = job_from_row(rows[0]) if rows else None
        if job is None or not transitions.is_current(job, note.attempt):
            raise stale(transaction, note)
        if note.progress is not None:
            job = replace(job, progress=note.progress)
        number = rows[0][-1]
        change = transitions.ended(job, outcome, self._clock.now())
        insert_lines(transaction, note.lines, number)
        self._save_change(transaction, job, change, number)
        return change.job.status, change.job.run_at if change.job.status is JobStatus.PENDING else None

    def end_solitude(self, job_id: str, attempt: int) -> None:
        self._writer.run(end_solitude, job_id, attempt, durable=False)

    def record_notes(self, notes: Sequence[Note]) -> None:
        self._writer.run(record_notes, notes, durable=False)

    def renew_leases(self, job_ids: Sequence[str], lease: Lease) -> set[str]:
        return self._writer.with_leases(lambda leases: leases.renew(job_ids, lease))

    def release_expired(self) -> Expired:
        if not self._writer.with_leases(LeaseBook.expired):
            return Expired([], set())
        return self._writer.run(self._release_expired, durable=False)

    def _release_expired(self, transaction: Transaction) -> Expired:
        crashed, freed_queues = [], set()
        for job_id in transaction.leases.expired():
            row = transaction.row("get_job", (job_id,))
            transaction.leases.drop(job_id)
            job = None if row is None else job_from_row(row)
            if row is not None and job is not None and job.status is JobStatus.PROCESSING:
                change = transitions.expired(job, self._clock.now())
                self._save_change(transaction, job, change, row[-1])
                crashed.append(change.job)
            elif job is not None:
                freed_queues.add(job.queue)
        return Expired(crashed, freed_queues)

    def release_suspects(self, job_ids: Sequence[str]) -> None:
        self._writer.run(release_suspects, job_ids, durable=False)

    def recover(self, *, solo_limit: int) -> Recovery:
        return self._writer.run(self._recover, solo_limit, durable=True)

    def _recover(self, transaction: Transaction, solo_limit: int) -> Recovery:
        for queue in self._paused:
            transaction.run("clear_suspects", (queue,))
        crashed = [self._crash(transaction, row, solo_limit) for row in transaction.rows("processing_jobs")]
        suspects = [job_id for (job_id,) in transaction.rows("suspect_ids")]
        return Recovery(crashed, suspects)

    def _crash(self, transaction: Transaction, row: Row, solo_limit: int) -> Job:
        job, number = job_from_row(row), row[-1]
        suspect = job.queue not in self._paused
        change = transitions.crashed(job, self._clock.now(), solo_limit=solo_limit, suspect=suspect)
        self._save_change(transaction, job, change, number)
        return change.job

    def delete_finished(self, status: JobStatus, before: datetime, limit: int) -> int:
        return self._writer.run(self._delete_finished, status, before, limit, durable=False)

    def _delete_finished(self, transaction: Transaction, status: JobStatus, before: datetime, limit: int) -> int:
        transaction.needs_sync = True
        deleted = 0
        begin = transaction.connection.total_changes()
        for number, queue in transaction.rows("finished_jobs", (status, to_micros(before), limit)):
            delete(transaction, number)
            transaction.deltas.append((queue, status, -1))
            deleted += 1
            # Everybody waits for the writer meanwhile, and a job may have thousands of log lines.
            if transaction.connection.total_changes() - begin >= _MOST_DELETED_ROWS:
                break
        return deleted

    # Housekeeping.

    def flush(self) -> None:
        self._condition.check_open()
        self._durability.sync_what_was_read()

    def maintain(self) -> float:
        self._condition.check_open()
        self._checkpointer.checkpoint()
        return _MAINTENANCE_INTERVAL

    def close(self) -> None:
        with self._write_lock:
            if self._condition.closed:
                return
            self._condition.close()
        # From here on nobody begins anything; each part waits for what it has under way.
        self._checkpointer.close()
        try:
            self._durability.close()
        finally:
            self._database.close()

    def _save_change(self, transaction: Transaction, before: Job, change: transitions.Change, number: int) -> None:
        if change.attempt is not None:
            transaction.run("insert_attempt", attempt_row(change.attempt, number))
        self._save(transaction, before, change.job, number)
        transaction.leases.drop(before.id)

    def _save(self, transaction: Transaction, before: Job, after: Job, number: int) -> None:
        transaction.run("update_job", update_row(after, number))
        if before.status is not after.status:
            transaction.deltas += [(before.queue, before.status, -1), (after.queue, after.status, +1)]
        transaction.needs_sync = True
