"""Claims jobs, calls their handlers, and has the outcomes written."""

import logging
import os
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from store.clock import Clock
from store.errors import StoreUnavailable
from store.job import Job
from store.leases import Lease
from store.protocol import JobStore
from store.transitions import Outcome
from worker.dispatcher import Dispatcher
from worker.errors import Cancelled
from worker.finisher import Finisher
from worker.isolation.children import Children
from worker.outcome import Ending, Returned, StopReason, decide, raised
from worker.owed_outcomes import OwedOutcomes
from worker.recorder import Recorder
from worker.registry import Isolation, Registry
from worker.results import encode_result
from worker.running import Run, RunningJobs
from worker.store_health import StoreHealth, store_reason
from worker.watchdog import Watchdog

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two tries while the store cannot be reached: the first, and at most.
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0


class Executor:
    """What every worker thread does with a job id. Has no state of its own, so all threads share it."""

    def __init__(
        self,
        *,
        store: JobStore,
        lease: Lease,
        registry: Registry,
        clock: Clock,
        rng: random.Random,
        running: RunningJobs,
        recorder: Recorder,
        dispatcher: Dispatcher,
        finisher: Finisher,
        owed: OwedOutcomes,
        watchdog: Watchdog,
        children: Children,
        store_health: StoreHealth,
        stop: threading.Event,
        give_up: threading.Event,
        max_result_bytes: int,
        log_lines: int,
    ) -> None:
        """``stop``: begin nothing new. ``give_up``: not even wait any longer for the store."""
        self._store = store
        self._lease = lease
        self._registry = registry
        self._clock = clock
        self._rng = rng
        self._running = running
        self._on_note = recorder.loop.wake
        self._dispatcher = dispatcher
        self._finisher = finisher
        self._owed = owed
        self._watchdog = watchdog
        self._children = children
        self._store_health = store_health
        self._stop = stop
        self._give_up = give_up
        self._max_result_bytes = max_result_bytes
        self._log_lines = log_lines
        self._pid = os.getpid()

    def claim(self, queue: str, job_id: str, *, alone: bool = False) -> Job | None:
        """Claim a job whose id is in no buffer; None if it cannot be claimed.

        While the store cannot be reached, tries until it can or the service stops.
        """
        self._running.expect(job_id)
        job = None
        try:
            if not self._stop.is_set():
                job = self._claim(job_id, alone=alone)
        finally:
            if job is None:
                self._return(queue, job_id)
        return job

    def begin(self, job: Job, on_abandon: Callable[[], None]) -> Run:
        """Make an attempt known to those who watch it."""
        try:
            stop_time = self._registry.stop_time(job.type)
            run = Run(job, self._clock, self._on_note, on_abandon, stop_time, log_lines=self._log_lines)
        except BaseException:
            self._running.forget(job.id)  # Else its lease would be renewed for ever.
            raise
        self._running.begin(run)
        self._watchdog.watch(run)
        return run

    def execute(self, run: Run, next_id: Callable[[], str | None]) -> Job | None:
        """Call the handler, end the attempt, and return the next job if one was claimed with that.

        ``next_id`` is asked for the job to claim, once the handler is done. Afterwards,
        ``run.abandoned`` tells whether the run had been taken away from this thread.
        """
        ending = self._call(run)
        if os.getpid() != self._pid:
            os._exit(0)  # A copy that the handler forked came back from it: one service is enough.
        if not self._running.claim_outcome(run):
            log.info("abandoned attempt %d of job %s has ended after all", run.job.attempt, run.job.id)
            return None
        outcome = decide(ending, run.reason, seen=run.context.cancelled.seen, job=run.job, rng=self._rng)
        if outcome is None:
            log.warning("attempt %d of job %s lost its lease: nothing is written", run.job.attempt, run.job.id)
            self._running.remove(run)
            return None
        return self._finish(run, outcome, None if self._stop.is_set() else next_id())

    def _call(self, run: Run) -> Ending:
        """Call the handler. Whatever it raises, SystemExit too, is the attempt's and not the thread's end."""
        if run.reason is StopReason.SHUTDOWN:  # It came too late, and would only be told to end.
            return raised(Cancelled())
        try:
            spec = self._registry.get(run.job.type)
            if spec.isolation is Isolation.PROCESS:
                return self._children.run(run)
            result = spec.function(run.context, spec.decode(run.job.payload))
            return Returned(encode_result(result, self._max_result_bytes))
        except BaseException as error:  # noqa: BLE001 - see above
            return raised(error)

    def _finish(self, run: Run, outcome: Outcome, next_id: str | None) -> Job | None:
        """Have the outcome written, and ``next_id`` claimed with it; the claimed job, if that worked."""
        if next_id is not None:
            self._running.expect(next_id)
        next_job: Job | None = None
        outage: StoreUnavailable | None = None
        try:
            finished = self._finisher.finish(run, outcome, next_id)
            next_job = finished.next_job if finished else None
        except StoreUnavailable as error:
            outage = error
        finally:
            if next_id is not None and next_job is None:
                self._return(run.job.queue, next_id)
        if outage:
            self._finish_later(run, outcome, outage)
        return next_job

    def _finish_later(self, run: Run, outcome: Outcome, outage: StoreUnavailable) -> None:
        """Hold on to an outcome until the store takes it: the handler's work must not be for nothing."""
        try:
            self._until_it_works(lambda: self._finisher.finish(run, outcome), outage, self._give_up)
        except StoreUnavailable:
            self._owed.add(run, outcome)  # The last try may be seconds ago.

    def _claim(self, job_id: str, *, alone: bool) -> Job | None:
        try:
            return self._store.claim_job(job_id, self._lease, alone=alone)
        except StoreUnavailable as error:
            outage = error
        try:
            claim = partial(self._store.claim_job, job_id, self._lease, alone=alone)
            return self._until_it_works(claim, outage, self._stop)
        except StoreUnavailable:
            return None

    def _return(self, queue: str, job_id: str) -> None:
        """Nothing came of claiming this job: it may be cancelled, paused, or for later."""
        # One that another worker is about to run has nothing to give back. If it runs here, the store knows whether
        # that is its current attempt, which has nothing to give back either, or one that was ended meanwhile.
        if self._running.forget(job_id):
            self._dispatcher.release_later(queue, [job_id])

    def _until_it_works(self, action: Callable[[], T], outage: StoreUnavailable, end: threading.Event) -> T:
        """Try with growing pauses. Raises the last StoreUnavailable once ``end`` is set."""
        source = threading.current_thread().name
        wait = _FIRST_WAIT
        try:
            while True:
                if self._store_health.report(source, outage):
                    log.error("%s; trying again until it does", store_reason(outage))
                if end.wait(wait):
                    raise outage
                wait = min(2 * wait, _LONGEST_WAIT)
                try:
                    return action()
                except StoreUnavailable as error:
                    outage = error
        finally:
            self._store_health.clear(source)
