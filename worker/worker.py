"""A thread that runs one job after the other."""

import logging
import threading
from collections.abc import Callable

from store.job import Job
from worker.errors import QueueClosed
from worker.executor import Executor
from worker.job_queue import JobQueue
from worker.running import Run, RunningJobs

log = logging.getLogger(__name__)

#: Seconds of rest after an unexpected error.
_REST = 1.0


class Worker:
    """Takes ids from a queue and runs their jobs, until the service stops or it is abandoned."""

    def __init__(
        self,
        name: str,
        *,
        queue: JobQueue,
        executor: Executor,
        running: RunningJobs,
        stop: threading.Event,
        on_abandon: Callable[["Worker"], None],
    ) -> None:
        """``on_abandon`` is called, in another thread, when a hung handler costs this one."""
        #: The attempt under way; None while it waits for one.
        self.current_run: Run | None = None
        #: How many attempts it has begun.
        self.begun = 0
        self._queue = queue
        self._executor = executor
        self._running = running
        self._stop = stop
        self._on_abandon = lambda: on_abandon(self)
        # Daemon: a hung handler must not keep the process from ending.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        """Begin. Raises RuntimeError when the system has no thread to give."""
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the thread to end; whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _main(self) -> None:
        while self._work():
            pass

    def _work(self) -> bool:
        """Run one job and those that are claimed at its end; False: the thread ends."""
        try:
            job_id = self._queue.get()
            if job_id is None:
                return False
            job = self._executor.claim(self._queue.name, job_id)
            while job is not None:
                job, abandoned = self._execute(job)
                if abandoned:
                    return False
            return True
        except QueueClosed:
            return False
        except BaseException:
            # No handler's doing, those are caught long before; so it is ours.
            log.exception("%s: unexpected error; it goes on", self._thread.name)
            return self._let_go() and not self._stop.wait(_REST)

    def _execute(self, job: Job) -> tuple[Job | None, bool]:
        run = self.current_run = self._executor.begin(job, self._on_abandon)
        self.begun += 1
        next_job = self._executor.execute(run, self._queue.get_nowait)
        self.current_run = None
        return next_job, run.abandoned

    def _let_go(self) -> bool:
        """Drop the attempt under way; False if this thread had been abandoned with it."""
        run, self.current_run = self.current_run, None
        return run is None or self._running.let_go(run)
