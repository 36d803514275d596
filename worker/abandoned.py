"""The threads whose handlers do not end, though their attempts have."""

import threading


class AbandonedThreads:
    """Counts them, and bounds what handlers that always hang can cost. Safe to use from any thread."""

    def __init__(self, limit: int) -> None:
        """``limit``: with more than this many still running, ``may_replace`` is False."""
        self._limit = limit
        self._lock = threading.Lock()
        # guards: everything below
        self._total = 0
        self._threads: list[threading.Thread] = []

    def add(self, thread: threading.Thread) -> None:
        """This thread was abandoned."""
        with self._lock:
            self._total += 1
            self._threads = [*self._alive_locked(), thread]

    @property
    def total(self) -> int:
        """How many threads were abandoned since the start."""
        with self._lock:
            return self._total

    @property
    def alive(self) -> int:
        """How many of them still run."""
        with self._lock:
            self._threads = self._alive_locked()
            return len(self._threads)

    @property
    def may_replace(self) -> bool:
        """Whether there may be a new thread in place of one that was abandoned."""
        return self.alive <= self._limit

    def _alive_locked(self) -> list[threading.Thread]:
        return [thread for thread in self._threads if thread.is_alive()]
