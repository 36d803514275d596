"""Makes outcomes durable, many with one sync."""

from store.errors import StoreUnavailable
from store.protocol import JobStore
from worker.loop import Loop
from worker.troubles import Troubles

#: Seconds between two syncs at least; one covers the outcomes of all that time.
_INTERVAL = 0.02


class Syncer:
    """Flushes the store soon after an outcome was written. Woken by whoever wrote one."""

    def __init__(self, store: JobStore, troubles: Troubles) -> None:
        self._store = store
        self._troubles = troubles
        self.loop = Loop("gofer-syncer", self._turn, rest=_INTERVAL)

    def _turn(self) -> None:
        try:
            self._store.flush()
        except StoreUnavailable as error:
            self._troubles.report(self.loop.name, error)
            raise
        self._troubles.clear(self.loop.name)
