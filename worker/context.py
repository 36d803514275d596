"""What a handler is given beside its payload."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Protocol

from store.clock import Clock
from store.job import Job
from worker.errors import Cancelled

log = logging.getLogger(__name__)

_LEVELS = frozenset({"debug", "info", "warning", "error"})


class CancelEvent(threading.Event):
    """Set when the handler is to end; remembers whether the handler ever looked and saw it.

    A handler that returned without having looked has done its work, so its outcome counts.
    """

    def __init__(self) -> None:
        super().__init__()
        #: The handler has been told True by ``is_set`` or ``wait``.
        self.seen = False
        self._lock = threading.Lock()
        # guards: the callbacks, and that none is called once it was taken back
        self._callbacks: list[Callable[[], None]] = []

    def set(self) -> None:
        """Have the handler end."""
        super().set()
        with self._lock:
            for callback in self._callbacks:
                try:
                    callback()
                except BaseException:
                    # The handler's own code, in the thread of somebody who has others to tell.
                    log.exception("what a handler wanted to be called when it is to end has failed")

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Within the block, call ``callback`` when the handler is to end; at once if it is already.

        For handlers that wait for something else than the event. The callback runs in whatever
        thread sets the event, never after the block; it must neither block nor raise, nor touch
        the event. That it was called counts as seen.
        """

        def seen() -> None:
            self.seen = True
            callback()

        with self._lock:
            if super().is_set():
                seen()
            else:
                self._callbacks.append(seen)
        try:
            yield
        finally:
            with self._lock:
                if seen in self._callbacks:
                    self._callbacks.remove(seen)

    def is_set(self) -> bool:
        """Whether the handler is to end."""
        return self._see(super().is_set())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the handler is to end, at most ``timeout`` seconds; whether it is."""
        return self._see(super().wait(timeout))

    def _see(self, is_set: bool) -> bool:
        if is_set:
            self.seen = True
        return is_set


class Notes(Protocol):
    """Where log lines and progress go."""

    def log(self, time: datetime, level: str, text: str) -> None:
        """Keep a line."""
        ...

    def progress(self, fraction: float, message: str) -> None:
        """Keep the progress."""
        ...


class JobContext:
    """The running attempt, seen from its handler. Safe to use from threads that the handler starts."""

    __slots__ = ("_clock", "_job", "_notes", "_on_note", "attempt", "cancelled", "job_id", "traceparent", "type")

    def __init__(self, job: Job, notes: Notes, clock: Clock, on_note: Callable[[], None]) -> None:
        """``on_note`` is called after each note, so that somebody comes and writes it down."""
        #: The job's id, the same in each attempt: what a handler makes its work idempotent with.
        self.job_id = job.id
        #: The job's type; a function may handle several.
        self.type = job.type
        #: The number of this attempt: 1 for the first, and rising.
        self.attempt = job.attempt
        #: The submission's W3C trace context, to be sent along to other services; None without one.
        self.traceparent = job.traceparent
        #: Set when the handler is to end: the job is being cancelled, its time is up, or the
        #: service shuts down.
        self.cancelled = CancelEvent()
        self._job = job
        self._notes = notes
        self._clock = clock
        self._on_note = on_note

    @property
    def deadline(self) -> datetime:
        """When the attempt's time is up: an aware UTC datetime."""
        started_at = self._job.started_at
        assert started_at is not None
        return started_at + timedelta(seconds=self._job.timeout)

    def log(self, text: str, level: str = "info") -> None:
        """Add a line to the job's log; ``level`` is debug, info, warning or error.

        A line keeps 8,192 characters, and a job its last 1,000 lines unless the operator chose another number.
        """
        if level not in _LEVELS:
            raise ValueError(f"the level {level!r} is none of debug, info, warning, error")
        self._notes.log(self._clock.now(), level, str(text))
        self._on_note()

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the job has come: ``fraction`` from 0 to 1. It is stored within about a second.

        Raises ValueError for a fraction that is not from 0 to 1.
        """
        fraction = float(fraction)
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"the progress {fraction} is not from 0 to 1")
        self._notes.progress(fraction, str(message))
        self._on_note()

    def sleep(self, seconds: float) -> None:
        """Sleep; raises Cancelled at once when the handler is to end.

        Raises ValueError for seconds that are negative or no number.
        """
        if not seconds >= 0:
            raise ValueError(f"cannot sleep for {seconds} seconds")
        if self.cancelled.wait(min(seconds, threading.TIMEOUT_MAX)):
            raise Cancelled("the handler was told to end")
