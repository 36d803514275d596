"""How many jobs there are, for stores that one process owns: counted once at the start, then kept up."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping

from store.job import JobStatus

#: One job more or less: queue, status, +1 or -1.
Delta = tuple[str, JobStatus, int]


class Tally:
    """Counts by status, and by queue for jobs that are not final. Safe to use from any thread."""

    def __init__(self, by_status: Mapping[JobStatus, int], by_queue: Mapping[tuple[str, JobStatus], int]) -> None:
        self._lock = threading.Lock()
        # guards: _by_status, _by_queue
        self._by_status = Counter(dict.fromkeys(JobStatus, 0) | dict(by_status))
        self._by_queue = Counter(dict(by_queue))

    def apply(self, deltas: Iterable[Delta]) -> None:
        """Count what one commit changed, all of it at once."""
        with self._lock:
            for queue, status, delta in deltas:
                self._by_status[status] += delta
                if not status.is_final:
                    self._count_queue_locked(queue, status, delta)

    def by_status(self) -> dict[JobStatus, int]:
        """Every status with its count."""
        with self._lock:
            return dict(self._by_status)

    def by_queue(self) -> dict[tuple[str, JobStatus], int]:
        """The counts above zero of pending and processing jobs."""
        with self._lock:
            return dict(self._by_queue)

    def _count_queue_locked(self, queue: str, status: JobStatus, delta: int) -> None:
        key = (queue, status)
        self._by_queue[key] += delta
        if not self._by_queue[key]:
            del self._by_queue[key]
