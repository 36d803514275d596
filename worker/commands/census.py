"""Who runs on the machine, looked up once for all that want to know it at the same time."""

import threading
from collections.abc import Sequence

from worker import orphans
from worker.orphans import Process


class Census:
    """Looks at the processes of the machine. Safe to use from any thread.

    A stop may end some hundred commands at a time. If each of their threads looked for itself,
    none would have looked before its time was up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # guards: everything below, and a look while it is taken
        self._last: Sequence[Process] = ()
        #: How many looks were begun.
        self._begun = 0

    def take(self) -> Sequence[Process]:
        """Every process, as of a moment after the call."""
        # Without the lock: a look that begins after this line was asked for in time.
        begun = self._begun
        with self._lock:
            if self._begun == begun:
                self._begun += 1
                self._last = orphans.look()
            return self._last
