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
    """The wall clock and its settings so far. All but ``peek`` is guarded by its owner's lock."""

    def __init__(self, clock: Clock, setting: int = 0) -> None:
        """``setting``: how the clock is set now, in microseconds."""
        self._clock = clock
        # The setting, and when the machine was started by the clock that was set so: replaced together.
        self._known = setting, clock.read().booted_at

    def look(self) -> Moment:
        """The time. That the wall clock was set is noticed here; slow corrections never count."""
        moment, self._known = self._read()
        return moment

    def peek(self) -> Moment:
        """The time, and nothing is noticed: for any thread, without the lock."""
        moment, _ = self._read()
        return moment

    def _read(self) -> tuple[Moment, tuple[int, datetime]]:
        """The time, and what is known by it."""
        setting, booted_at = self._known
        reading = self._clock.read()
        set_by = reading.booted_at - booted_at
        if abs(set_by) > _TOLERANCE:
            setting += set_by // _MICROSECOND
        return Moment(reading.now, setting), (setting, reading.booted_at)
