"""Runs the jobs that may have killed the service, with nothing beside them."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable

from store.clock import Clock
from store.errors import JobNotFound
from store.job import Job, JobStatus
from store.protocol import JobStore
from worker.executor import Executor
from worker.loop import Loop
from worker.running import RunningJobs

log = logging.getLogger(__name__)

#: Seconds between two tries to claim a suspect that is not due yet: the wall clock was set back a bit.
_CLAIM_RETRY = 0.5


class _Solo:
    """A suspect that has the service to itself."""

    def __init__(self, job: Job, cleared_at: float) -> None:
        self.job = job
        #: On the monotonic clock: when it is no longer held to be the cause.
        self.cleared_at = cleared_at
        #: Set when its attempt has ended, or its thread was abandoned.
        self.is_over = threading.Event()
        #: Runs the attempt; None until it starts.
        self.thread: threading.Thread | None = None


class Quarantine:
    """Runs suspects one after the other, and opens the queues when all are through.

    One that still runs after ``limit`` seconds did not kill the service at once, so it is no
    longer suspected: it runs on, and the next one takes its turn. A job of an hour must not keep
    the queues closed for an hour. A suspect that runs beside such a one is not alone, so that a
    crash is not held against it.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        clock: Clock,
        running: RunningJobs,
        executor: Executor,
        queues: Iterable[str],
        open_queues: Callable[[], None],
        limit: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._running = running
        self._executor = executor
        self._queues = frozenset(queues)
        self._open_queues = open_queues
        self._limit = limit
        # Everything below is written by the loop only, once it has started.
        self._suspects: deque[str] = deque()
        self._solo: _Solo | None = None
        # Suspects whose turn began in this quarantine, over or not.
        self._solos: list[_Solo] = []
        self._is_over = False
        self.loop = Loop("gofer-quarantine", self._turn)

    def begin(self, suspects: Iterable[str]) -> None:
        """Run these, in this order, and open the queues after them; at once if there are none."""
        self._suspects.extend(suspects)
        if self._suspects:
            log.warning("running %d jobs alone first: the service died while they ran", len(self._suspects))
            self.loop.start()
        else:
            self._turn()

    @property
    def left(self) -> int:
        """How many suspects are still to be run alone, the one that runs among them."""
        return len(self._suspects) + (self._solo is not None)

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads of suspects that run, without those that were abandoned."""
        return [solo.thread for solo in list(self._solos) if solo.thread and not solo.is_over.is_set()]

    def _turn(self) -> float | None:
        if self._solo and (left := self._seconds_left(self._solo)) > 0:
            return left
        self._solo = None
        if self._suspects:
            return self._try_next()
        if not self._is_over:
            self._is_over = True
            self._open_queues()
        return None

    def _seconds_left(self, solo: _Solo) -> float:
        """How long a suspect still has the service to itself; clears it of the suspicion once that is over."""
        if solo.is_over.is_set():
            return 0.0
        left = solo.cleared_at - self._clock.monotonic()
        if left <= 0:
            log.info("job %s still runs after %g s and is no longer suspected", solo.job.id, self._limit)
            self._store.end_solitude(solo.job.id, solo.job.attempt)
        return left

    def _try_next(self) -> float:
        job_id = self._suspects[0]
        queue = self._queue_of(job_id)
        job = self._executor.claim(queue, job_id, alone=not self.threads) if queue is not None else None
        if job is None and self._is_early(job_id):
            return _CLAIM_RETRY
        self._suspects.popleft()
        if job is None:
            return 0.0
        self._run(job)
        return self._limit

    def _queue_of(self, job_id: str) -> str | None:
        """The queue of a suspect; None if it has no workers: the job waits for a start that has them."""
        try:
            queue = self._store.get_job(job_id).queue
        except JobNotFound:
            return None
        return queue if queue in self._queues else None

    def _is_early(self, job_id: str) -> bool:
        """Whether a suspect could not be claimed only because it is due in a moment."""
        try:
            job = self._store.get_job(job_id)
        except JobNotFound:
            return False
        ahead = (job.run_at - self._clock.now()).total_seconds()
        return job.status is JobStatus.PENDING and job.suspect and 0 < ahead < self._limit

    def _run(self, job: Job) -> None:
        log.warning("running job %s (%s), a suspect, before the queues open", job.id, job.type)
        solo = _Solo(job, self._clock.monotonic() + self._limit)
        name = f"gofer-worker-{job.queue}-alone"
        solo.thread = threading.Thread(target=self._execute, args=(solo,), name=name, daemon=True)
        try:
            solo.thread.start()
        except RuntimeError:
            self._running.forget(job.id)  # Renewed no longer, its lease runs out.
            raise
        self._solos.append(solo)
        self._solo = solo

    def _execute(self, solo: _Solo) -> None:
        def end() -> None:
            solo.is_over.set()
            self.loop.wake()

        try:
            self._executor.execute(self._executor.begin(solo.job, end), _no_next)
        finally:
            end()


def _no_next() -> None:
    """A suspect's thread takes no other job."""
