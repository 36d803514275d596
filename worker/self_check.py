"""The engine watches itself: are the pools complete, and do due jobs get run?"""

import logging
from collections.abc import Mapping

from store.clock import Clock
from store.protocol import JobStore, QueueCount
from worker.abandoned import AbandonedThreads
from worker.dispatcher import Dispatcher
from worker.loop import Loop
from worker.worker_pool import WorkerPool

log = logging.getLogger(__name__)

#: Seconds between two looks; and while a queue seems stalled.
_INTERVAL, _CLOSE_LOOK = 5.0, 1.0
#: Seconds without a claim after which it is a stall.
LIMIT = 10.0


class SelfCheck:
    """Notices when jobs are due, a worker is free, and yet nothing happens.

    It finds nothing unless there is an error in the engine or in the store, or so many handlers
    hang that their workers are not replaced any more.
    """

    def __init__(
        self,
        store: JobStore,
        clock: Clock,
        pools: Mapping[str, WorkerPool],
        dispatcher: Dispatcher,
        abandoned: AbandonedThreads,
    ) -> None:
        self._store = store
        self._clock = clock
        self._pools = pools
        self._dispatcher = dispatcher
        self._abandoned = abandoned
        # Used by the loop only. Per queue that seems stalled: attempts begun so far, and since when.
        # One look is not enough: it may meet a worker that is about to take a job.
        self._stalls: dict[str, tuple[int, float]] = {}
        # Queues of the store without workers here that were told of in the log.
        self._unserved: set[str] = set()
        #: Which queues are held up, and how; None if none is.
        self.reason: str | None = None
        self.loop = Loop("gofer-self-check", self._turn)

    def _turn(self) -> float:
        for pool in self._pools.values():
            # Nearly always there is nothing to do; but a thread may have been refused once.
            pool.start_missing()
        counts = {count.name: count for count in self._store.count_queues()}
        self._warn_of_unserved(counts)
        reasons = [self._too_few_workers()]
        reasons += [self._check(pool, counts.get(name)) for name, pool in self._pools.items()]
        reason = "; ".join(reason for reason in reasons if reason) or None
        if reason and not self.reason:
            log.error("stalled: %s", reason)
        elif self.reason and not reason:
            log.info("no longer stalled")
        self.reason = reason
        return _CLOSE_LOOK if self._stalls else _INTERVAL

    def _warn_of_unserved(self, counts: Mapping[str, QueueCount]) -> None:
        """Say once of each queue that jobs wait in it which nobody here will run."""
        for name in counts.keys() - self._pools.keys() - self._unserved:
            if counts[name].pending:
                self._unserved.add(name)
                log.warning("%d jobs wait in the queue %s, which has no workers", counts[name].pending, name)

    def _too_few_workers(self) -> str | None:
        """Which queues lack workers because too many handlers hang."""
        if self._abandoned.may_replace:
            return None
        missing = ", ".join(
            f"{pool.queue} has {len(pool.members)} of {pool.size} workers"
            for pool in self._pools.values()
            if len(pool.members) < pool.size
        )
        if not missing:
            return None
        return f"{self._abandoned.alive} abandoned handlers still run, so no more are replaced: {missing}"

    def _check(self, pool: WorkerPool, count: QueueCount | None) -> str | None:
        """How one queue is stalled; None unless it has been for long enough."""
        free = sum(worker.current_run is None for worker in pool.members)
        waits = count.oldest_wait if count and not count.paused and self._dispatcher.is_open else None
        if count is None or waits is None or waits < _INTERVAL or not free:
            self._stalls.pop(pool.queue, None)
            return None
        # Nobody may have told the dispatcher.
        self._dispatcher.request_feed([pool.queue])
        seconds = self._stalled_for(pool)
        if seconds < LIMIT:
            return None
        return (
            f"queue {pool.queue}: {count.pending} pending, the oldest due for {waits:.0f} s,"
            f" {free} of {pool.size} workers free, nothing claimed for {seconds:.0f} s"
        )

    def _stalled_for(self, pool: WorkerPool) -> float:
        """Seconds since the first look in a row that found due jobs, a free worker and no new attempt."""
        now, begun = self._clock.monotonic(), pool.begun
        before, since = self._stalls.get(pool.queue, (begun, now))
        if before != begun:
            since = now
        self._stalls[pool.queue] = (begun, since)
        return now - since
