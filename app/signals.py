"""What makes the main thread stop waiting: a signal, or an error that must end the process."""

import logging
import os
import signal
from types import FrameType
from typing import NoReturn

from store.clock import Clock

_log = logging.getLogger(__name__)

#: Stop in good order. SIGHUP comes when the terminal is closed; under nohup it is ignored, and stays so.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Seconds after the first signal in which the same one is taken for its echo: ``timeout`` of the
#: coreutils signals a process and then its whole group.
_ECHO = 0.2
#: The exit code when nobody can be told to stop any more.
_CANNOT_STOP = 3


class StopRequest:
    """Waits for the reason to stop.

    Signals and errors become bytes on a pipe, because a handler of signals must not take a lock:
    the thread that it interrupts may hold it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        # Its number and, on the monotonic clock, when it came.
        self._first_signal: tuple[int, float] | None = None
        self._fatal: str | None = None

    @property
    def fatal(self) -> str | None:
        """Why the process must end, if it must."""
        return self._fatal

    def install(self) -> None:
        """Catch the signals. Called in the main thread."""
        # Who started us may have had it ignored, and then the kernel would keep no exit codes of our children.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._caught)

    def fail(self, reason: object) -> None:
        """Ask for the end of the process, from any thread; the first reason counts. Returns at once."""
        self._fatal = self._fatal or str(reason)
        try:
            os.write(self._write_end, b"\0")
        except BlockingIOError:
            pass  # The pipe is full of other reasons to wake up.
        except OSError:
            self._end_at_once()

    def wait(self) -> str:
        """Sleep until there is a reason to stop; return it in words."""
        while True:
            number = self._read()
            if self._fatal:
                return self._fatal
            # Whoever else catches signals, such as the module of a handler, has them told here, too, and so
            # many that there was no room for ours.
            if self._first_signal is not None:
                number = self._first_signal[0]
            if number in SIGNALS:
                return signal.Signals(number).name

    def _read(self) -> int:
        """The next byte."""
        try:
            data = os.read(self._read_end, 1)
        except OSError:
            data = b""
        if not data:  # No signal would be heard any more.
            self._fatal = self._fatal or "the service's descriptors were closed by somebody else, such as a handler"
            self._end_at_once()
        return data[0]

    def _end_at_once(self) -> NoReturn:
        """Our descriptors are closed, or are another's by now: nothing can be done in order."""
        _log.critical("ended: %s", self._fatal)
        logging.shutdown()
        os._exit(_CANNOT_STOP)

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        # The interpreter has written the byte already. Who signals again does not want to wait.
        now = self._clock.monotonic()
        if self._first_signal is None:
            self._first_signal = (number, now)
            return
        first, came = self._first_signal
        if number != first or now - came > _ECHO:
            os._exit(128 + number)
