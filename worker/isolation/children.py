"""The child processes: started ahead, lent to one attempt at a time, and replaced."""

import logging
import os
import threading
from collections import deque

from store.clock import Clock
from store.job import JobError
from worker.isolation.attempt import IsolatedAttempt
from worker.isolation.child_process import ChildProcess
from worker.isolation.errors import ProcessNotStarted
from worker.loop import Loop
from worker.outcome import Ending, Raised
from worker.registry import Isolation, Registry
from worker.running import Run

log = logging.getLogger(__name__)

#: After so many attempts or seconds a child gives way to a new one, which bounds what handlers leak.
#: Both are large because a start costs some 0.1 s of work, and what a handler has loaded is lost.
_MAX_ATTEMPTS, _MAX_AGE = 10_000, 3600.0
#: Seconds that a child which is let go has to end by itself.
_PATIENCE = 1.0


class Children:
    """Runs attempts in child processes. Safe to use from any thread.

    A child is lent to the worker whose handler it calls. There are as many as are needed at a time,
    so at most one for each worker; up to the number of cores they are started ahead.
    """

    def __init__(self, registry: Registry, clock: Clock, *, workers: int, max_result_bytes: int) -> None:
        """``workers``: how many attempts may run at a time."""
        self._registry = registry
        self._clock = clock
        self._workers = workers
        self._max_result_bytes = max_result_bytes
        self.loop = Loop("gofer-children", self._turn)
        self._lock = threading.Lock()
        # guards: everything below
        # Who has just worked stands last and is taken first: it is warm.
        self._idle: deque[ChildProcess] = deque()
        # Let go, but not ended yet.
        self._leaving: list[ChildProcess] = []
        # How many are with workers.
        self._lent = 0
        self._closed = False

    def start(self) -> None:
        """Start children ahead, in the background, if there is any handler for them."""
        if self._ahead():
            self.loop.start()

    def run(self, run: Run) -> Ending:
        """Call the run's handler in a child; what came of it, whatever happens to the child."""
        while True:
            try:
                child = self._borrow()
            except OSError as error:
                reason = f"no process can be started for the handler: {error}"
                return Raised(error, JobError(ProcessNotStarted.__name__, reason))
            try:
                return IsolatedAttempt(child, run, self._clock, self._max_result_bytes).execute()
            except BrokenPipeError:
                log.warning("a child process has ended while it was idle; another one takes its place")
                child.kill()
            except BaseException:
                child.kill()  # Nobody knows what it is doing.
                raise
            finally:
                self._take_back(child)

    def close(self) -> None:
        """End every child that is not lent; one that is given back later is ended then."""
        with self._lock:
            self._closed = True
            leaving = [*self._idle, *self._leaving]
            self._idle.clear()
            self._leaving.clear()
        self._end(leaving)

    def _borrow(self) -> ChildProcess:
        """Raises OSError when the system has no process to give."""
        with self._lock:
            self._lent += 1
            child = self._idle.pop() if self._idle else None
        try:
            return child or self._new_child()
        except BaseException:
            with self._lock:
                self._lent -= 1
            raise

    def _take_back(self, child: ChildProcess) -> None:
        is_fit = child.is_fit and not self._has_served_long(child)
        with self._lock:
            self._lent -= 1
            closed = self._closed
            if not closed:
                # An end may take a moment, which is not the worker's.
                (self._idle if is_fit else self._leaving).append(child)
                # The one that has been idle longest is the one too many.
                if len(self._idle) > self._workers:
                    self._leaving.append(self._idle.popleft())
                if not self._leaving:
                    return
        if closed:
            self._end([child])
        else:
            self.loop.wake()

    def _has_served_long(self, child: ChildProcess) -> bool:
        return child.attempts >= _MAX_ATTEMPTS or self._clock.monotonic() >= child.started + _MAX_AGE

    def _turn(self) -> None:
        """Start the children that are missing, and end those that have had their time."""
        with self._lock:
            leaving, self._leaving = self._leaving, []
            missing = 0 if self._closed else self._ahead() - len(self._idle) - self._lent
        try:
            for _ in range(missing):
                self._add_spare()
        finally:
            self._end(leaving)

    def _ahead(self) -> int:
        """How many are to be there before anybody needs them."""
        if any(spec.isolation is Isolation.PROCESS for spec in self._registry.specs()):
            return min(self._workers, len(os.sched_getaffinity(0)))
        return 0

    def _add_spare(self) -> None:
        child = self._new_child()
        with self._lock:
            if not self._closed:
                self._idle.appendleft(child)
                return
        self._end([child])

    def _new_child(self) -> ChildProcess:
        """Raises OSError when the system has no process to give."""
        return ChildProcess(self._registry.modules, self._max_result_bytes, self._clock.monotonic())

    def _end(self, leaving: list[ChildProcess]) -> None:
        """Have them end by themselves, all at the same time; kill those that do not."""
        for child in leaving:
            child.hang_up()
        deadline = self._clock.monotonic() + _PATIENCE
        for child in leaving:
            child.close(max(0.0, deadline - self._clock.monotonic()))
