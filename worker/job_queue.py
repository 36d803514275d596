"""The bounded buffer of job ids between those who submit and the workers of one queue.

The invariant that keeps jobs from being forgotten. A due pending job, of a queue that is not paused,
and not waiting for its turn as a suspect:

- is in a buffer, or is being claimed,
- or its queue overflows, or a feed of its queue was requested, or the dispatcher knows its ``run_at``,
- or the thread that has just changed the store is about to see to one of these.

Who may break it, and how the same thread repairs it, after the store knows:

- ``Intake``, a submission: ``offer``, or ``note_due`` if it is for later; a batch: ``request_feed``
- ``Intake``, a reserved id that was refused: ``release_later``
- ``Executor``, a claim that comes to nothing: ``release_later``, unless the job runs or is claimed here
- ``Finisher``, an attempt that ends as pending: ``note_due``
- ``Engine``, a retry by hand or the end of a pause: ``request_feed``
- ``Engine``, a pause, and ``Lifecycle``, the end, which empty the buffer: ``release_later``
- ``Reaper``, an id that it discards: ``release_later``
- ``Reaper``, leases that ran out: ``note_due`` for an attempt, ``request_feed`` for a reservation
- ``Dispatcher``, a feed: ``release_later`` for what did not fit; one that failed goes on overflowing
- ``Quarantine``, suspects that become ordinary jobs: ``open``, which requests a feed of every queue

- ``Maintainer``, jobs that are due, or due at another time, by a wall clock that was set: ``request_feed``

Against bugs the self-check requests a feed of queues whose jobs have been due for 5 s.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from queue import PriorityQueue

from store.protocol import DueJob
from worker.errors import QueueClosed

log = logging.getLogger(__name__)

#: Ids that a buffer holds.
CAPACITY = 100

#: Seconds between two warnings about one queue: under load it may fill many times a second.
_WARNING_INTERVAL = 60.0


class JobQueue:
    """A hint, in memory, of what the store holds; losing it loses nothing.

    While the queue *overflows*, the store holds due jobs that are not in the buffer. New ids are
    refused then, which keeps their jobs in line behind the backlog, until the dispatcher has fed
    the backlog in. A queue begins that way, because a start may find a backlog.
    """

    def __init__(
        self, name: str, stop: threading.Event, monotonic: Callable[[], float], capacity: int = CAPACITY
    ) -> None:
        """``stop`` ends every wait in ``get``, once it is set and ``wake`` was called."""
        self.name = name
        #: Called, with no lock held, when an overflowing buffer has become half empty.
        self.on_room: Callable[[], None] = _nothing
        self._stop = stop
        self._buffer: PriorityQueue[tuple[int, int, str]] = PriorityQueue(maxsize=capacity)
        self._half = capacity // 2
        # The buffer's own mutex is the only lock, so that one instant decides whether an id goes
        # in, is refused, or comes too late.
        self._lock = self._buffer.mutex
        # guards: the buffer and everything below
        self._ids: set[str] = set()
        self._entries = 0
        self._closed = False
        self._overflowing = True
        # Somebody waits for room.
        self._is_awaited = False
        self._monotonic = monotonic
        # Until then, an overflow has been warned of.
        self._quiet_until = 0.0
        # What was refused while a feed is under way; None between feeds.
        self._offered_during_feed: list[tuple[str, int]] | None = None

    @property
    def size(self) -> int:
        """How many ids are in the buffer. Not ``len``: an empty queue must not be false."""
        return len(self._buffer.queue)

    @property
    def accepts(self) -> bool:
        """Whether ``offer`` would probably take an id at once. A hint: it looks without the lock."""
        return not self._overflowing and self.size < self._buffer.maxsize

    def offer(self, job_id: str, priority: int, timeout: float = 0.1) -> bool:
        """Put an id in; whether the buffer has it now.

        False at once while the queue overflows or is closed. The first to find the buffer full
        waits up to ``timeout`` seconds for room. If none comes, or if others come meanwhile, the
        queue overflows from then on: in a rush, everybody would wait for each place that is left.
        """
        with self._lock:
            if self._refuses_locked(job_id, priority):
                return False
            if self._put_locked(job_id, priority):
                return True
            if not self._is_awaited:
                self._is_awaited = True
                self._buffer.not_full.wait_for(self._stopped_being_full_locked, timeout)
                self._is_awaited = False
                if self._refuses_locked(job_id, priority):
                    return False
                if self._put_locked(job_id, priority):
                    return True
            self._overflowing = True
            self._set_aside_locked(job_id, priority)
            self._buffer.not_full.notify_all()
            warns = self._monotonic() >= self._quiet_until
            if warns:
                self._quiet_until = self._monotonic() + _WARNING_INTERVAL
        if warns:
            log.warning("queue %s is full: jobs wait in the store until there is room", self.name)
        return False

    def get(self) -> str | None:
        """Wait for an id and take it out: the best priority first, then the one that came first.

        None once the service stops, even if there are ids. Raises QueueClosed.
        """
        with self._lock:
            while not (self._ends_locked() or self._buffer.queue):
                self._buffer.not_empty.wait()
            job_id, has_room = (None, False) if self._ends_locked() else self._pop_locked()
        if has_room:
            self.on_room()
        return job_id

    def get_nowait(self) -> str | None:
        """Like ``get``, but None at once if there is nothing to take."""
        if not self._buffer.queue:  # The common answer of an idle service needs no lock.
            return None
        with self._lock:
            if self._stop.is_set() or self._closed or not self._buffer.queue:
                return None
            job_id, has_room = self._pop_locked()
        if has_room:
            self.on_room()
        return job_id

    def mark_overflowing(self) -> None:
        """Overflow: the store holds due jobs that were never offered."""
        with self._lock:
            self._overflowing = True

    def wants_feed(self) -> bool:
        """Whether the store holds due jobs and the buffer is at least half empty."""
        with self._lock:
            may = not self._closed and not self._stop.is_set()
            return may and self._overflowing and self.size <= self._half

    def begin_feed(self) -> int:
        """How many ids there is room for. Ids offered until ``fill`` are remembered.

        Without that memory, a job stored after the dispatcher looked and offered before the
        overflow ended would be in no buffer, and nobody would look for it again.
        """
        with self._lock:
            self._offered_during_feed = []
            return 0 if self._closed or self._stop.is_set() else max(0, self._room_locked())

    def fill(self, jobs: Sequence[DueJob], *, more: bool) -> list[str]:
        """End a feed: put in what was reserved, and return the ids that did not fit.

        ``more``: the store may hold further due jobs, so the queue goes on overflowing.
        """
        with self._lock:
            left = [job.id for job in jobs if not self._put_locked(job.id, job.priority)]
            offered, self._offered_during_feed = self._offered_during_feed or [], None
            # What does not fit now stays in the store, in line; the next feed brings it.
            ends = not more and not left and len(offered) <= self._room_locked()
            if ends:
                for job_id, priority in offered:
                    self._put_locked(job_id, priority)
            self._overflowing = not ends
        return left

    def ids(self) -> list[str]:
        """The ids that are in the buffer now."""
        with self._lock:
            return list(self._ids)

    def discard(self, job_ids: Iterable[str]) -> list[str]:
        """Take ids out, wherever they are in the line, and return them; others are passed over."""
        with self._lock:
            gone = self._ids.intersection(job_ids)
            if gone:
                self._ids -= gone
                self._buffer.queue = [entry for entry in self._buffer.queue if entry[2] not in gone]
                heapify(self._buffer.queue)
                self._buffer.not_full.notify(len(gone))
            # May have jumped over the half, where ``get`` would have told.
            has_room = bool(gone) and self._overflowing and self.size <= self._half
        if has_room:
            self.on_room()
        return list(gone)

    def drain(self) -> list[str]:
        """Take every id out."""
        with self._lock:
            return self._drain_locked()

    def wake(self) -> None:
        """End every wait, so that the waiting see that the service stops."""
        with self._lock:
            self._buffer.not_empty.notify_all()
            self._buffer.not_full.notify_all()

    def close(self) -> list[str]:
        """Let nothing in or out any more; return the ids that nobody took. May be called twice."""
        with self._lock:
            self._closed = True
            self._buffer.not_empty.notify_all()
            self._buffer.not_full.notify_all()
            return self._drain_locked()

    def _ends_locked(self) -> bool:
        if self._closed:
            raise QueueClosed
        return self._stop.is_set()

    def _room_locked(self) -> int:
        return self._buffer.maxsize - len(self._buffer.queue)

    def _refuses_locked(self, job_id: str, priority: int) -> bool:
        if self._closed or self._stop.is_set():
            return True
        if self._overflowing:
            self._set_aside_locked(job_id, priority)
        return self._overflowing

    def _set_aside_locked(self, job_id: str, priority: int) -> None:
        """Remember a refused id for the end of the feed that is under way, if there is one."""
        if self._offered_during_feed is not None and len(self._offered_during_feed) <= self._buffer.maxsize:
            self._offered_during_feed.append((job_id, priority))

    def _stopped_being_full_locked(self) -> bool:
        return self._room_locked() > 0 or self._overflowing or self._closed or self._stop.is_set()

    def _put_locked(self, job_id: str, priority: int) -> bool:
        """Put an id in, once; False if there is no room."""
        if self._closed:
            return False
        if job_id in self._ids:
            return True
        if self._room_locked() <= 0:
            return False
        self._entries += 1
        self._ids.add(job_id)
        heappush(self._buffer.queue, (-priority, self._entries, job_id))
        self._buffer.not_empty.notify()
        return True

    def _pop_locked(self) -> tuple[str, bool]:
        """The first id in line, and whether the dispatcher should hear of the room that it leaves."""
        job_id: str = heappop(self._buffer.queue)[2]
        self._ids.discard(job_id)
        self._buffer.not_full.notify()
        return job_id, self._overflowing and len(self._buffer.queue) == self._half

    def _drain_locked(self) -> list[str]:
        job_ids = [entry[2] for entry in sorted(self._buffer.queue)]
        self._buffer.queue.clear()
        self._ids.clear()
        self._buffer.not_full.notify_all()
        return job_ids


def _nothing() -> None:
    """Before a dispatcher listens."""
