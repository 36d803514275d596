"""The one place where the time is read.

Instants are aware UTC datetimes and end in ``_at``; durations are seconds as
floats and are measured on the monotonic clock, which no change of the wall
clock can stretch or shrink.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

#: Counts the seconds in which the machine was suspended, too, as the wall clock does, where there is such a clock.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: Seconds: two looks with no more between them are one look.
_AT_ONCE = 0.01


class Reading(msgspec.Struct, frozen=True):
    """The wall clock, looked at once."""

    #: What it shows.
    now: datetime
    #: When the machine was started, if what it shows is right. Changes when the wall clock is set, and only then.
    booted_at: datetime


class Clock(Protocol):
    """Tells the time. Safe to use from any thread."""

    def now(self) -> datetime:
        """The wall clock: an aware UTC datetime."""
        ...

    def read(self) -> Reading:
        """The wall clock, with what tells whether it was set since another reading."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes backwards."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def read(self) -> Reading:
        while True:
            before, now = time.clock_gettime(_SINCE_BOOT), self.now()
            seconds = time.clock_gettime(_SINCE_BOOT)
            # Whoever was held up in between would believe that the clock was set.
            if seconds - before < _AT_ONCE:
                return Reading(now, now - timedelta(seconds=seconds))

    def monotonic(self) -> float:
        return time.monotonic()
