"""The pipes that a command writes to, read while something else is waited for."""

import os
import select
from collections.abc import Callable, Iterable

from store.clock import Clock

#: Bytes that are read at a time.
_CHUNK = 65_536
#: Chunks that are read at most once nobody is waited for any more; a full pipe holds 16 pages.
_LAST_CHUNKS = 64

Sink = Callable[[bytes], None]


class Pipes:
    """Hands on what comes through some pipes. Used by one thread; no thread is needed for each pipe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._poll = select.poll()
        self._sinks: dict[int, Sink] = {}

    def add(self, sink: Sink) -> int:
        """Make a pipe that is read into ``sink``; return its writing end, which is the caller's."""
        reading, writing = os.pipe()
        self._sinks[reading] = sink
        self._poll.register(reading, select.POLLIN)
        return writing

    @property
    def is_open(self) -> bool:
        """Whether somebody may still write to one of them."""
        return bool(self._sinks)

    def wait(self, others: Iterable[int], until: float | None = None) -> set[int]:
        """Read until one of the descriptors ``others`` is readable, or the pipes are all closed if there is none.

        ``until``: on the monotonic clock, when to stop waiting; None for never. Returns who of
        ``others`` is readable.
        """
        awaited = set(others)
        for descriptor in awaited:
            self._poll.register(descriptor, select.POLLIN)
        try:
            while awaited or self._sinks:
                left = None if until is None else max(0.0, until - self._clock.monotonic())
                ready = self._take(left)
                if not awaited.isdisjoint(ready):
                    return awaited.intersection(ready)
                if left == 0.0:
                    break
            return set()
        finally:
            for descriptor in awaited:
                self._poll.unregister(descriptor)

    def read_rest(self) -> None:
        """Read what was written so far, without waiting for more, and not for ever if somebody goes on writing."""
        for _ in range(_LAST_CHUNKS):
            if not self._sinks or not self._take(0.0):
                return

    def close(self) -> None:
        """Read no more: whoever writes on gets EPIPE."""
        for reading in list(self._sinks):
            self._close(reading)

    def _take(self, seconds: float | None) -> set[int]:
        """Wait once, and read a chunk from each pipe that has something; which descriptors were ready."""
        ready = {descriptor for descriptor, _ in self._poll.poll(None if seconds is None else seconds * 1000)}
        for reading in ready & self._sinks.keys():
            data = os.read(reading, _CHUNK)
            if data:
                self._sinks[reading](data)
            else:
                self._close(reading)
        return ready

    def _close(self, reading: int) -> None:
        self._poll.unregister(reading)
        del self._sinks[reading]
        os.close(reading)
