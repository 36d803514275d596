"""Submissions: each job is stored first, and then buffered or left to the dispatcher, so that none is forgotten."""

from collections.abc import Mapping, Sequence

from store.job import Job, NewJob
from store.leases import Lease
from store.protocol import Created, JobStore
from worker.backlog import Backlog
from worker.dispatcher import Dispatcher
from worker.errors import ShuttingDown, UnknownQueue
from worker.job_queue import JobQueue


class Intake:
    """Takes jobs in. Safe to use from any thread."""

    def __init__(
        self,
        *,
        store: JobStore,
        lease: Lease,
        queues: Mapping[str, JobQueue],
        dispatcher: Dispatcher,
        backlog: Backlog,
    ) -> None:
        self._store = store
        self._lease = lease
        self._queues = queues
        self._dispatcher = dispatcher
        self._backlog = backlog
        # Only ever goes from False to True; needs no lock.
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether submissions are refused."""
        return self._closed

    def close(self) -> None:
        """Refuse submissions from now on."""
        self._closed = True

    def submit(self, new: NewJob) -> Created:
        """Store a job and have it run. Raises ShuttingDown, UnknownQueue, BacklogFull and the store's errors."""
        queue = self._queue(new.queue)
        self._admit(1)
        # Reserved and offered, the job needs no dispatcher. Else the dispatcher must be free to take it.
        takes = queue.accepts and not self._store.is_paused(queue.name)
        reserve = self._lease if takes else None
        created = self._store.create_jobs([new], reserve)[0]
        if not created.replayed:
            self._place(queue, created.job, reserve)
        return created

    def submit_many(self, new_jobs: Sequence[NewJob]) -> list[Created]:
        """Store jobs, all or none, and have them run. Raises like ``submit``."""
        queues = {new.queue: self._queue(new.queue) for new in new_jobs}
        self._admit(len(new_jobs))
        created = self._store.create_jobs(new_jobs)
        # The dispatcher brings them in, in order; what is submitted after them lines up behind.
        for queue in queues.values():
            queue.mark_overflowing()
        self._dispatcher.request_feed(queues)
        return created

    def _admit(self, jobs: int) -> None:
        if self._closed:
            raise ShuttingDown
        self._backlog.admit(jobs)

    def _queue(self, name: str) -> JobQueue:
        queue = self._queues.get(name)
        if queue is None:
            raise UnknownQueue(name, self._queues)
        return queue

    def _place(self, queue: JobQueue, job: Job, reserve: Lease | None) -> None:
        if job.run_at > job.created_at:  # As the store saw it when it reserved the job or did not.
            self._dispatcher.note_due(queue.name, job.run_at)
        elif reserve is None and self._store.is_paused(queue.name):
            return  # Whoever ends the pause has the queue looked at after that, so the job is found.
        elif not queue.offer(job.id, job.priority) and reserve:
            # Refused, so the store's backlog is fed in by the dispatcher; but not what is reserved.
            self._dispatcher.release_later(queue.name, [job.id])
