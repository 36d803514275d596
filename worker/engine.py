"""The engine: everything that runs jobs, put together, started, stopped, and spoken to in one place."""

import logging
import random
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence

import msgspec

from store.clock import Clock
from store.errors import OutcomeUnknown
from store.job import Job, JobStatus, NewJob
from store.leases import Lease
from store.protocol import Created, JobStore, QueueCount
from store.transitions import Interrupted
from worker.backlog import Backlog
from worker.crew import Crew
from worker.dispatcher import Dispatcher
from worker.errors import UnknownQueue
from worker.executor import Executor
from worker.final_watch import FinalWatch
from worker.finisher import Finisher
from worker.intake import Intake
from worker.job_queue import JobQueue
from worker.loop import Loop
from worker.outcome import EndReason
from worker.quarantine import Quarantine
from worker.reaper import Reaper
from worker.recorder import Recorder
from worker.registry import Registry
from worker.retention import Retention
from worker.running import RunningJobs
from worker.self_check import SelfCheck
from worker.syncer import Syncer
from worker.troubles import Troubles
from worker.watchdog import Watchdog

log = logging.getLogger(__name__)

#: Seconds that a lease lasts; the reaper renews it several times in that time.
_LEASE = 30.0
#: Seconds that handlers have to end once a shutdown told them to.
_LAST_WORDS = 1.0
#: Seconds between two looks at whether a waiting client is still there.
_LOOK = 1.0


def _nothing(_: OutcomeUnknown) -> None:
    """Nobody wants to hear of it."""


class QueueState(msgspec.Struct, frozen=True):
    """One queue, as it is now."""

    name: str
    paused: bool
    pending: int
    processing: int
    #: Worker threads; 0 for a queue that only the store knows.
    workers: int
    #: Seconds that the longest-due pending job has waited; None if none is due.
    oldest_wait: float | None


