"""The SQLite store: which operations there are, and which of them wait for the disk."""

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path

import apsw

from store import transitions
from store.clock import Clock
from store.errors import CannotOpenStore, OutcomeUnknown, StoreError
from store.ids import IdSource
from store.job import Attempt, Job, JobStatus, LogLine, NewJob, NewLogLine, Progress
from store.leases import Lease, LeaseBook
from store.protocol import (
    LOG_LINES,
    Created,
    Expired,
    Finished,
    Followed,
    JobFilter,
    Note,
    Page,
    QueueCount,
    Recovery,
    Reservation,
)
from store.sqlite.checkpointer import Checkpointer
from store.sqlite.clock_setting import ClockSetting
from store.sqlite.condition import Condition
from store.sqlite.database import Database
from store.sqlite.durability import Durability
from store.sqlite.listing import list_jobs
from store.sqlite.operations import Operations
from store.sqlite.rows import (
    attempt_from_row,
    line_from_row,
)
from store.sqlite.session import Session
from store.sqlite.statements import (
    count,
    end_solitude,
    find,
    find_number,
    oldest_wait,
    record_notes,
    release_suspects,
    touch,
)
from store.sqlite.writer import SqliteWriter

#: Seconds between two looks at the files.
_MAINTENANCE_INTERVAL = 1.0
#: Pages that are written to see whether that works again. On a full disk the last block of the log still has room for
#: one, and not for a job.
_PROBES = 4


