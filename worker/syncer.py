"""Makes outcomes durable, many with one sync."""

from store.protocol import JobStore
from worker.loop import Loop

#: Seconds between two syncs at least; one covers the outcomes of all that time.
_INTERVAL = 0.02


class Syncer:
    """Flushes the store soon after an outcome was written. Woken by whoever wrote one."""

    def __init__(self, store: JobStore) -> None:
        self.loop = Loop("gofer-syncer", store.flush, rest=_INTERVAL)
