"""What the store's operations do within a transaction; the store says which of them wait for the disk."""

from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from store import transitions
from store.ids import IdSource
from store.job import Job, JobStatus, NewJob
from store.leases import Lease
from store.protocol import (
    Created,
    DueJob,
    Expired,
    Finished,
    Note,
    Recovery,
    Reservation,
)
from store.sqlite.rows import (
    Row,
    attempt_row,
    from_micros,
    insert_row,
    job_from_row,
    text,
    to_micros,
    update_row,
)
from store.sqlite.statements import (
    delete,
    find,
    free_due_jobs,
    insert_lines,
    is_pending,
    look_up,
    replay,
)
from store.sqlite.writer import Transaction

#: Rows, of all tables, that one call of ``delete_finished`` deletes, but for those of its last job.
_MOST_DELETED_ROWS = 5_000


class Operations:
    """The writing half of :class:`~store.protocol.JobStore`, method by method; their meaning stands there.

    Each method runs under the write lock, and may run again after a rollback: it changes the
    database first and memory last.
    """

    def __init__(self, ids: IdSource, paused: frozenset[str], log_lines: int) -> None:
        """``paused``: the names of the queues that are paused. ``log_lines``: how many a job's log keeps."""
        self._ids = ids
        self._log_lines = log_lines
        #: As of the last commit.
        self.paused = paused

    def create_jobs(self, transaction: Transaction, new_jobs: Sequence[NewJob], reserve: Lease | None) -> list[Created]:
        created = [self._create_job(transaction, new) for new in new_jobs]
        stored = [each.job for each in created if not each.replayed]
        for job in stored:
            if reserve and job.run_at <= transaction.now and job.queue not in self.paused:
                transaction.leases.grant(job.id, reserve)
        transaction.deltas += [(job.queue, JobStatus.PENDING, +1) for job in stored]
        transaction.needs_sync = True
        return created

    def _create_job(self, transaction: Transaction, new: NewJob) -> Created:
        if new.idempotency_key is not None:
            first = transaction.row("find_idempotency_key", (new.idempotency_key,))
            if first is not None:
                return replay(transaction, new, *first)
        job = transitions.created(new, self._ids.next(), transaction.now)
        transaction.run("insert_job", insert_row(new, job, transaction.setting))
        if job.tags:
            number = transaction.connection.last_insert_rowid()
            transaction.run_many("insert_tag", [(tag, number) for tag in job.tags])
        return Created(job, replayed=False)

    def change(self, transaction: Transaction, job_id: str, change: Callable[[Job, datetime], Job]) -> Job:
        """Cancel or retry, as ``change`` says."""
        before, number = find(transaction, job_id)
        after = change(before, transaction.now)
        self._save(transaction, before, after, number)
        if after.status is JobStatus.CANCELLED:
            transaction.leases.drop(job_id)
        return after

    def delete_job(self, transaction: Transaction, job_id: str) -> None:
        job, number = find(transaction, job_id)
        transitions.check_deletable(job)
        delete(transaction, number)
        transaction.deltas.append((job.queue, job.status, -1))
        transaction.needs_sync = True

    def pause_queue(self, transaction: Transaction, queue: str) -> None:
        transaction.run("pause_queue", (queue,))
        transaction.needs_sync = True
        transaction.on_commit(lambda: self._set_paused(self.paused | {queue}))

    def resume_queue(self, transaction: Transaction, queue: str) -> None:
        if transaction.rows("resume_queue", (queue,)):
            transaction.run("clear_suspects", (queue,))
        transaction.needs_sync = True
        transaction.on_commit(lambda: self._set_paused(self.paused - {queue}))

    def _set_paused(self, queues: frozenset[str]) -> None:
        self.paused = queues

    def reserve_jobs(self, transaction: Transaction, queue: str, limit: int, lease: Lease) -> Reservation:
        # Not by memory, which a pause in this very transaction has not reached yet.
        if transaction.value("is_paused", (queue,)):
            return Reservation([], None)
        now = to_micros(transaction.now)
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

    def release_jobs(self, transaction: Transaction, job_ids: Sequence[str], owner: str) -> None:
        pending = [job_id for job_id in job_ids if is_pending(transaction, job_id)]
        transaction.leases.drop_owned(pending, owner)

    def claim_job(self, transaction: Transaction, job_id: str, lease: Lease, alone: bool) -> Job | None:
        if not transaction.leases.is_free(job_id, lease.owner):
            return None
        now = to_micros(transaction.now)
        row = transaction.row("claim_job", (now, alone, job_id, transaction.setting))
        if row is None:
            self.release_jobs(transaction, [job_id], lease.owner)
            return None
        job = job_from_row(row)
        transaction.leases.grant(job_id, lease)
        transaction.deltas += [(job.queue, JobStatus.PENDING, -1), (job.queue, JobStatus.PROCESSING, +1)]
        return job

    def finish_job(
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
        next_job = None if claim_next is None else self.claim_job(transaction, *claim_next, alone=False)
        return Finished(status, run_at, next_job)

    def _complete_job(
        self, transaction: Transaction, note: Note, outcome: transitions.Completed
    ) -> tuple[JobStatus, datetime | None]:
        """The happy path of every job, as one conditional statement."""
        message = note.progress and note.progress.message
        now = to_micros(transaction.now)
        values = (text(outcome.result), message, now, note.job_id, note.attempt)
        row = transaction.row("complete_job", values)
        if row is None:
            found = look_up(transaction, note.job_id)
            raise transitions.stale(found and found[0], note.attempt)
        number, queue = row
        insert_lines(transaction, note, number, self._log_lines)
        transaction.leases.drop(note.job_id)
        transaction.deltas += [(queue, JobStatus.PROCESSING, -1), (queue, JobStatus.COMPLETED, +1)]
        return JobStatus.COMPLETED, None

    def _end_attempt(
        self, transaction: Transaction, note: Note, outcome: transitions.Outcome
    ) -> tuple[JobStatus, datetime | None]:
        found = look_up(transaction, note.job_id)
        if found is None or not transitions.is_current(found[0], note.attempt):
            raise transitions.stale(found and found[0], note.attempt)
        job, number = found
        if note.progress is not None:
            job = replace(job, progress=note.progress)
        change = transitions.ended(job, outcome, transaction.now)
        insert_lines(transaction, note, number, self._log_lines)
        self._save_change(transaction, job, change, number)
        return change.job.status, change.job.run_at if change.job.status is JobStatus.PENDING else None

    def release_expired(self, transaction: Transaction) -> Expired:
        crashed, freed_queues = [], set()
        for job_id in transaction.leases.expired():
            found = look_up(transaction, job_id)
            transaction.leases.drop(job_id)
            if found is None:
                continue
            job, number = found
            if job.status is JobStatus.PROCESSING:
                change = transitions.expired(job, transaction.now)
                self._save_change(transaction, job, change, number)
                crashed.append(change.job)
            else:
                freed_queues.add(job.queue)
        return Expired(crashed, freed_queues)

    def recover(self, transaction: Transaction, solo_limit: int) -> Recovery:
        for queue in self.paused:
            transaction.run("clear_suspects", (queue,))
        running = transaction.rows("processing_jobs")
        crashed = [self._crash(transaction, row, solo_limit, len(running) > 1) for row in running]
        suspects = [job_id for (job_id,) in transaction.rows("suspect_ids")]
        return Recovery(crashed, suspects)

    def _crash(self, transaction: Transaction, row: Row, solo_limit: int, beside_others: bool) -> Job:
        job, number = job_from_row(row), row[-1]
        suspect = job.queue not in self.paused
        change = transitions.crashed(
            job, transaction.now, solo_limit=solo_limit, suspect=suspect, beside_others=beside_others
        )
        self._save_change(transaction, job, change, number)
        return change.job

    def delete_finished(self, transaction: Transaction, status: JobStatus, before: datetime, limit: int) -> int:
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

    def _save_change(self, transaction: Transaction, before: Job, change: transitions.Change, number: int) -> None:
        if change.attempt is not None:
            transaction.run("insert_attempt", attempt_row(change.attempt, number))
        self._save(transaction, before, change.job, number)
        transaction.leases.drop(before.id)

    def _save(self, transaction: Transaction, before: Job, after: Job, number: int) -> None:
        transaction.run("update_job", update_row(after, number, transaction.setting))
        if before.status is not after.status:
            transaction.deltas += [(before.queue, before.status, -1), (after.queue, after.status, +1)]
        transaction.needs_sync = True
