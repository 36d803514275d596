"""The workers of one queue."""

import logging
import threading
from functools import partial

from worker.abandoned import AbandonedThreads
from worker.executor import Executor
from worker.job_queue import JobQueue
from worker.running import RunningJobs
from worker.worker import Worker

log = logging.getLogger(__name__)


class WorkerPool:
    """Keeps as many workers as the queue is to have. Safe to use from any thread."""

    def __init__(
        self,
        queue: JobQueue,
        size: int,
        *,
        executor: Executor,
        running: RunningJobs,
        abandoned: AbandonedThreads,
        stop: threading.Event,
    ) -> None:
        #: The queue's name.
        self.queue = queue.name
        #: How many workers it is to have.
        self.size = size
        self._new_worker = partial(
            Worker, queue=queue, executor=executor, running=running, stop=stop, on_abandon=self._replace
        )
        self._abandoned = abandoned
        self._lock = threading.Lock()
        # guards: everything below
        self._members: list[Worker] = []
        self._started = 0
        self._closed = False
        # How many attempts had been begun by workers that are members no longer.
        self._begun_before = 0

    def start_missing(self) -> None:
        """Start the workers that are missing, unless too many abandoned threads still run.

        Raises RuntimeError when the system has no thread to give.
        """
        with self._lock:
            if self._closed:
                return
            for worker in [worker for worker in self._members if not worker.is_alive]:
                self._remove_locked(worker)
            while len(self._members) < self.size and self._abandoned.may_replace:
                worker = self._new_worker(f"gofer-worker-{self.queue}-{self._started + 1}")
                worker.start()
                self._started += 1
                self._members.append(worker)

    def close(self) -> None:
        """Start no worker from now on, not even in place of one that was abandoned."""
        with self._lock:
            self._closed = True

    @property
    def members(self) -> list[Worker]:
        """The workers, without those that were abandoned."""
        with self._lock:
            return list(self._members)

    @property
    def begun(self) -> int:
        """How many attempts its workers have begun."""
        with self._lock:
            return self._begun_before + sum(worker.begun for worker in self._members)

    def _replace(self, worker: Worker) -> None:
        with self._lock:
            if worker in self._members:
                self._remove_locked(worker)
        try:
            self.start_missing()
        except RuntimeError:
            log.exception("queue %s: an abandoned worker is not replaced yet", self.queue)

    def _remove_locked(self, worker: Worker) -> None:
        self._members.remove(worker)
        self._begun_before += worker.begun
