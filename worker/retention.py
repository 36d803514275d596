"""Deletes final jobs that are old enough."""

import logging
from collections.abc import Mapping
from datetime import timedelta

from store.clock import Clock
from store.job import JobStatus
from store.protocol import JobStore
from worker.loop import Loop

log = logging.getLogger(__name__)

#: Seconds between two looks for old jobs.
_INTERVAL = 60.0
#: Jobs that are deleted in one go, and seconds between two goes, so that others get at the store.
_BATCH, _PAUSE = 500, 0.05
#: Seconds, 95 years: no job is older, and a date can hold the difference.
_FOR_EVER = 3e9


class Retention:
    """Forgets jobs of each final status after its own time."""

    def __init__(self, store: JobStore, clock: Clock, keep: Mapping[JobStatus, float]) -> None:
        """``keep``: seconds per status; 0, or none at all, keeps jobs for ever."""
        self._store = store
        self._clock = clock
        self._keep = {status: seconds for status, seconds in keep.items() if 0 < seconds < _FOR_EVER}
        self.loop = Loop("gofer-retention", self._turn)

    def _turn(self) -> float | None:
        if not self._keep:
            return None
        now = self._clock.now()
        counts = [
            self._store.delete_finished(status, now - timedelta(seconds=seconds), _BATCH)
            for status, seconds in self._keep.items()
        ]
        # Not only after a full batch: a store may stop earlier, when the jobs are large.
        return _PAUSE if any(counts) else _INTERVAL
