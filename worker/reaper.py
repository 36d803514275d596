"""Keeps this process's leases alive, and takes back what others let run out."""

import logging
from collections.abc import Mapping

from store.job import JobStatus
from store.leases import Lease
from store.protocol import JobStore
from worker.dispatcher import Dispatcher
from worker.job_queue import JobQueue
from worker.job_watch import JobWatch
from worker.loop import Loop
from worker.outcome import StopReason
from worker.running import RunningJobs

log = logging.getLogger(__name__)

#: Seconds between two turns; a lease must last for several.
INTERVAL = 10.0


class Reaper:
    """Renews leases, and ends attempts whose lease ran out."""

    def __init__(
        self,
        *,
        store: JobStore,
        lease: Lease,
        queues: Mapping[str, JobQueue],
        running: RunningJobs,
        dispatcher: Dispatcher,
        finals: JobWatch,
    ) -> None:
        self._store = store
        self._lease = lease
        self._queues = queues
        self._running = running
        self._dispatcher = dispatcher
        self._finals = finals
        self.loop = Loop("gofer-reaper", self._turn)

    def _turn(self) -> float:
        # Our own first: after an outage, or a long stop of the process, they are late but still ours.
        self._renew()
        self._release_expired()
        return INTERVAL

    def _renew(self) -> None:
        runs = self._running.runs()
        buffered = {name: queue.ids() for name, queue in self._queues.items()}
        held = [*self._running.ids(), *(job_id for ids in buffered.values() for job_id in ids)]
        if not held:
            return
        lost = self._store.renew_leases(held, self._lease)
        for run in runs:
            # A run that ended meanwhile has no lease either, but has been taken, so it is not told.
            if run.job.id in lost:
                self._running.request_stop(run, StopReason.LEASE_LOST)
        for name, ids in buffered.items():
            # Some may be free, never having been reserved: a feed brings them back, reserved. Others
            # may have been reserved and buffered again since they were read: those are given back.
            if gone := self._queues[name].discard(lost.intersection(ids)):
                self._dispatcher.release_later(name, gone)

    def _release_expired(self) -> None:
        expired = self._store.release_expired()
        # Only the store knew of these reservations, so that nobody else looks for their jobs.
        if expired.freed_queues:
            self._dispatcher.request_feed(expired.freed_queues)
        for job in expired.crashed:
            log.warning("attempt %d of job %s ended: its lease ran out", job.attempt, job.id)
            if job.status is JobStatus.PENDING:
                self._dispatcher.note_due(job.queue, job.run_at)
            else:
                self._finals.announce(job.id)
