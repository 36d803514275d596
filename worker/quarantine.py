"""Runs the jobs that may have killed the service, with nothing beside them."""

import logging
import threading
from collections import deque
from collections.abc import Iterable

from store.clock import Clock
from store.errors import JobNotFound
from store.job import Job
from store.protocol import JobStore
from worker.dispatcher import Dispatcher
from worker.executor import Executor
from worker.loop import Loop
from worker.running import Run, RunningJobs

log = logging.getLogger(__name__)


class _AloneRun:
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
    crash is not held against it. Those that are left ``total`` seconds after the start become
    ordinary jobs, and the queues open all the same.

    Each suspect has a thread of its own, which is none of its queue's workers: one that runs on
    when the queues have opened runs beside as many workers as ever.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        clock: Clock,
        running: RunningJobs,
        executor: Executor,
        dispatcher: Dispatcher,
        queues: Iterable[str],
        stop: threading.Event,
        limit: float,
        total: float,
    ) -> None:
        """``stop``: begin nothing new."""
        self._store = store
        self._clock = clock
        self._running = running
        self._executor = executor
        self._queues = frozenset(queues)
        self._dispatcher = dispatcher
        self._stop = stop
        self._limit = limit
        self._total = total
        # Everything below is written by the loop only, once it has started.
        self._suspects: deque[str] = deque()
        self._current: _AloneRun | None = None
        # Suspects whose turn began in this quarantine, over or not.
        self._alone_runs: list[_AloneRun] = []
        self._is_over = False
        # On the monotonic clock.
        self._opens_at = 0.0
        self.loop = Loop("gofer-quarantine", self._turn)

    def begin(self, suspects: Iterable[str]) -> None:
        """Run these, in this order, and open the queues after them; at once if there are none."""
        self._suspects.extend(suspects)
        self._opens_at = self._clock.monotonic() + self._total
        if self._suspects:
            log.warning("running %d jobs alone first: the service died while they ran", len(self._suspects))
            self.loop.start()
        else:
            self._turn()

    @property
    def left(self) -> int:
        """How many suspects are still to be run alone, the one that runs among them."""
        return len(self._suspects) + (self._current is not None)

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads of suspects that run, without those that were abandoned."""
        return [
            alone_run.thread
            for alone_run in list(self._alone_runs)
            if alone_run.thread and not alone_run.is_over.is_set()
        ]

    def _turn(self) -> float | None:
        if self._is_over:
            return None
        seconds = self._opens_at - self._clock.monotonic()
        if seconds <= 0 and self.left:
            self._cut_short()
            return None
        if self._current and (left := self._seconds_left(self._current)) > 0:
            return min(left, seconds)
        self._current = None
        if self._suspects:
            return min(self._try_next(), seconds)
        self._is_over = True
        self._dispatcher.open()
        return None

    def _cut_short(self) -> None:
        """Open the queues though suspects are left: others cannot wait for them without end."""
        try:
            if self._current and not self._current.is_over.is_set():
                self._store.end_solitude(self._current.job.id, self._current.job.attempt)
            self._current = None
            if ours := [job_id for job_id in self._suspects if self._queue_of(job_id) is not None]:
                self._store.release_suspects(ours)
            log.warning("the queues open after %g s; suspects that are left: %d", self._total, len(self._suspects))
            self._suspects.clear()
            self._is_over = True
        finally:
            # Even if the store fails; then the next turn sees to the suspects, and opens once more.
            self._dispatcher.open()

    def _seconds_left(self, alone_run: _AloneRun) -> float:
        """How long a suspect still has the service to itself; clears it of the suspicion once that is over."""
        if alone_run.is_over.is_set():
            return 0.0
        left = alone_run.cleared_at - self._clock.monotonic()
        if left <= 0:
            log.info("job %s still runs after %g s and is no longer suspected", alone_run.job.id, self._limit)
            self._store.end_solitude(alone_run.job.id, alone_run.job.attempt)
        return left

    def _try_next(self) -> float:
        job_id = self._suspects[0]
        queue = self._queue_of(job_id)
        job = self._executor.claim(queue, job_id, alone=not self.threads) if queue is not None else None
        if job is None and queue is not None and not self._stop.is_set():
            # Gone, cancelled or paused meanwhile. If it is still there, it is an ordinary job from
            # now on, or nobody would look at it again before the next start.
            self._store.release_suspects([job_id])
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

    def _run(self, job: Job) -> None:
        log.warning("running job %s (%s), a suspect, before the queues open", job.id, job.type)
        alone_run = _AloneRun(job, self._clock.monotonic() + self._limit)
        name = f"gofer-worker-{job.queue}-alone"
        alone_run.thread = threading.Thread(target=self._execute, args=(alone_run,), name=name, daemon=True)
        try:
            alone_run.thread.start()
        except RuntimeError:
            self._running.forget(job.id)  # Renewed no longer, its lease runs out.
            raise
        self._alone_runs.append(alone_run)
        self._current = alone_run

    def _execute(self, alone_run: _AloneRun) -> None:
        def end() -> None:
            alone_run.is_over.set()
            self.loop.wake()

        run: Run | None = None
        try:
            run = self._executor.begin(alone_run.job, end)
            self._executor.execute(run, _no_next)
        except BaseException:
            # No handler's doing, as in a worker.
            log.exception("%s: unexpected error", threading.current_thread().name)
            if run:
                self._running.let_go(run)
        finally:
            end()


def _no_next() -> None:
    """A suspect's thread takes no other job."""
