"""Waiting for jobs to become final."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class FinalWatch:
    """Wakes whoever waits for a job's end. Safe to use from any thread."""

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
    def watch(self, job_id: str) -> Iterator[threading.Event]:
        """An event that is set whenever the job becomes final while this lasts, and by ``close``.

        Look at the job after the watch began: it may have become final before.
        """
        event = threading.Event()
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
        """The job is final, and the store shows it."""
        # No lock while nobody waits, which is nearly always: who begins to watch after this look
        # reads the job after it, too, and finds it final.
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
