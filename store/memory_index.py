"""The orders and counts that spare the memory store from looking at every job.

Nothing here is thread-safe: the store's lock guards it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime

from store.job import Job, JobStatus
from store.lazy_heap import LazyHeap
from store.protocol import DueJob

_BEGINNING_OF_TIME = datetime.min.replace(tzinfo=UTC)


class QueueIndex:
    """The pending and processing jobs of one queue.

    A pending job is *free* unless it is reserved or a suspect. Free jobs wait in ``_future`` by
    ``run_at`` until a reservation finds them due, then in ``_ready``, where priority counts.
    """

    def __init__(self) -> None:
        self.processing = 0
        self._pending: LazyHeap[tuple[datetime, str]] = LazyHeap()
        self._future: LazyHeap[tuple[datetime, int, str]] = LazyHeap()
        self._ready: LazyHeap[tuple[int, datetime, str]] = LazyHeap()
        # Every job in _ready is due at this instant.
        self._ready_at = _BEGINNING_OF_TIME

    @property
    def pending(self) -> int:
        """How many jobs are pending, free or not."""
        return len(self._pending)

    def add(self, job: Job) -> None:
        """Count a pending or processing job in; a pending one begins free."""
        if job.status is JobStatus.PROCESSING:
            self.processing += 1
        else:
            self._pending.add((job.run_at, job.id))
            self.free(job)

    def remove(self, job: Job) -> None:
        """Undo ``add``."""
        if job.status is JobStatus.PROCESSING:
            self.processing -= 1
        else:
            self._pending.discard((job.run_at, job.id))
            self.hold(job)

    def free(self, job: Job) -> None:
        """Let a pending job be taken, unless it is a suspect."""
        if job.suspect:
            return
        if job.run_at <= max(job.created_at, self._ready_at):  # Most jobs: due since they were created.
            self._ready.add((-job.priority, job.run_at, job.id))
            self._ready_at = max(self._ready_at, job.run_at)
        else:
            self._future.add((job.run_at, -job.priority, job.id))

    def hold(self, job: Job) -> None:
        """Keep a pending job from being taken."""
        self._future.discard((job.run_at, -job.priority, job.id))
        self._ready.discard((-job.priority, job.run_at, job.id))

    def take(self, limit: int, now: datetime) -> list[DueJob]:
        """Hold up to ``limit`` free jobs that are due and return them, in the order in which they should run."""
        self._sort(now)
        taken: list[DueJob] = []
        while len(taken) < limit and (key := self._ready.pop()):
            taken.append(DueJob(key[2], -key[0]))
        return taken

    def next_run_at(self, now: datetime) -> datetime | None:
        """The earliest ``run_at`` of a free job that is not due yet."""
        self._sort(now)
        first = self._future.first()
        return first[0] if first else None

    def first_in_line(self) -> str | None:
        """The pending job, free or not, with the earliest ``run_at``."""
        first = self._pending.first()
        return first[1] if first else None

    def _sort(self, now: datetime) -> None:
        if now < self._ready_at:  # The wall clock was set back: what was due may be due no longer.
            for priority, run_at, job_id in self._ready.clear():
                self._future.add((run_at, priority, job_id))
        self._ready_at = now
        while (first := self._future.first()) and first[0] <= now:
            self._future.pop()
            self._ready.add((first[1], first[0], first[2]))


class JobIndex:
    """All jobs: counted by status, filed by queue or by when they finished."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(JobStatus, 0)
        # Never shrinks: the names of queues are the operator's, and few.
        self._queues: dict[str, QueueIndex] = {}
        self._finished: dict[JobStatus, LazyHeap[tuple[datetime, str]]] = {status: LazyHeap() for status in JobStatus}

    def add(self, job: Job) -> None:
        """File a job under its status."""
        self.counts[job.status] += 1
        if job.finished_at is not None:
            self._finished[job.status].add((job.finished_at, job.id))
        else:
            self._queues.setdefault(job.queue, QueueIndex()).add(job)

    def remove(self, job: Job) -> None:
        """Undo ``add``."""
        self.counts[job.status] -= 1
        if job.finished_at is not None:
            self._finished[job.status].discard((job.finished_at, job.id))
        else:
            self._queues[job.queue].remove(job)

    def queue(self, name: str) -> QueueIndex:
        """The index of one queue; an empty one that nothing refers to, if no job was ever in it."""
        return self._queues.get(name) or QueueIndex()

    def busy_queues(self) -> set[str]:
        """The names of the queues that have pending or processing jobs."""
        return {name for name, queue in self._queues.items() if queue.pending or queue.processing}

    def finished_first(self, status: JobStatus, before: datetime) -> str | None:
        """The id of the job of this final status that finished first, if that was before ``before``."""
        first = self._finished[status].first()
        return first[1] if first and first[0] < before else None


class IdList:
    """Ids in the order of their creation, which is their own order."""

    def __init__(self) -> None:
        # May also hold ids whose job is gone: removing from the middle of a long list is slow.
        self._ids: list[str] = []
        self._removed: set[str] = set()

    def append(self, job_id: str) -> None:
        """Add an id, greater than every one before it."""
        self._ids.append(job_id)

    def remove(self, job_id: str) -> None:
        """Remove an id that is there."""
        self._removed.add(job_id)
        if len(self._removed) > len(self._ids) // 2:
            self._ids = [job_id for job_id in self._ids if job_id not in self._removed]
            self._removed.clear()

    def newest_first(self, before: str | None) -> Iterator[str]:
        """Every id, or every id less than ``before``, from the greatest down."""
        end = len(self._ids) if before is None else bisect_left(self._ids, before)
        for position in range(end - 1, -1, -1):
            if self._ids[position] not in self._removed:
                yield self._ids[position]
