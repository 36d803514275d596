"""The clock of a simulation: time is what its scheduler says."""

from datetime import datetime, timedelta

from store.clock import Reading
from tests.fake_clock import START
from tests.simulation.scheduler import Scheduler


class SimClock:
    """A ``store.clock.Clock``: all instances have the same."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        # How far the wall clock is off; how far it was at most.
        self._offset = self._furthest = 0.0

    def now(self) -> datetime:
        """The wall clock: an aware UTC datetime."""
        return START + timedelta(seconds=self._scheduler.now + self._offset)

    def read(self) -> Reading:
        """The wall clock, with what tells whether it was set since another reading."""
        return Reading(self.now(), START + timedelta(seconds=self._offset))

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes backwards."""
        return 1000.0 + self._scheduler.now

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; no time passes."""
        self._offset += seconds
        self._furthest = max(self._furthest, self._offset)

    def set_right(self) -> None:
        """Undo what was jumped back, so that nothing is put off for an hour."""
        self._offset = self._furthest
