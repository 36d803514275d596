"""What makes the main thread stop waiting: a signal, or an error that must end the process."""

import os
import signal
from contextlib import suppress
from types import FrameType

from store.clock import Clock

#: Stop in good order.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Seconds after the first signal in which another one is taken for its echo: ``timeout`` of the
#: coreutils signals a process and then its whole group.
_ECHO = 0.5


class StopRequest:
    """Waits for the reason to stop.

    Signals and errors become bytes on a pipe, because a handler of signals must not take a lock:
    the thread that it interrupts may hold it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._first_signal: float | None = None
        self._fatal: str | None = None

    @property
    def fatal(self) -> str | None:
        """Why the process must end, if it must."""
        return self._fatal

    def install(self) -> None:
        """Catch SIGTERM and SIGINT. Called in the main thread."""
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._caught)

    def fail(self, reason: object) -> None:
        """Ask for the end of the process, from any thread; the first reason counts. Returns at once."""
        self._fatal = self._fatal or str(reason)
        with suppress(BlockingIOError):  # the pipe is full of other reasons to wake up
            os.write(self._write_end, b"\0")

    def wait(self) -> str:
        """Sleep until there is a reason to stop; return it in words."""
        number = os.read(self._read_end, 1)[0]
        return self._fatal or signal.Signals(number).name

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        # The interpreter has written the byte already. Who signals again does not want to wait.
        now = self._clock.monotonic()
        if self._first_signal is None:
            self._first_signal = now
        elif now - self._first_signal > _ECHO:
            os._exit(128 + number)
