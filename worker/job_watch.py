"""Waiting for something to happen to a job."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class JobWatch:
    """Wakes whoever waits for one kind of thing to happen to a job. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # guards: everything below, but for two reads without it
        self._waiting: dict[str, list[threading.Event]] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Nobody is to wait any longer."""
        return self._closed

    @contextmanager
    def watch(self, job_id: str, event: threading.Event | None = None) -> Iterator[threading.Event]:
        """An event that is set whenever it happens to the job while this lasts, and by ``close``.

        Look at the job after the watch began: it may have happened before. ``event`` is one that
        is set by other things, too; without it, there is a new one.
        """
        event = event or threading.Event()
        with self._lock:
            self._waiting.setdefault(job_id, []).append(event)
        try:
            yield event
        finally:
            with self._lock:
                self._waiting[job_id].remove(event)
                if not self._waiting[job_id]:
                    del self._waiting[job_id]

    def announce(self, job_id: str) -> None:
        """It happened to the job, and the store shows it."""
        # No lock while nobody waits, which is nearly always: who begins to watch after this look
        # reads the job after it, too, and finds what happened.
        if not self._waiting:
            return
        with self._lock:
            events = list(self._waiting.get(job_id, ()))
        for event in events:
            event.set()

    def close(self) -> None:
        """End every wait."""
        with self._lock:
            self._closed = True
            events = [event for events in self._waiting.values() for event in events]
        for event in events:
            event.set()
