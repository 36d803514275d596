"""The attempts that run in this process, and who may write how each ended."""

import threading
from collections import Counter
from collections.abc import Callable

from store.clock import Clock
from store.job import Job
from store.protocol import LOG_LINES
from worker.context import JobContext
from worker.notes import Notes, Unsaved
from worker.outcome import StopReason


class Run:
    """One attempt while it runs, as the engine sees it."""

    __slots__ = (
        "abandoned",
        "context",
        "deadline",
        "job",
        "last_notes",
        "notes",
        "on_abandon",
        "reason",
        "stop_time",
        "taken",
        "thread",
    )

    def __init__(
        self,
        job: Job,
        clock: Clock,
        on_note: Callable[[], None],
        on_abandon: Callable[[], None],
        stop_time: float = 0.0,
        *,
        log_lines: int = LOG_LINES,
    ) -> None:
        """Made by the thread that will call the handler. ``log_lines``: how many unsaved ones are kept."""
        self.job = job
        #: The one that calls the handler.
        self.thread = threading.current_thread()
        self.notes = Notes(job.attempt, log_lines)
        self.context = JobContext(job, self.notes, clock, on_note)
        #: On the monotonic clock.
        self.deadline = clock.monotonic() + job.timeout
        #: Seconds that its handler may take to end once it was told to, since it has something to kill.
        self.stop_time = stop_time
        #: Called once, by whoever abandons the attempt's thread.
        self.on_abandon = on_abandon
        #: Why the handler was told to end; None if it was not.
        self.reason: StopReason | None = None
        #: Somebody has the right to write how it ended, so nobody else has.
        self.taken = False
        #: It was not its own thread that took it.
        self.abandoned = False
        #: The notes that are written with the outcome; None until they were taken for it.
        self.last_notes: Unsaved | None = None


class RunningJobs:
    """The jobs that this process has claimed or is claiming. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # guards: everything below, and reason, taken and abandoned of every run
        self._runs: dict[str, Run] = {}
        # How many claims of each job are under way. Apart from the runs, and counted: an id can be
        # in a buffer again, or twice, while its job runs, and then several workers claim it.
        self._claims: Counter[str] = Counter()
        # The attempt of each job that was told to cancel between its claim and its beginning.
        self._stop_requested_early: dict[str, int] = {}
        self._stop_all: StopReason | None = None

    def expect(self, job_id: str) -> None:
        """A claim begins. From now on the job can be told to cancel, and its lease is renewed."""
        with self._lock:
            self._claims[job_id] += 1

    def forget(self, job_id: str) -> bool:
        """The claim came to nothing; whether nobody else here is claiming the job."""
        with self._lock:
            self._end_claim_locked(job_id)
            return job_id not in self._claims

    def begin(self, run: Run) -> None:
        """The claim succeeded, and the handler is about to be called."""
        with self._lock:
            superseded = self._runs.get(run.job.id)
            self._runs[run.job.id] = run
            reason = self._stop_all
            if self._stop_requested_early.get(run.job.id) == run.job.attempt:
                reason = StopReason.CANCEL
            self._end_claim_locked(run.job.id)
        if superseded:  # Its attempt was ended; without a reservation, at which the dispatcher tells it, nobody has.
            self.request_stop(superseded, StopReason.LEASE_LOST)
        if reason:
            self.request_stop(run, reason)

    def claim_outcome(self, run: Run) -> bool:
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

    def remove(self, run: Run) -> None:
        """It is written how the run ended, or it never will be."""
        with self._lock:
            self._remove_locked(run)

    def let_go(self, run: Run) -> bool:
        """Drop a run after an unexpected error; False if its thread had been abandoned with it.

        Its lease is renewed no longer, and when it runs out, the job is taken up again.
        """
        with self._lock:
            run.taken = True
            if not run.abandoned:
                self._remove_locked(run)
            return not run.abandoned

    def request_stop(self, run: Run, reason: StopReason) -> None:
        """Tell a handler to end; the first reason counts."""
        with self._lock:
            if run.taken:
                return
            run.reason = run.reason or reason
        run.context.cancelled.set()

    def cancel(self, job_id: str, attempt: int) -> None:
        """Tell the attempt's handler, if it runs here or is about to, that the job is being cancelled."""
        with self._lock:
            run = self._runs.get(job_id)
            is_it = run is not None and run.job.attempt == attempt
            if not is_it and job_id in self._claims:
                self._stop_requested_early[job_id] = attempt
        if run and is_it:
            self.request_stop(run, StopReason.CANCEL)

    def request_stop_all(self, reason: StopReason) -> None:
        """Tell every handler to end, and each that begins after this."""
        with self._lock:
            self._stop_all = reason
            runs = list(self._runs.values())
        for run in runs:
            self.request_stop(run, reason)

    def runs(self) -> list[Run]:
        """The attempts whose handler runs or whose outcome is not written yet."""
        with self._lock:
            return list(self._runs.values())

    @property
    def busy(self) -> int:
        """How many attempts keep a thread busy that was not abandoned."""
        with self._lock:
            return sum(not run.abandoned for run in self._runs.values())

    def ids(self) -> list[str]:
        """The jobs that run or are being claimed."""
        with self._lock:
            return list({*self._runs, *self._claims})

    def _end_claim_locked(self, job_id: str) -> None:
        self._claims[job_id] -= 1
        if self._claims[job_id] <= 0:
            del self._claims[job_id]
            self._stop_requested_early.pop(job_id, None)

    def _remove_locked(self, run: Run) -> None:
        # A later attempt may be under way already, under the same id.
        if self._runs.get(run.job.id) is run:
            del self._runs[run.job.id]
