"""The bound on how many jobs may wait."""

import threading

from store.job import JobStatus
from store.protocol import JobStore
from worker.errors import BacklogFull

#: Submissions between two counts, at most. Jobs that become pending in other ways in between, such as
#: by a retry, are not counted.
_COUNT_EVERY = 1000


class Backlog:
    """Refuses submissions past a limit, without counting at each one. Safe to use from any thread."""

    def __init__(self, store: JobStore, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._lock = threading.Lock()
        # guards: _allowed
        # How many more jobs there is surely room for.
        self._allowed = 0

    def admit(self, jobs: int) -> None:
        """Let a submission of this many jobs pass. Raises BacklogFull."""
        if self._spend(jobs):
            return
        room = self._limit - self._store.count_jobs()[JobStatus.PENDING]
        if room < jobs:
            raise BacklogFull(self._limit)
        with self._lock:
            self._allowed = min(room - jobs, _COUNT_EVERY)

    def _spend(self, jobs: int) -> bool:
        with self._lock:
            enough = self._allowed >= jobs
            if enough:
                self._allowed -= jobs
        return enough
