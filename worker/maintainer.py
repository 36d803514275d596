"""The store's housekeeping, and what is to be done when the wall clock was set."""

import logging
from collections.abc import Collection

from store.clock import Clock
from store.protocol import JobStore
from store.wall_clock import WallClock
from worker.dispatcher import Dispatcher
from worker.loop import Loop

log = logging.getLogger(__name__)

#: Seconds between two looks at the wall clock.
_LOOK = 1.0
#: Jobs that are looked at in one go, and seconds between two goes, so that others get at the store.
_BATCH, _PAUSE = 1_000, 0.02
#: How often queues are looked at after the clock was set. Whoever was between the store and the dispatcher just then
#: told the latter an instant of before; it is found out by the second look.
_ROUNDS = 2


class Maintainer:
    """Has the store keep house, and move along what waits for a time to pass when the wall clock was set."""

    def __init__(self, store: JobStore, clock: Clock, dispatcher: Dispatcher, queues: Collection[str]) -> None:
        """``queues``: their names."""
        self._store = store
        self._wall_clock = WallClock(clock)
        self._dispatcher = dispatcher
        self._queues = queues
        # Used by the loop only. Microseconds, as of the last look.
        self._setting = 0
        # Microseconds that the clock was set by, and jobs that were moved, of which the log does not tell yet.
        self._set_by = self._moved = 0
        # One at the start, too: the process before may have had more to move.
        self._rounds_left = 1
        self.loop = Loop("gofer-maintainer", self._turn)

    def _turn(self) -> float:
        delay = min(self._store.maintain(), _LOOK)
        self._look()
        return min(delay, self._follow()) if self._rounds_left else delay

    def _look(self) -> None:
        setting = self._wall_clock.look().setting
        if setting != self._setting:
            self._set_by += setting - self._setting
            self._setting, self._rounds_left = setting, _ROUNDS
            # What the dispatcher knows of times is of before. The store reckons right from now on.
            self._dispatcher.request_feed(self._queues)

    def _follow(self) -> float:
        followed = self._store.follow_clock(_BATCH)
        self._moved += followed.moved
        # After the store. Set back, jobs that are due can be had as they are moved; set forward, none becomes due by
        # that, and until all are moved a look meets every job that only seems to be due.
        if followed.is_complete or self._set_by < 0:
            self._dispatcher.request_feed(self._queues)
        if not followed.is_complete:
            return _PAUSE
        self._rounds_left -= 1
        self._tell()
        return _LOOK

    def _tell(self) -> None:
        if self._set_by:
            way, seconds = "forward" if self._set_by > 0 else "back", abs(self._set_by) / 1e6
            log.warning(
                "the wall clock was set %s by %.1f s; %d waiting jobs were moved along", way, seconds, self._moved
            )
        elif self._moved:
            log.warning("%d waiting jobs were moved along with the wall clock, late", self._moved)
        self._set_by = self._moved = 0
