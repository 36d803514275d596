"""Ends attempts whose time is up, with the handler's help or without."""

import logging
import math
import random

from store.clock import Clock
from store.transitions import Outcome
from worker.abandoned import AbandonedThreads
from worker.loop import Loop
from worker.outcome import StopReason, timed_out
from worker.owed_outcomes import OwedOutcomes
from worker.running import Run, RunningJobs

log = logging.getLogger(__name__)

#: Seconds between two tries to write what is owed.
_RETRY = 1.0
#: Seconds: the longest sleep while there are runs. If the whole process stands still just before it, the sleep ends
#: later than reckoned, and nobody would wake it for a deadline in between.
_LONGEST_SLEEP = 10.0


class Watchdog:
    """Tells a handler at its deadline to end, and abandons its thread if it does not.

    Python cannot end a thread from outside. So a hung one is left alone: its attempt is ended in
    its stead, what it may return later is refused, and its worker is replaced.
    """

    def __init__(
        self,
        running: RunningJobs,
        owed: OwedOutcomes,
        abandoned: AbandonedThreads,
        clock: Clock,
        rng: random.Random,
        *,
        grace: float,
    ) -> None:
        """``grace``: seconds that a handler has, past its deadline, to end by itself."""
        self._running = running
        self._owed = owed
        self._abandoned = abandoned
        self._clock = clock
        self._rng = rng
        self._grace = grace
        # Written by the loop only. Nobody needs to wake it for a deadline that is later.
        self._sleeps_until = math.inf
        self.loop = Loop("gofer-watchdog", self._turn)

    def watch(self, run: Run) -> None:
        """Mind a run's deadline, from now on. Cheap; called for each job."""
        if run.deadline < self._sleeps_until:
            self.loop.wake()

    def abandon(self, run: Run, outcome: Outcome) -> bool:
        """Take the run away from its thread, owe its end, and have the thread replaced; False if it has ended."""
        if not self._running.abandon(run):
            return False
        # First of all: nobody else will see to it.
        self._owed.add(run, outcome)
        # Before anybody thinks of a replacement, which depends on how many there are.
        self._abandoned.add(run.thread)
        run.on_abandon()
        return True

    def _turn(self) -> float | None:
        # First, so that a run that begins during this turn, and may be missed by it, wakes the loop.
        self._sleeps_until = math.inf
        now = self._clock.monotonic()
        runs = [run for run in self._running.runs() if not run.taken]
        for run in runs:
            self._check(run, now)
        self._owed.write()
        wakes = [self._next_step(run, now) for run in runs if not run.taken]
        if self._owed.runs():
            wakes.append(now + _RETRY)
        self._sleeps_until = min(wakes, default=math.inf)
        if math.isinf(self._sleeps_until):
            return None
        # By the clock as it is by now: the store may have held this turn up.
        return min(max(0.0, self._sleeps_until - self._clock.monotonic()), _LONGEST_SLEEP)

    def _next_step(self, run: Run, now: float) -> float:
        return run.deadline if now < run.deadline else self._end_of_grace(run)

    def _end_of_grace(self, run: Run) -> float:
        return run.deadline + self._grace_of(run)

    def _grace_of(self, run: Run) -> float:
        return run.stop_time + self._grace

    def _check(self, run: Run, now: float) -> None:
        if now >= self._end_of_grace(run):
            self._end(run)
        elif now >= run.deadline:
            self._running.request_stop(run, StopReason.TIMEOUT)

    def _end(self, run: Run) -> None:
        grace = self._grace_of(run)
        what = f"did not end within {grace:g} s after its timeout of {run.job.timeout:g} s; its thread was abandoned"
        if self.abandon(run, timed_out(run.job, what, self._rng)):
            log.error("job %s (%s): attempt %d %s", run.job.id, run.job.type, run.job.attempt, what)
