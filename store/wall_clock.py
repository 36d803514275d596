"""Notices when the wall clock is set, so that what was reckoned from durations can be moved along with it."""

from datetime import datetime, timedelta

import msgspec

from store.clock import Clock

#: A difference up to this is no setting: what disciplines the clock may do as much in one step.
_TOLERANCE = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)


class Moment(msgspec.Struct, frozen=True):
    """An instant, and how the wall clock was set then."""

    now: datetime
    #: Microseconds that the wall clock was set forward by, in all; negative: back.
    setting: int


class WallClock:
    """The wall clock and its settings so far. Not thread-safe: its owner's lock guards it."""

    def __init__(self, clock: Clock, setting: int = 0) -> None:
        """``setting``: how the clock is set now, in microseconds."""
        self._clock = clock
        self._setting = setting
        self._booted_at = clock.read().booted_at

    def look(self) -> Moment:
        """The time. That the wall clock was set is noticed here; slow corrections never count."""
        reading = self._clock.read()
        set_by = reading.booted_at - self._booted_at
        self._booted_at = reading.booted_at
        if abs(set_by) > _TOLERANCE:
            self._setting += set_by // _MICROSECOND
        return Moment(reading.now, self._setting)
