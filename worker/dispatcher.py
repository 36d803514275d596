"""Feeds due jobs from the store into the buffers."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from store.clock import Clock
from store.leases import Lease
from store.protocol import DueJob, JobStore
from worker.job_queue import JobQueue
from worker.loop import Loop
from worker.outcome import StopReason
from worker.running import Run, RunningJobs

log = logging.getLogger(__name__)

#: Seconds that it sleeps at most. Waiting is done on the monotonic clock, ``run_at`` is on the wall
#: clock: when the latter is set, the maintainer has every queue looked at. Every queue is looked at
#: once per this time, too, for what no notice can tell: the lease of a dead holder that ran out.
_LONGEST_SLEEP = 60.0


class Dispatcher:
    """One thread for all queues. Sleeps until a job is due, a buffer has room, or somebody asks.

    The rule that keeps jobs from being forgotten: whoever makes a due job appear in the store
    without putting it into a buffer, or takes one out of a buffer without running it, says so here,
    *after* the store knows; a turn that begins later finds the job.
    """

    def __init__(
        self, store: JobStore, clock: Clock, queues: Mapping[str, JobQueue], running: RunningJobs, lease: Lease
    ) -> None:
        self._store = store
        self._clock = clock
        self._queues = queues
        self._running = running
        self._lease = lease
        self._lock = threading.Lock()
        # guards: everything below
        self._open = False
        # Queues that may have due jobs that are in no buffer.
        self._requested: set[str] = set()
        # Per queue, the earliest run_at to come that is known of.
        self._due_at: dict[str, datetime] = {}
        # Reservations to be given back.
        self._to_release: list[tuple[str, str]] = []
        # Its loop will not give them back any more.
        self._ended = False
        self._looked_at = clock.monotonic()
        self.loop = Loop("gofer-dispatcher", self._turn)
        for queue in queues.values():
            queue.on_room = self.loop.wake

    def open(self) -> None:
        """Begin to feed; until then, nothing is fed, only reservations are given back."""
        with self._lock:
            self._open = True
            self._requested.update(self._queues)
        self.loop.wake()

    @property
    def is_open(self) -> bool:
        """Whether queues are fed."""
        with self._lock:
            return self._open

    def request_feed(self, queues: Iterable[str]) -> None:
        """These queues may have due jobs that are in no buffer."""
        with self._lock:
            self._requested.update(self._queues.keys() & set(queues))
        self.loop.wake()

    def note_due(self, queue: str, run_at: datetime) -> None:
        """This queue has a pending job, in no buffer, that is to run at ``run_at``."""
        if queue in self._queues and self._remember(queue, run_at):
            self.loop.wake()

    def release_later(self, queue: str, job_ids: Sequence[str]) -> None:
        """These ids left the buffer unclaimed: end their reservations and look at the queue again."""
        with self._lock:
            self._to_release.extend((queue, job_id) for job_id in job_ids)
            ended = self._ended
        if ended:
            self._release_at_once()
        else:
            self.loop.wake()

    def end(self) -> None:
        """Give back what is left. Called when the loop has ended; what comes later is given back by who brings it.

        A submission, for one, may have been on its way to a buffer when that was closed.
        """
        with self._lock:
            self._ended = True
        self._release_pending()

    def _release_at_once(self) -> None:
        try:
            self._release_pending()
        except Exception:
            # Nobody is left to try again, and who brought the ids is not to blame: their leases will run out.
            log.exception("stopped: reservations could not be given back")

    def _release_pending(self) -> None:
        with self._lock:
            pending, self._to_release = self._to_release, []
        if not pending:
            return
        try:
            self._store.release_jobs([job_id for _, job_id in pending], self._lease.owner)
        except BaseException:
            with self._lock:
                self._to_release = pending + self._to_release
            raise
        with self._lock:
            self._requested.update(self._queues.keys() & {queue for queue, _ in pending})

    def _turn(self) -> float | None:
        self._release_pending()
        failure: Exception | None = None
        for name in self._wanted():
            try:
                self._feed(self._queues[name])
            except Exception as error:  # noqa: BLE001 - an error of one queue must not keep the others from being fed
                failure = error
        if failure:
            raise failure
        return self._delay()

    def _wanted(self) -> list[str]:
        """The queues to feed now; what they were asked for counts as done."""
        overflowing = {name for name, queue in self._queues.items() if queue.wants_feed()}
        now, looks_at = self._clock.now(), self._clock.monotonic()
        with self._lock:
            if not self._open:
                return []
            if looks_at - self._looked_at >= _LONGEST_SLEEP:
                self._looked_at = looks_at
                self._requested.update(self._queues)
            due = {name for name, run_at in self._due_at.items() if run_at <= now}
            wanted = overflowing | due | self._requested
            self._requested.clear()
            for name in wanted:
                # Forgotten before the store is asked, so that a later ``note_due`` is not lost.
                self._due_at.pop(name, None)
        return [name for name in self._queues if name in wanted]

    def _feed(self, queue: JobQueue) -> None:
        room = queue.begin_feed()
        runs = self._running.runs()
        try:
            # Without room, too, a reservation of nothing tells when the next job is due.
            found = self._store.reserve_jobs(queue.name, room, self._lease)
        except BaseException:
            queue.fill([], more=True)  # It goes on wanting to be fed.
            raise
        self._end_superseded(runs, found.jobs)
        left = queue.fill(found.jobs, more=len(found.jobs) >= room)
        if left:
            self.release_later(queue.name, left)
        if found.next_run_at is not None:
            self._remember(queue.name, found.next_run_at)

    def _end_superseded(self, runs: Sequence[Run], reserved: Sequence[DueJob]) -> None:
        """Tell handlers to end whose jobs are pending again: their attempts were ended while the process stood still.

        The reaper would not notice: it renews leases by job, and these jobs are held here again. ``runs`` are those of
        before the reservation; one that began later is none of these attempts.
        """
        job_ids = {job.id for job in reserved}
        for run in runs:
            if run.job.id in job_ids:
                self._running.request_stop(run, StopReason.LEASE_LOST)

    def _remember(self, queue: str, run_at: datetime) -> bool:
        """Whether ``run_at`` is earlier than what is known of the queue, and so is known now."""
        with self._lock:
            known = self._due_at.get(queue)
            is_news = known is None or run_at < known
            if is_news:
                self._due_at[queue] = run_at
        return is_news

    def _delay(self) -> float:
        """Seconds until the next turn that nobody needs to ask for."""
        now = self._clock.now()
        with self._lock:
            if not self._open:  # Every queue wants to be fed from the beginning; without this look it would spin.
                return _LONGEST_SLEEP
            waits = [(run_at - now).total_seconds() for run_at in self._due_at.values()]
        if any(queue.wants_feed() for queue in self._queues.values()):
            return 0.0
        return max(0.0, min([*waits, _LONGEST_SLEEP]))
