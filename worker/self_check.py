"""The engine watches itself: are the crews complete, and do due jobs get run?"""

import logging
from collections.abc import Mapping

from store.clock import Clock
from store.protocol import JobStore, QueueCount
from worker.crew import Crew
from worker.dispatcher import Dispatcher
from worker.loop import Loop

log = logging.getLogger(__name__)

#: Seconds between two looks; and while a queue seems stalled.
_INTERVAL, _CLOSE_LOOK = 5.0, 1.0
#: Seconds without a claim after which it is a stall.
LIMIT = 10.0


class SelfCheck:
    """Notices when jobs are due, a worker is free, and yet nothing happens.

    It finds nothing unless there is an error in the engine or in the store.
    """

    def __init__(self, store: JobStore, clock: Clock, crews: Mapping[str, Crew], dispatcher: Dispatcher) -> None:
        self._store = store
        self._clock = clock
        self._crews = crews
        self._dispatcher = dispatcher
        # Used by the loop only. Per queue that seems stalled: attempts begun so far, and since when.
        # One look is not enough: it may meet a worker that is about to take a job.
        self._stalls: dict[str, tuple[int, float]] = {}
        #: Which queues are stalled, and how; None if none is.
        self.reason: str | None = None
        self.loop = Loop("gofer-self-check", self._turn)

    def _turn(self) -> float:
        for crew in self._crews.values():
            crew.fill()  # Nearly always there is nothing to do; but a thread may have been refused once.
        counts = {count.name: count for count in self._store.count_queues()}
        reasons = [self._check(crew, counts.get(name)) for name, crew in self._crews.items()]
        reason = "; ".join(reason for reason in reasons if reason) or None
        if reason and not self.reason:
            log.error("stalled: %s", reason)
        elif self.reason and not reason:
            log.info("no longer stalled")
        self.reason = reason
        return _CLOSE_LOOK if self._stalls else _INTERVAL

    def _check(self, crew: Crew, count: QueueCount | None) -> str | None:
        """How one queue is stalled; None unless it has been for long enough."""
        free = sum(worker.run is None for worker in crew.members)
        waits = count.oldest_wait if count and not count.paused and self._dispatcher.is_open else None
        if count is None or waits is None or waits < _INTERVAL or not free:
            self._stalls.pop(crew.queue, None)
            return None
        # The wall clock may have jumped, and the dispatcher not noticed yet.
        self._dispatcher.ask([crew.queue])
        seconds = self._stalled_for(crew)
        if seconds < LIMIT:
            return None
        return (
            f"queue {crew.queue}: {count.pending} pending, the oldest due for {waits:.0f} s,"
            f" {free} of {crew.size} workers free, nothing claimed for {seconds:.0f} s"
        )

    def _stalled_for(self, crew: Crew) -> float:
        """Seconds since the first look in a row that found due jobs, a free worker and no new attempt."""
        now, begun = self._clock.monotonic(), crew.begun
        before, since = self._stalls.get(crew.queue, (begun, now))
        if before != begun:
            since = now
        self._stalls[crew.queue] = (begun, since)
        return now - since
