"""The log lines and the progress of a running attempt that are not stored yet."""

import threading
from datetime import datetime

from store.job import LogLine, Progress
from worker.text import cut

#: Lines that one attempt may log; what comes after is left out.
MAX_LINES = 1000
#: Characters of one line, and of the message of a progress.
MAX_LINE = 8192


class Notes:
    """Log lines and progress of one attempt, until the recorder or the outcome takes them along."""

    __slots__ = ("_attempt", "_lines", "_lock", "_logged", "_progress", "used")

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self._lock = threading.Lock()
        # guards: everything below
        self._lines: list[LogLine] = []
        self._logged = 0
        self._progress: Progress | None = None
        #: Whether the attempt ever said anything.
        self.used = False

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._lines) or self._progress is not None

    def log(self, time: datetime, level: str, text: str) -> None:
        """Keep a line, if there were fewer than ``MAX_LINES``."""
        with self._lock:
            self.used = True
            self._logged += 1
            if self._logged <= MAX_LINES:
                self._lines.append(LogLine(time, self._attempt, level, cut(text, MAX_LINE)))
            elif self._logged == MAX_LINES + 1:
                message = f"further lines are left out: an attempt may log {MAX_LINES}"
                self._lines.append(LogLine(time, self._attempt, "warning", message))

    def progress(self, fraction: float, message: str) -> None:
        """Keep the progress in place of the one before."""
        progress = Progress(fraction, cut(message, MAX_LINE))
        with self._lock:
            self.used = True
            self._progress = progress

    def take(self) -> tuple[tuple[LogLine, ...], Progress | None]:
        """Everything that nobody has taken yet."""
        with self._lock:
            taken = tuple(self._lines), self._progress
            self._lines, self._progress = [], None
        return taken

    def put_back(self, lines: tuple[LogLine, ...], progress: Progress | None) -> None:
        """Undo a ``take`` whose notes could not be written."""
        with self._lock:
            self._lines[:0] = lines
            self._progress = self._progress or progress
