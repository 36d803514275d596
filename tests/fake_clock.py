"""A clock that stands still until a test moves it."""

import threading
from datetime import UTC, datetime, timedelta

from store.clock import Reading

#: When a test begins, unless it says otherwise.
START = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)


class FakeClock:
    """A ``store.clock.Clock`` under the test's control. Safe to use from any thread."""

    def __init__(self, start: datetime = START) -> None:
        self._lock = threading.Lock()
        # guards: _now, _monotonic
        self._now = start
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """The wall clock: an aware UTC datetime."""
        with self._lock:
            return self._now

    def read(self) -> Reading:
        """The wall clock, with what tells whether it was set since another reading."""
        with self._lock:
            return Reading(self._now, self._now - timedelta(seconds=self._monotonic))

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes backwards."""
        with self._lock:
            return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        if seconds < 0:
            raise ValueError("time does not run backwards; jump() sets the wall clock back")
        with self._lock:
            self._now += timedelta(seconds=seconds)
            self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator or NTP would; no time passes."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