class Engine:
    """Runs jobs; the facade that the HTTP layer talks to. Every method may be called from any thread.

    Beside the errors that are named, each method lets the store's through.
    """

    def __init__(
        self,
        store: JobStore,
        registry: Registry,
        clock: Clock,
        rng: random.Random,
        queues: Mapping[str, int],
        *,
        shutdown_timeout: float = 10.0,
        grace: float = 5.0,
        max_backlog: int = 1_000_000,
        retention: Mapping[JobStatus, float] | None = None,
        max_result_bytes: int = 1_048_576,
        quarantine_limit: float = 10.0,
        solo_limit: int = 2,
        on_fatal: Callable[[OutcomeUnknown], None] = _nothing,
    ) -> None:
        """Nothing runs before ``start``.

        ``queues``: the number of workers of each queue, by its name.
        ``shutdown_timeout``: seconds that running jobs have to end by themselves in a shutdown.
        ``grace``: seconds past its timeout after which a handler's thread is abandoned.
        ``max_backlog``: how many jobs may be pending before submissions are refused.
        ``retention``: seconds after which final jobs are deleted, by status; 0 or none keeps them.
        ``max_result_bytes``: the largest result, as JSON.
        ``quarantine_limit``: seconds after which a suspect that still runs is none any more.
        ``solo_limit``: how often a job may take the service down while it runs alone.
        ``on_fatal`` is told why, when the process must end: the disk could not say whether a write holds.
        """
        self.store = store
        self.registry = registry
        self._clock = clock
        self._shutdown_timeout = shutdown_timeout
        self._solo_limit = solo_limit
        self._lease = Lease(secrets.token_hex(8), _LEASE)
        self._ready = False
        # Held throughout start and stop, store calls included, so that neither meets the other
        # half done; nothing else waits for it.
        self._lifecycle = threading.Lock()
        # guards: _started, _stopped
        self._started = False
        self._stopped = False
        # The two ends: begin nothing new; and do not even wait any longer for the store.
        self._stop = threading.Event()
        self._give_up = threading.Event()

        self._troubles = Troubles(on_fatal)
        self._finals = FinalWatch()
        self._running = RunningJobs()
        self._queues = {name: JobQueue(name, self._stop, clock.monotonic) for name in queues}
        self._dispatcher = Dispatcher(store, clock, self._queues, self._lease)
        self._intake = Intake(
            store=store,
            lease=self._lease,
            clock=clock,
            queues=self._queues,
            dispatcher=self._dispatcher,
            backlog=Backlog(store, max_backlog),
        )
        self._recorder = Recorder(store, self._running)
        syncer = Syncer(store, self._troubles)
        reaper = Reaper(
            store=store,
            lease=self._lease,
            queues=self._queues,
            running=self._running,
            dispatcher=self._dispatcher,
            finals=self._finals,
        )
        self._finisher = Finisher(
            store=store,
            lease=self._lease,
            running=self._running,
            recorder=self._recorder,
            dispatcher=self._dispatcher,
            finals=self._finals,
            syncer=syncer,
        )
        self._watchdog = Watchdog(self._running, self._finisher, clock, rng, grace=grace)
        executor = Executor(
            store=store,
            lease=self._lease,
            registry=registry,
            clock=clock,
            rng=rng,
            running=self._running,
            recorder=self._recorder,
            dispatcher=self._dispatcher,
            finisher=self._finisher,
            watchdog=self._watchdog,
            troubles=self._troubles,
            stop=self._stop,
            give_up=self._give_up,
            max_result_bytes=max_result_bytes,
        )
        self._crews = {
            name: Crew(self._queues[name], size, executor, self._running, self._stop) for name, size in queues.items()
        }
        self._self_check = SelfCheck(store, clock, self._crews, self._dispatcher)
        self._quarantine = Quarantine(
            store=store,
            clock=clock,
            running=self._running,
            executor=executor,
            queues=queues,
            open_queues=self._dispatcher.open,
            limit=quarantine_limit,
        )
        # What serves the workers, and so outlives them.
        self._services = [
            self._self_check.loop,
            Retention(store, clock, retention or {}).loop,
            self._dispatcher.loop,
            reaper.loop,
            self._watchdog.loop,
            self._recorder.loop,
            syncer.loop,
            Loop("gofer-maintainer", store.maintain),
        ]

    # Starting and stopping

    def start(self) -> None:
        """Take up what the last process left, and begin to run jobs. A stop before the start wins."""
        with self._lifecycle:
            if self._started or self._stopped:
                return
            self._started = True
            recovery = self.store.recover(solo_limit=self._solo_limit)
            if recovery.crashed:
                log.warning("%d jobs were running when the service died", len(recovery.crashed))
            for crew in self._crews.values():
                crew.fill()
            for loop in self._services:
                loop.start()
            # Before any queue is fed: a suspect must have nothing beside it.
            self._quarantine.begin(recovery.suspects)
            self._ready = True

    def begin_stop(self) -> None:
        """Refuse submissions from now on, and let everybody who waits for a job go."""
        self._intake.close()
        self._finals.close()

    def stop(self) -> None:
        """End everything, within the shutdown timeout and a little more. The order is the point.

        Safe to call twice, and before the start; returns when it is done.
        """
        with self._lifecycle:
            if self._stopped:
                return
            self._stopped = True
            # First nothing new comes in; it would only be in the way of what follows.
            self.begin_stop()
            # Then workers are told, and woken, since an idle one waits without a time limit.
            log.info("stopping: waiting up to %g s for %d running jobs", self._shutdown_timeout, self._busy())
            self._quarantine.loop.stop()
            for crew in self._crews.values():
                crew.dismiss()
            self._stop.set()
            for queue in self._queues.values():
                queue.wake()
            # Jobs may end by themselves as long as there is time: nothing is better than done.
            if not self._join_workers(self._shutdown_timeout):
                log.warning("stopping: telling %d running jobs to end", self._busy())
                self._running.tell_all(EndReason.SHUTDOWN)
                # Who waits for a broken store has waited long enough, too.
                self._give_up.set()
                if not self._join_workers(_LAST_WORDS):
                    # Only now is a handler a hung one; its job must not wait for its thread.
                    self._interrupt_hung()
                    self._join_workers(_LAST_WORDS)
            log.info("workers joined")
            # After the workers, who take from them: an id in a closed queue would be lost until its lease ends.
            for queue in self._queues.values():
                self._dispatcher.give_back(queue.name, queue.close())
            log.info("queues closed")
            # These served the workers to the end: leases, deadlines, notes.
            for loop in (self._quarantine.loop, *self._services):
                loop.stop()
            for loop in (self._quarantine.loop, *self._services):
                if not loop.join(_LAST_WORDS):
                    log.error("stopping: %s does not end", loop.name)
            # Last, when no other thread writes: what is not synced or given back yet.
            self._settle()
            log.info("engine stopped")

    def _join_workers(self, seconds: float) -> bool:
        """Wait for all workers together; whether all have ended."""
        deadline = self._clock.monotonic() + seconds
        # The quarantine's loop first: it may be about to start a suspect's thread.
        joins = [self._quarantine.loop.join, *(worker.join for crew in self._crews.values() for worker in crew.members)]
        ended = [join(max(0.0, deadline - self._clock.monotonic())) for join in joins]
        for thread in self._quarantine.threads:
            thread.join(max(0.0, deadline - self._clock.monotonic()))
        return all(ended) and not self._quarantine.threads

    def _interrupt_hung(self) -> None:
        """Put the jobs back whose handlers do not end. Their threads are daemons, and fenced off."""
        for run in self._running.runs():
            if self._watchdog.abandon(run):
                log.error("stopping: job %s (%s) does not end; its thread is abandoned", run.job.id, run.job.type)
                try:
                    self._finisher.finish(run, Interrupted())
                except Exception:
                    log.exception("stopping: job %s could not be put back", run.job.id)

    def _settle(self) -> None:
        try:
            self._dispatcher.release_owed()
            if self._started:
                self.store.flush()
        except Exception:
            log.exception("stopping: the store did not take the last of it")

    # Submitting and steering

    def submit(self, new: NewJob) -> Created:
        """Store a job and have it run. Raises ShuttingDown, UnknownQueue, BacklogFull, IdempotencyConflict."""
        return self._intake.submit(new)

    def submit_many(self, new_jobs: Sequence[NewJob]) -> list[Created]:
        """Store jobs, all or none, and have them run. Raises like ``submit``."""
        return self._intake.submit_many(new_jobs)

    def cancel(self, job_id: str) -> Job:
        """Cancel a pending job, or tell a running one to end. Raises JobNotFound, IllegalTransition."""
        job = self.store.cancel_job(job_id)
        if job.status is JobStatus.PROCESSING:
            self._running.cancel(job_id)
        else:
            if queue := self._queues.get(job.queue):
                queue.discard([job_id])
            self._finals.announce(job_id)
        return job

    def retry(self, job_id: str) -> Job:
        """Let a failed or cancelled job run again. Raises JobNotFound, IllegalTransition."""
        job = self.store.retry_job(job_id)
        self._dispatcher.ask([job.queue])
        return job

    def delete(self, job_id: str) -> None:
        """Delete a final job. Raises JobNotFound, IllegalTransition."""
        self.store.delete_job(job_id)

    def pause(self, queue: str) -> None:
        """Begin no further job of this queue; it survives a restart. Raises UnknownQueue."""
        self._check_known(queue)
        self.store.pause_queue(queue)
        if buffer := self._queues.get(queue):
            # Reserved ids would be missed by the dispatcher when the pause ends.
            self._dispatcher.give_back(queue, buffer.drain())

    def resume(self, queue: str) -> None:
        """End a pause. Raises UnknownQueue."""
        self._check_known(queue)
        self.store.resume_queue(queue)
        if buffer := self._queues.get(queue):
            buffer.hold()
            self._dispatcher.ask([queue])

    def _check_known(self, name: str) -> None:
        if name not in self._queues and name not in (count.name for count in self.store.count_queues()):
            raise UnknownQueue(name, self._queues)

    # Looking

    def wait_final(self, job_id: str, seconds: float, gone: Callable[[], bool]) -> Job:
        """The job once it is final, or as it is after ``seconds``. Raises JobNotFound.

        Ends early when the service stops, or when ``gone``, asked once a second, says that nobody
        waits any longer.
        """
        deadline = self._clock.monotonic() + seconds
        with self._finals.watch(job_id) as final:
            while True:
                final.clear()
                job = self.store.get_job(job_id)
                left = deadline - self._clock.monotonic()
                if job.status.is_final or left <= 0 or self._finals.closed or gone():
                    return job
                final.wait(min(left, _LOOK))

    def queues(self) -> list[QueueState]:
        """The configured queues, and others that the store has jobs of, by name."""
        counts = {count.name: count for count in self.store.count_queues()}
        names = sorted(counts.keys() | self._queues.keys())
        return [self._state(counts.get(name) or QueueCount(name, False, 0, 0, None)) for name in names]

    def queue_names(self) -> list[str]:
        """The configured queues, by name."""
        return sorted(self._queues)

    def stats(self) -> dict[str, int]:
        """Jobs by status, then what the engine is doing.

        ``workers`` that there are, ``busy`` ones among them, ``buffered`` jobs, how many threads
        were ``abandoned`` since the start, and ``suspects``: jobs that ran when the service died
        and are run alone before the queues open.
        """
        counts = self.store.count_jobs()
        return {
            **{status.value: counts[status] for status in JobStatus},
            "workers": sum(self._workers(name) for name in self._queues),
            "busy": self._busy(),
            "buffered": sum(queue.size for queue in self._queues.values()),
            "abandoned": self._watchdog.abandoned,
            "suspects": self._quarantine.left,
        }

    def not_ready_reason(self) -> str | None:
        """Why the service cannot do its work now; None if it can."""
        if self._intake.closed:
            return "the service is shutting down"
        if not self._ready:
            return "the service is starting"
        failures = (loop.failure for loop in self._services if loop.failure)
        return self._troubles.first() or next(failures, None) or self._self_check.reason

    def _state(self, count: QueueCount) -> QueueState:
        workers = self._workers(count.name)
        return QueueState(count.name, count.paused, count.pending, count.processing, workers, count.oldest_wait)

    def _workers(self, name: str) -> int:
        return len(self._crews[name].members) if name in self._crews else 0

    def _busy(self) -> int:
        return sum(not run.abandoned for run in self._running.runs())
