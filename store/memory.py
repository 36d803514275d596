"""The memory store: for tests and for trying Gofer out. It forgets everything when the process ends."""

import random
import re
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter

from msgspec import Raw
from msgspec.structs import replace

from store import transitions
from store.clock import Clock
from store.errors import IdempotencyConflict, InvalidCursor, JobNotFound, StoreClosed
from store.ids import IdSource
from store.job import Attempt, Job, JobStatus, LogLine, NewJob, NewLogLine, Progress
from store.leases import Lease, LeaseBook
from store.memory_index import IdList, JobIndex
from store.protocol import (
    LOG_LINES,
    PAGE_SIZE,
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
from store.transitions import Change, Outcome
from store.wall_clock import WallClock

#: Seconds: there is nothing to maintain, but the caller needs a number that it can wait for.
_NO_MAINTENANCE = 3600.0

#: A cursor is the id of the last job on the page before.
_CURSOR = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_number = attrgetter("number")


@dataclass(slots=True)
class _Record:
    """All that is kept of one job."""

    job: Job
    #: How the wall clock was set when the job's ``run_at`` was reckoned.
    setting: int
    idempotency_key: str | None
    fingerprint: bytes | None
    #: Those that ended without completing; a running or completed one is implied by the job.
    attempts: list[Attempt] = field(default_factory=list)
    #: Numbers rise; the last line is never let go of.
    log: list[LogLine] = field(default_factory=list)


class MemoryStore:
    """A JobStore in a dict."""

    def __init__(self, clock: Clock, rng: random.Random, *, log_lines: int = LOG_LINES) -> None:
        """``rng`` is used for ids, by one thread at a time. ``log_lines``: how many a job's log keeps."""
        self._log_lines = log_lines
        self._id_source = IdSource(clock.now, rng)
        self._lock = threading.Lock()
        # guards: everything below. Jobs themselves are frozen, so that they can be handed out.
        self._closed = False
        self._wall_clock = WallClock(clock)
        # The time that the operation under way goes by.
        self._moment = self._wall_clock.look()
        # How many jobs were moved along with the wall clock, of which nobody was told yet.
        self._moved = 0
        self._records: dict[str, _Record] = {}
        self._keys: dict[str, _Record] = {}
        self._ids = IdList()
        self._index = JobIndex()
        self._leases = LeaseBook(clock.monotonic)
        self._paused: set[str] = set()

    # Submitting and reading

    def create_jobs(self, new_jobs: Sequence[NewJob], reserve: Lease | None = None) -> list[Created]:
        with self._open():
            self._check_keys_locked(new_jobs)
            return [self._create_locked(new, reserve) for new in new_jobs]

    def get_job(self, job_id: str) -> Job:
        with self._open():
            return self._find_locked(job_id).job

    def list_jobs(self, where: JobFilter, limit: int, cursor: str | None = None) -> Page:
        with self._open():
            if cursor is not None and not _CURSOR.fullmatch(cursor):
                raise InvalidCursor
            newest_first = (self._records[job_id].job for job_id in self._ids.newest_first(cursor))
            return _page((job for job in newest_first if where.matches(job)), limit)

    def list_attempts(self, job_id: str) -> list[Attempt]:
        with self._open():
            record = self._find_locked(job_id)
            return [*record.attempts, *transitions.implied_attempt(record.job)]

    def list_log(self, job_id: str, *, after: int = 0, tail: int | None = None) -> list[LogLine]:
        with self._open():
            log = self._find_locked(job_id).log
            begin = bisect_right(log, after, key=_number)
            return log[begin if tail is None else max(begin, len(log) - tail) :]

    # Running

    def reserve_jobs(self, queue: str, limit: int, lease: Lease) -> Reservation:
        with self._open():
            if queue in self._paused:
                return Reservation([], None)
            index, now = self._index.queue(queue), self._moment.now
            due = index.take(limit, now)
            for job in due:
                self._leases.grant(job.id, lease)
            return Reservation(due, index.next_run_at(now))

    def release_jobs(self, job_ids: Sequence[str], owner: str) -> None:
        with self._open():
            for job_id in job_ids:
                self._release_locked(job_id, owner)

    def claim_job(self, job_id: str, lease: Lease, *, alone: bool = False) -> Job | None:
        with self._open():
            return self._claim_locked(job_id, lease, alone=alone)

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
        with self._open():
            record = self._records.get(job_id)
            if record is None or not transitions.is_current(record.job, attempt):
                raise transitions.stale(record.job if record else None, attempt)
            running = replace(record.job, progress=progress) if progress else record.job
            self._end_locked(record, transitions.ended(running, outcome, self._moment.now))
            self._log_locked(record, lines, skipped)
            job = record.job
            next_job = self._claim_locked(*claim_next) if claim_next else None
            return Finished(job.status, job.run_at if job.status is JobStatus.PENDING else None, next_job)

    def end_solitude(self, job_id: str, attempt: int) -> None:
        with self._open():
            if record := self._running_locked(job_id, attempt):
                self._put_locked(record, replace(record.job, alone=False, suspect=False))

    def record_notes(self, notes: Sequence[Note]) -> None:
        with self._open():
            for note in notes:
                if record := self._running_locked(note.job_id, note.attempt):
                    self._log_locked(record, note.lines, note.skipped)
                    if note.progress:
                        self._put_locked(record, replace(record.job, progress=note.progress))

    # Steering by hand

    def cancel_job(self, job_id: str) -> Job:
        with self._open():
            record = self._find_locked(job_id)
            return self._put_locked(record, transitions.cancelled(record.job, self._moment.now))

    def retry_job(self, job_id: str) -> Job:
        with self._open():
            record = self._find_locked(job_id)
            return self._put_locked(record, transitions.retried(record.job, self._moment.now))

    def delete_job(self, job_id: str) -> None:
        with self._open():
            record = self._find_locked(job_id)
            transitions.check_deletable(record.job)
            self._delete_locked(record)

    def pause_queue(self, queue: str) -> None:
        with self._open():
            self._paused.add(queue)

    def resume_queue(self, queue: str) -> None:
        with self._open():
            if queue in self._paused:
                self._paused.discard(queue)
                self._clear_suspects_locked({queue})

    # Leases and recovery

    def renew_leases(self, job_ids: Sequence[str], lease: Lease) -> set[str]:
        with self._open():
            return self._leases.renew(job_ids, lease)

    def release_expired(self) -> Expired:
        with self._open():
            expired = [self._records[job_id] for job_id in self._leases.expired()]
            freed = [record.job for record in expired if record.job.status is JobStatus.PENDING]
            for job in freed:
                self._free_locked(job)
            running = [record for record in expired if record.job.status is JobStatus.PROCESSING]
            for record in running:
                self._end_locked(record, transitions.expired(record.job, self._moment.now))
            return Expired([record.job for record in running], {job.queue for job in freed})

    def release_suspects(self, job_ids: Sequence[str]) -> None:
        with self._open():
            for job_id in job_ids:
                record = self._records.get(job_id)
                if record and record.job.suspect and record.job.status is JobStatus.PENDING:
                    self._put_locked(record, replace(record.job, suspect=False))

    def recover(self, *, solo_limit: int) -> Recovery:
        with self._open():
            # Nothing outlives the process here, but a test may call this to simulate a crash.
            self._clear_suspects_locked(self._paused)
            running = [record for record in self._records.values() if record.job.status is JobStatus.PROCESSING]
            crashed = [self._crash_locked(record, solo_limit, len(running) > 1) for record in running]
            pending = [record.job for record in self._records.values() if record.job.status is JobStatus.PENDING]
            for job in pending:
                self._free_locked(job)
            return Recovery(crashed, [job.id for job in pending if job.suspect])

    # Counting and housekeeping

    def count_jobs(self) -> Mapping[JobStatus, int]:
        with self._open():
            return dict(self._index.counts)

    def count_queues(self) -> list[QueueCount]:
        with self._open():
            return [self._count_queue_locked(name) for name in sorted(self._index.busy_queues() | self._paused)]

    def is_paused(self, queue: str) -> bool:
        with self._open():
            return queue in self._paused

    def delete_finished(self, status: JobStatus, before: datetime, limit: int) -> int:
        with self._open():
            deleted = 0
            while deleted < limit and (job_id := self._index.finished_first(status, before)):
                self._delete_locked(self._records[job_id])
                deleted += 1
            return deleted

    def follow_clock(self, limit: int) -> Followed:  # noqa: ARG002 - whoever noticed it has moved all
        with self._open():
            moved, self._moved = self._moved, 0
            return Followed(moved, is_complete=True)

    def flush(self) -> None:
        with self._open():
            pass

    def maintain(self) -> float:
        with self._open():
            return _NO_MAINTENANCE

    def close(self) -> None:
        with self._lock:
            self._closed = True

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Hold the lock of a store that is open."""
        with self._lock:
            if self._closed:
                raise StoreClosed
            before, self._moment = self._moment, self._wall_clock.look()
            if self._moment.setting != before.setting:
                self._follow_clock_locked()
            yield

    def _follow_clock_locked(self) -> None:
        """Move every job along for which it makes a difference that the wall clock was set."""
        for record in self._records.values():
            if record.job.status is JobStatus.PENDING:
                by = timedelta(microseconds=self._moment.setting - record.setting)
                job = transitions.moved(record.job, by, self._moment.now)
                if job is not record.job:
                    self._move_locked(record, job)

    def _move_locked(self, record: _Record, job: Job) -> None:
        """Replace a pending job; whoever holds it goes on holding it."""
        self._index.remove(record.job)
        record.job, record.setting = job, self._moment.setting
        self._index.add(job)
        if job.id in self._leases:
            self._index.queue(job.queue).hold(job)
        self._moved += 1

    def _find_locked(self, job_id: str) -> _Record:
        record = self._records.get(job_id)
        if record is None:
            raise JobNotFound(job_id)
        return record

    def _running_locked(self, job_id: str, attempt: int) -> _Record | None:
        record = self._records.get(job_id)
        return record if record and transitions.is_current(record.job, attempt) else None

    def _check_keys_locked(self, new_jobs: Iterable[NewJob]) -> None:
        """Raise IdempotencyConflict before anything is stored: it is all or none."""
        first_seen: dict[str, bytes | None] = {}
        for new in new_jobs:
            if (key := new.idempotency_key) is not None:
                known = self._keys.get(key)
                fingerprint = known.fingerprint if known else first_seen.setdefault(key, new.fingerprint)
                if fingerprint != new.fingerprint:
                    raise IdempotencyConflict

    def _create_locked(self, new: NewJob, reserve: Lease | None) -> Created:
        if new.idempotency_key is not None and (known := self._keys.get(new.idempotency_key)):
            return Created(known.job, replayed=True)
        # A payload may be a view into the whole request; the copy lets go of that.
        new = replace(new, payload=new.payload.copy())
        now = self._moment.now
        job = transitions.created(new, self._id_source.next(), now)
        self._add_locked(_Record(job, self._moment.setting, new.idempotency_key, new.fingerprint))
        if reserve and job.run_at <= now and job.queue not in self._paused:
            self._index.queue(job.queue).hold(job)
            self._leases.grant(job.id, reserve)
        return Created(job, replayed=False)

    def _add_locked(self, record: _Record) -> None:
        self._records[record.job.id] = record
        self._ids.append(record.job.id)
        self._index.add(record.job)
        if record.idempotency_key is not None:
            self._keys[record.idempotency_key] = record

    def _put_locked(self, record: _Record, job: Job) -> Job:
        """Replace the job; only a running one keeps its lease through a change."""
        self._index.remove(record.job)
        if record.job.status is not JobStatus.PENDING:  # Else its ``run_at`` stays as it was reckoned.
            record.setting = self._moment.setting
        record.job = job
        self._index.add(job)
        if job.status is not JobStatus.PROCESSING:
            self._leases.drop(job.id)
        return job

    def _delete_locked(self, record: _Record) -> None:
        self._index.remove(record.job)
        self._ids.remove(record.job.id)
        del self._records[record.job.id]
        if record.idempotency_key is not None:
            del self._keys[record.idempotency_key]

    def _claim_locked(self, job_id: str, lease: Lease, *, alone: bool = False) -> Job | None:
        record = self._records.get(job_id)
        now = self._moment.now
        if record is None or not self._may_claim_locked(record.job, lease.owner, now, alone=alone):
            # What cannot be claimed is not held back either.
            self._release_locked(job_id, lease.owner)
            return None
        self._leases.grant(job_id, lease)
        return self._put_locked(record, transitions.claimed(record.job, now, alone=alone))

    def _may_claim_locked(self, job: Job, owner: str, now: datetime, *, alone: bool) -> bool:
        return (
            job.status is JobStatus.PENDING
            and (alone or job.run_at <= now)
            and job.queue not in self._paused
            and self._leases.is_free(job.id, owner)
        )

    def _log_locked(self, record: _Record, lines: Sequence[NewLogLine], skipped: int) -> None:
        """Number the lines after the last one of the job, and let go of those that are too many."""
        if not lines:
            return
        log = record.log
        first = (log[-1].number if log else 0) + skipped + 1
        log += [
            LogLine(number, line.time, line.attempt, line.level, line.message)
            for number, line in enumerate(lines, first)
        ]
        del log[: bisect_right(log, log[-1].number - self._log_lines, key=_number)]

    def _end_locked(self, record: _Record, change: Change) -> None:
        self._put_locked(record, change.job)
        if change.attempt:
            record.attempts.append(change.attempt)

    def _crash_locked(self, record: _Record, solo_limit: int, beside_others: bool) -> Job:
        """End the running attempt; the job of a paused queue is never a suspect."""
        suspect = record.job.queue not in self._paused
        change = transitions.crashed(
            record.job, self._moment.now, solo_limit=solo_limit, suspect=suspect, beside_others=beside_others
        )
        self._end_locked(record, change)
        return record.job

    def _clear_suspects_locked(self, queues: Collection[str]) -> None:
        for record in self._records.values():
            if record.job.suspect and record.job.queue in queues:
                self._put_locked(record, replace(record.job, suspect=False))

    def _release_locked(self, job_id: str, owner: str) -> None:
        """End the reservation of a pending job if it is the owner's."""
        record = self._records.get(job_id)
        if record and record.job.status is JobStatus.PENDING and self._leases.is_free(job_id, owner):
            self._free_locked(record.job)

    def _free_locked(self, job: Job) -> None:
        """End the reservation of a pending job, if there is one."""
        self._leases.drop(job.id)
        self._index.queue(job.queue).free(job)

    def _count_queue_locked(self, name: str) -> QueueCount:
        queue = self._index.queue(name)
        return QueueCount(
            name=name,
            paused=name in self._paused,
            pending=queue.pending,
            processing=queue.processing,
            oldest_wait=self._oldest_wait_locked(queue.first_in_line()),
        )

    def _oldest_wait_locked(self, job_id: str | None) -> float | None:
        if job_id is None:
            return None
        record = self._records[job_id]
        set_by = 0 if record.job.run_at_given else self._moment.setting - record.setting
        wait = self._moment.now - record.job.run_at - timedelta(microseconds=set_by)
        return wait.total_seconds() if wait >= timedelta() else None


def _page(jobs: Iterable[Job], limit: int) -> Page:
    shown: list[Job] = []
    room = PAGE_SIZE
    for job in jobs:
        if len(shown) == limit or (shown and room <= 0):
            return Page(shown, shown[-1].id)
        shown.append(job)
        room -= _size(job.payload) + _size(job.result)
    return Page(shown, None)


def _size(json: Raw | None) -> int:
    return memoryview(json).nbytes if json is not None else 0
