"""Start and shutdown of an engine, each step with the reason for its position."""

import logging
import threading
from collections.abc import Callable

from store.job import JobStatus
from store.transitions import Interrupted
from worker.assembly import Parts
from worker.outcome import StopReason

log = logging.getLogger(__name__)

#: Seconds that handlers, and then loops, have to end once a shutdown told them to.
_CANCEL_GRACE = 1.0


class Lifecycle:
    """Starts and stops the parts of one engine. Safe to use from any thread; a stop before the start wins."""

    def __init__(self, parts: Parts, *, shutdown_timeout: float, solo_limit: int) -> None:
        """``shutdown_timeout`` and ``solo_limit`` are those of ``Engine``."""
        self._parts = parts
        self._shutdown_timeout = shutdown_timeout
        self._solo_limit = solo_limit
        #: Whether the start is complete.
        self.is_ready = False
        # Held throughout start and stop, store calls included, so that neither meets the other
        # half done; nothing else waits for it.
        self._lock = threading.Lock()
        # guards: _started, _stopped
        self._started = False
        self._stopped = False

    def start(self) -> None:
        """Take up what the last process left, and begin to run jobs."""
        parts = self._parts
        with self._lock:
            if self._started or self._stopped:
                return
            self._started = True
            # Before any worker exists: whatever is processing now belongs to the dead process.
            recovery = parts.store.recover(solo_limit=self._solo_limit)
            if recovery.crashed:
                log.warning("%d jobs were running when the service died", len(recovery.crashed))
            for job in recovery.crashed:
                if job.status is JobStatus.FAILED and job.error:
                    log.error("job %s (%s) failed for good: %s", job.id, job.type, job.error.message)
            # In the background, while the rest starts.
            parts.children.start()
            # The buffers are empty and the dispatcher is closed, so that nothing runs yet.
            for pool in parts.pools.values():
                pool.start_missing()
            for loop in parts.services:
                loop.start()
            # Last, for it opens the queues; before any is fed: a suspect must have nothing beside it.
            parts.quarantine.begin(recovery.suspects)
            self.is_ready = True

    def begin_stop(self) -> None:
        """Refuse submissions from now on, and let everybody who waits for a job go."""
        self._parts.intake.close()
        self._parts.finals.close()

    def stop(self) -> None:
        """End everything, within the shutdown timeout and a little more. The order is the point.

        Safe to call twice, and before the start; returns when it is done.
        """
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self.begin_stop()
            self._begin_nothing_new()
            self._end_workers()
            self._close_queues()
            self._end_loops()
            self._parts.children.close()  # After their loop, which starts new ones; no worker needs them any more.
            self._settle()
            log.info("engine stopped")

    def _begin_nothing_new(self) -> None:
        """After submissions are refused, which would only be in the way; before the workers are joined."""
        parts = self._parts
        log.info("stopping: waiting up to %g s for %d running jobs", self._shutdown_timeout, parts.running.busy)
        # These first: a thread that one of them started now would outlive the join.
        parts.quarantine.loop.stop()
        for pool in parts.pools.values():
            pool.close()
        parts.stop.set()
        # An idle worker waits without a time limit.
        for queue in parts.queues.values():
            queue.wake()

    def _end_workers(self) -> None:
        """After they were told; before all that serves them: leases, deadlines, notes and syncs go on meanwhile."""
        # Jobs may end by themselves as long as there is time: nothing is better than done.
        if not self._join_workers(self._shutdown_timeout):
            self._tell_handlers()
            # What has something to kill needs its time to do so, or that would outlive the service.
            stop_time = max((run.stop_time for run in self._parts.running.runs()), default=0.0)
            if not self._join_workers(_CANCEL_GRACE + stop_time):
                # Only now is a handler a hung one; its job must not wait for its thread.
                self._abandon_hung()
                self._join_workers(_CANCEL_GRACE)
        log.info("workers joined")

    def _join_workers(self, seconds: float) -> bool:
        """Wait for all workers together; whether all have ended."""
        clock, quarantine = self._parts.clock, self._parts.quarantine
        deadline = clock.monotonic() + seconds
        # The quarantine's loop first: it may be about to start a suspect's thread.
        joins = [
            quarantine.loop.join,
            *(worker.join for pool in self._parts.pools.values() for worker in pool.members),
        ]
        ended = [join(max(0.0, deadline - clock.monotonic())) for join in joins]
        for thread in quarantine.threads:
            thread.join(max(0.0, deadline - clock.monotonic()))
        return all(ended) and not quarantine.threads

    def _tell_handlers(self) -> None:
        """After the shutdown timeout."""
        running = self._parts.running
        log.warning("stopping: telling %d running jobs to end", running.busy)
        running.request_stop_all(StopReason.SHUTDOWN)
        # Who waits for a broken store has waited long enough, too.
        self._parts.give_up.set()

    def _abandon_hung(self) -> None:
        """Put the jobs back whose handlers do not end. Their threads are daemons, and fenced off."""
        for run in self._parts.running.runs():
            if self._parts.watchdog.abandon(run, Interrupted()):
                log.error("stopping: job %s (%s) does not end; its thread is abandoned", run.job.id, run.job.type)
        self._try(self._parts.owed.write)

    def _close_queues(self) -> None:
        """After the workers, who take from them: an id in a closed queue would be lost until its lease ends."""
        for queue in self._parts.queues.values():
            self._parts.dispatcher.release_later(queue.name, queue.close())
        log.info("queues closed")

    def _end_loops(self) -> None:
        """After the workers, whom they served to the end; all are told before any is waited for."""
        for loop in self._parts.loops:
            loop.stop()
        for loop in self._parts.loops:
            if not loop.join(_CANCEL_GRACE):
                log.error("stopping: %s does not end", loop.name)

    def _settle(self) -> None:
        """Write, give back and sync what is left; last, when no other thread of ours writes."""
        self._try(self._parts.owed.write)
        for run in self._parts.owed.runs():
            log.error("the outcome of job %s was not stored before the end; the job will run again", run.job.id)
        self._try(self._parts.dispatcher.end)
        if self._started:
            self._try(self._parts.store.flush)

    def _try(self, step: Callable[[], None]) -> None:
        """Whatever one step meets, the next must be taken."""
        try:
            step()
        except Exception as error:
            log.exception("stopping: the store did not take the last of it")
            self._parts.store_health.note_failure(error)