class SqliteStore:
    """A :class:`~store.protocol.JobStore` in one SQLite file that one process owns.

    Leases are kept in memory: they die with the process, and so does everything they protect.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        rng: random.Random,
        fdatasync: Callable[[int], None] = os.fdatasync,
        *,
        log_lines: int = LOG_LINES,
        fsync: Callable[[int], None] = os.fsync,
        vfs: str | None = None,
    ) -> None:
        """Open or create the file. Raises CannotOpenStore and its subclasses.

        ``log_lines``: how many lines a job's log keeps.

        Tests watch how the disk is used, and let it fail, through these: ``fdatasync`` makes the
        data of a file descriptor survive a power cut, ``fsync`` the entries of a directory, and
        ``vfs`` names SQLite's way to its files (None: its own).
        """
        self._log_lines = log_lines
        self._condition = Condition()
        self._database = Database(path, self._condition, fsync=fsync, vfs=vfs)
        try:
            with self._database.snapshot() as reader:
                ids = IdSource(clock.now, rng, reader.value("last_id"))
                paused = frozenset(name for (name,) in reader.rows("paused_queues"))
                self._tally = count(reader)
                self._clock_setting = ClockSetting(clock, reader)
            self._durability = Durability(
                self._database.wal, self._condition, fdatasync, self._database.ownership.find_loss
            )
        except (StoreError, OSError, ValueError) as error:
            self._database.checkpointer.close()
            self._database.close()
            # A value, such as a status that there is not, is in no file that only a store has written.
            damage = f"the database is damaged ({error}); restore a backup of it"
            reason = damage if isinstance(error, ValueError) else str(error)
            raise CannotOpenStore(f"cannot open the store {path}: {reason}") from error
        self._operations = Operations(ids, paused, log_lines)
        self._write_lock = threading.Lock()
        # guards: the connection that writes, the leases, and the clock's setting
        self._checkpointer = Checkpointer(self._database.checkpointer, self._write_lock, self._condition)
        self._writer = SqliteWriter(
            self._database.writer,
            write_lock=self._write_lock,
            condition=self._condition,
            durability=self._durability,
            leases=LeaseBook(clock.monotonic),
            tally=self._tally,
            look=self._clock_setting.look,
            begin=self._clock_setting.note,
        )
        self._database.writer.set_wal_hook(self._note_log_size)

    def _note_log_size(self, _connection: object, _database: str, frames: int) -> int:
        self._checkpointer.frames = frames
        self._durability.has_log = True
        return apsw.SQLITE_OK

    # Reading.

    @contextmanager
    def _synced(self, lent: AbstractContextManager[Session]) -> Iterator[Session]:
        """Read on a lent connection; nobody gets away with what a power cut could undo."""
        with lent as reader:
            yield reader
        self._durability.sync_what_was_read()

    def get_job(self, job_id: str) -> Job:
        with self._synced(self._database.reader()) as reader:
            return find(reader, job_id)[0]

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        with self._synced(self._database.reader()) as reader:
            return list_jobs(reader, where, limit, cursor)

    def list_attempts(self, job_id: str) -> list[Attempt]:
        with self._synced(self._database.snapshot()) as reader:
            job, number = find(reader, job_id)
            attempts = [attempt_from_row(row) for row in reader.rows("list_attempts", (number,))]
            return attempts + transitions.implied_attempt(job)

    def list_log(self, job_id: str, *, after: int = 0, tail: int | None = None) -> list[LogLine]:
        with self._synced(self._database.snapshot()) as reader:
            limit = -1 if tail is None else tail
            rows = reader.rows("list_log", (find_number(reader, job_id), after, limit))
            return [line_from_row(row) for row in reversed(rows)]

    def count_jobs(self) -> Mapping[JobStatus, int]:
        self._condition.check_open()
        counts = self._tally.by_status()
        self._durability.sync_what_was_read()
        return counts

    def count_queues(self) -> list[QueueCount]:
        moment = self._clock_setting.peek()
        counts, paused = self._tally.by_queue(), self._operations.paused
        names = {queue for queue, _ in counts} | paused
        with self._synced(self._database.snapshot()) as reader:
            waits = {name: oldest_wait(reader, name, moment) for name in names}
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
        return queue in self._operations.paused

    # What clients ask for.

    def create_jobs(self, new_jobs: Sequence[NewJob], reserve: Lease | None = None) -> list[Created]:
        return self._writer.run(self._operations.create_jobs, new_jobs, reserve, durable=True)

    def cancel_job(self, job_id: str) -> Job:
        return self._writer.run(self._operations.change, job_id, transitions.cancelled, durable=True)

    def retry_job(self, job_id: str) -> Job:
        return self._writer.run(self._operations.change, job_id, transitions.retried, durable=True)

    def delete_job(self, job_id: str) -> None:
        self._writer.run(self._operations.delete_job, job_id, durable=True)

    def pause_queue(self, queue: str) -> None:
        self._writer.run(self._operations.pause_queue, queue, durable=True)

    def resume_queue(self, queue: str) -> None:
        self._writer.run(self._operations.resume_queue, queue, durable=True)

    # What the engine asks for.

    def reserve_jobs(self, queue: str, limit: int, lease: Lease) -> Reservation:
        return self._writer.run(self._operations.reserve_jobs, queue, limit, lease, durable=False)

    def release_jobs(self, job_ids: Sequence[str], owner: str) -> None:
        self._writer.run(self._operations.release_jobs, job_ids, owner, durable=False)

    def claim_job(self, job_id: str, lease: Lease, *, alone: bool = False) -> Job | None:
        return self._writer.run(self._operations.claim_job, job_id, lease, alone, durable=False)

    def finish_job(
        self,
        job_id: str,
        attempt: int,
        outcome: transitions.Outcome,
        *,
        lines: Sequence[NewLogLine] = (),
        skipped: int = 0,
        progress: Progress | None = None,
        claim_next: tuple[str, Lease] | None = None,
    ) -> Finished:
        note = Note(job_id, attempt, progress, tuple(lines), skipped)
        return self._writer.run(self._operations.finish_job, note, outcome, claim_next, durable=False)

    def end_solitude(self, job_id: str, attempt: int) -> None:
        self._writer.run(end_solitude, job_id, attempt, durable=False)

    def record_notes(self, notes: Sequence[Note]) -> None:
        self._writer.run(record_notes, notes, self._log_lines, durable=False)

    def renew_leases(self, job_ids: Sequence[str], lease: Lease) -> set[str]:
        return self._writer.with_leases(lambda leases: leases.renew(job_ids, lease))

    def release_expired(self) -> Expired:
        if not self._writer.with_leases(LeaseBook.expired):
            return Expired([], set())
        return self._writer.run(self._operations.release_expired, durable=False)

    def release_suspects(self, job_ids: Sequence[str]) -> None:
        self._writer.run(release_suspects, job_ids, durable=False)

    def recover(self, *, solo_limit: int) -> Recovery:
        return self._writer.run(self._operations.recover, solo_limit, durable=True)

    def delete_finished(self, status: JobStatus, before: datetime, limit: int) -> int:
        return self._writer.run(self._operations.delete_finished, status, before, limit, durable=False)

    def follow_clock(self, limit: int) -> Followed:
        return self._writer.run(self._clock_setting.follow, limit, durable=False)

    # Housekeeping.

    def flush(self) -> None:
        self._condition.check_open()
        self._durability.sync_what_was_read()

    def maintain(self) -> float:
        self._condition.check_open()
        if loss := self._database.ownership.find_loss():
            self._condition.fail(OutcomeUnknown(loss))
        # Whoever met the failure may not have told anybody.
        self._condition.check_failure()
        self._checkpointer.checkpoint()
        self._condition.check_log()
        if self._condition.in_trouble:
            # Nobody may be writing, and it would never be known that it works again.
            self._condition.in_trouble = False  # It is noted again if this is refused.
            for _ in range(_PROBES):
                self._writer.run(touch, durable=False)
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
