"""The attempts that run in this process, and who may write how each ended."""

import threading
from collections.abc import Callable

from store.clock import Clock
from store.job import Job, LogLine, Progress
from worker.context import JobContext
from worker.notes import Notes
from worker.outcome import EndReason


class Run:
    """One attempt while it runs, as the engine sees it."""

    __slots__ = ("abandoned", "context", "deadline", "job", "last_notes", "notes", "on_abandon", "reason", "taken")

    def __init__(self, job: Job, clock: Clock, on_note: Callable[[], None], on_abandon: Callable[[], None]) -> None:
        self.job = job
        self.notes = Notes(job.attempt)
        self.context = JobContext(job, self.notes, clock, on_note)
        #: On the monotonic clock.
        self.deadline = clock.monotonic() + job.timeout
        #: Called once, by whoever abandons the attempt's thread.
        self.on_abandon = on_abandon
        #: Why the handler was told to end; None if it was not.
        self.reason: EndReason | None = None
        #: Somebody has the right to write how it ended, so nobody else has.
        self.taken = False
        #: It was not its own thread that took it.
        self.abandoned = False
        #: The notes that are written with the outcome; None until they were taken for it.
        self.last_notes: tuple[tuple[LogLine, ...], Progress | None] | None = None


class RunningJobs:
    """The jobs that this process has claimed or is claiming. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # guards: everything below, and reason, taken and abandoned of every run
        # A claim that is under way has no run yet: None stands in its place.
        self._runs: dict[str, Run | None] = {}
        # Jobs that were told to cancel while their claim was under way.
        self._told_early: set[str] = set()
        self._tell_all: EndReason | None = None

    def expect(self, job_id: str) -> None:
        """A claim begins. From now on the job can be told to cancel, and its lease is renewed."""
        with self._lock:
            self._runs[job_id] = None

    def forget(self, job_id: str) -> None:
        """The claim came to nothing."""
        with self._lock:
            if self._runs.get(job_id, False) is None:
                del self._runs[job_id]
            self._told_early.discard(job_id)

    def begin(self, run: Run) -> None:
        """The claim succeeded, and the handler is about to be called."""
        with self._lock:
            self._runs[run.job.id] = run
            reason = self._tell_all
            if self._told_early and run.job.id in self._told_early:
                self._told_early.remove(run.job.id)
                reason = EndReason.CANCEL
        if reason:
            self.tell(run, reason)

    def take(self, run: Run) -> bool:
        """Get the right to write how a run ended; False if it was abandoned. Its reason is fixed then."""
        with self._lock:
            mine = not run.taken
            run.taken = True
        return mine

    def abandon(self, run: Run) -> bool:
        """Take a run away from its thread; False if it has ended by itself."""
        with self._lock:
            if run.taken:
                return False
            run.taken = run.abandoned = True
        return True

    def end(self, run: Run) -> None:
        """It is written how the run ended, or it never will be."""
        with self._lock:
            # A retry may be under way already, under the same id.
            if self._runs.get(run.job.id) is run:
                del self._runs[run.job.id]

    def tell(self, run: Run, reason: EndReason) -> None:
        """Tell a handler to end; the first reason counts."""
        with self._lock:
            if run.taken:
                return
            run.reason = run.reason or reason
        run.context.cancelled.set()

    def cancel(self, job_id: str) -> None:
        """Tell a job's handler, if it runs here or is about to, that the job is being cancelled."""
        with self._lock:
            run = self._runs.get(job_id)
            if run is None and job_id in self._runs:
                self._told_early.add(job_id)
        if run:
            self.tell(run, EndReason.CANCEL)

    def tell_all(self, reason: EndReason) -> None:
        """Tell every handler to end, and each that begins after this."""
        with self._lock:
            self._tell_all = reason
            runs = [run for run in self._runs.values() if run]
        for run in runs:
            self.tell(run, reason)

    def runs(self) -> list[Run]:
        """The attempts whose handler runs or whose outcome is not written yet."""
        with self._lock:
            return [run for run in self._runs.values() if run]

    def ids(self) -> list[str]:
        """The jobs that run or are being claimed."""
        with self._lock:
            return list(self._runs)
