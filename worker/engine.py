"""The engine: the one place where everything that runs jobs is spoken to."""

import random
from collections.abc import Callable, Generator, Mapping, Sequence

import msgspec

from store.clock import Clock
from store.errors import OutcomeUnknown
from store.job import Job, JobStatus, LogLine, NewJob
from store.protocol import LOG_LINES, Created, JobStore, QueueCount
from worker.assembly import assemble
from worker.errors import UnknownQueue
from worker.lifecycle import Lifecycle
from worker.registry import Registry
from worker.results import MAX_RESULT_BYTES

#: Seconds between two looks at whether a waiting client is still there.
_CLIENT_CHECK_INTERVAL = 1.0


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
        max_result_bytes: int = MAX_RESULT_BYTES,
        log_lines: int = LOG_LINES,
        max_abandoned: int = 100,
        quarantine_limit: float = 10.0,
        quarantine_total: float = 60.0,
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
        ``log_lines``: how many lines of an attempt may wait to be stored; as many as the store keeps of a job.
        ``max_abandoned``: with more abandoned threads than this still running, no more are replaced.
        ``quarantine_limit``: seconds after which a suspect that still runs is none any more.
        ``quarantine_total``: seconds after the start at which the queues open, whatever suspects are left.
        ``solo_limit``: how often a job may take the service down while it runs alone.
        ``on_fatal`` is told why, when the process must end: the disk could not say whether a write holds.
        """
        self.store = store
        self.registry = registry
        self._parts = assemble(
            store,
            registry,
            clock,
            rng,
            queues,
            grace=grace,
            max_backlog=max_backlog,
            retention=retention or {},
            max_result_bytes=max_result_bytes,
            log_lines=log_lines,
            max_abandoned=max_abandoned,
            quarantine_limit=quarantine_limit,
            quarantine_total=quarantine_total,
            on_fatal=on_fatal,
        )
        self._lifecycle = Lifecycle(self._parts, shutdown_timeout=shutdown_timeout, solo_limit=solo_limit)

    # Starting and stopping

    def start(self) -> None:
        """Take up what the last process left, and begin to run jobs. A stop before the start wins."""
        self._lifecycle.start()

    def begin_stop(self) -> None:
        """Refuse submissions from now on, and let everybody who waits for a job go."""
        self._lifecycle.begin_stop()

    def stop(self) -> None:
        """End everything, within the shutdown timeout and a little more.

        Safe to call twice, and before the start; returns when it is done.
        """
        self._lifecycle.stop()

    # Submitting and steering

    def submit(self, new: NewJob) -> Created:
        """Store a job and have it run. Raises ShuttingDown, UnknownQueue, BacklogFull, IdempotencyConflict."""
        return self._parts.intake.submit(new)

    def submit_many(self, new_jobs: Sequence[NewJob]) -> list[Created]:
        """Store jobs, all or none, and have them run. Raises like ``submit``."""
        return self._parts.intake.submit_many(new_jobs)

    def cancel(self, job_id: str) -> Job:
        """Cancel a pending job, or tell a running one to end. Raises JobNotFound, IllegalTransition."""
        job = self.store.cancel_job(job_id)
        if job.status is JobStatus.PROCESSING:
            self._parts.running.cancel(job_id, job.attempt)
        else:
            queue = self._parts.queues.get(job.queue)
            if queue and (gone := queue.discard([job_id])):
                # Somebody may have retried it meanwhile, and had it buffered again.
                self._parts.dispatcher.release_later(job.queue, gone)
            self._parts.finals.announce(job_id)
        return job

    def retry(self, job_id: str) -> Job:
        """Let a failed or cancelled job run again. Raises JobNotFound, IllegalTransition."""
        job = self.store.retry_job(job_id)
        self._parts.dispatcher.request_feed([job.queue])
        return job

    def delete(self, job_id: str) -> None:
        """Delete a final job. Raises JobNotFound, IllegalTransition."""
        self.store.delete_job(job_id)

    def pause(self, queue: str) -> None:
        """Begin no further job of this queue; it survives a restart. Raises UnknownQueue."""
        self._check_known(queue)
        self.store.pause_queue(queue)
        if buffer := self._parts.queues.get(queue):
            # Reserved ids would be missed by the dispatcher when the pause ends.
            self._parts.dispatcher.release_later(queue, buffer.drain())

    def resume(self, queue: str) -> None:
        """End a pause. Raises UnknownQueue."""
        self._check_known(queue)
        self.store.resume_queue(queue)
        if buffer := self._parts.queues.get(queue):
            buffer.mark_overflowing()
            self._parts.dispatcher.request_feed([queue])

    def _check_known(self, name: str) -> None:
        if name not in self._parts.queues and name not in (count.name for count in self.store.count_queues()):
            raise UnknownQueue(name, self._parts.queues)

    # Looking

    def wait_final(self, job_id: str, seconds: float, gone: Callable[[], bool]) -> Job:
        """The job once it is final, or as it is after ``seconds``. Raises JobNotFound.

        Ends early when the service stops, or when ``gone``, asked once a second, says that nobody
        waits any longer.
        """
        deadline = self._parts.clock.monotonic() + seconds
        with self._parts.finals.watch(job_id) as final:
            while True:
                final.clear()
                job = self.store.get_job(job_id)
                left = deadline - self._parts.clock.monotonic()
                if job.status.is_final or left <= 0 or self._parts.finals.closed or gone():
                    return job
                final.wait(min(left, _CLIENT_CHECK_INTERVAL))

    def follow(self, job_id: str, after: int, gone: Callable[[], bool]) -> Generator[list[LogLine], None, None]:
        """The job's log lines with a number greater than ``after``: those that there are, then new ones.

        They come in batches, about half a second after they were logged, and end after the last
        line of a final job, or when ``gone``, asked once a second, says that nobody wants more.
        Nothing is read ahead: what is not taken in time may be deleted meanwhile, as in any log.
        Raises JobNotFound, also when the job is deleted; ShuttingDown when the service stops first.
        """
        return self._parts.follower.follow(job_id, after, gone)

    def queues(self) -> list[QueueState]:
        """The configured queues, and others that the store has jobs of, by name."""
        counts = {count.name: count for count in self.store.count_queues()}
        names = sorted(counts.keys() | self._parts.queues.keys())
        return [self._state(counts.get(name) or QueueCount(name, False, 0, 0, None)) for name in names]

    def queue_names(self) -> list[str]:
        """The configured queues, by name."""
        return sorted(self._parts.queues)

    def stats(self) -> dict[str, int]:
        """Jobs by status, then what the engine is doing.

        ``workers`` that there are, jobs that keep a thread ``busy``, ``buffered`` jobs, how many
        threads were ``abandoned`` since the start and how many of them still run
        (``abandoned_alive``), and ``suspects``: jobs that ran when the service died and are run
        alone before the queues open. The thread of a suspect is none of the workers, though busy.
        """
        counts = self.store.count_jobs()
        return {
            **{status.value: counts[status] for status in JobStatus},
            "workers": sum(self._workers(name) for name in self._parts.queues),
            "busy": self._parts.running.busy,
            "buffered": sum(queue.size for queue in self._parts.queues.values()),
            "abandoned": self._parts.abandoned.total,
            "abandoned_alive": self._parts.abandoned.alive,
            "suspects": self._parts.quarantine.left,
        }

    def not_ready_reason(self) -> str | None:
        """Why the service cannot do its work now; None if it can."""
        if self._parts.intake.closed:
            return "the service is shutting down"
        if not self._lifecycle.is_ready:
            return "the service is starting"
        failures = (loop.failure for loop in self._parts.loops if loop.failure)
        return self._parts.store_health.first() or next(failures, None) or self._parts.self_check.reason

    def _state(self, count: QueueCount) -> QueueState:
        workers = self._workers(count.name)
        return QueueState(count.name, count.paused, count.pending, count.processing, workers, count.oldest_wait)

    def _workers(self, name: str) -> int:
        return len(self._parts.pools[name].members) if name in self._parts.pools else 0
