"""The log lines and the progress of a running attempt that are not stored yet."""

import threading
from collections import deque
from datetime import datetime

import msgspec

from store.job import NewLogLine, Progress
from store.protocol import LOG_LINES
from worker.text import cut

#: Characters of one line, and of the message of a progress.
MAX_LINE = 8192


class Unsaved(msgspec.Struct, frozen=True):
    """What was taken from the notes of an attempt, to be stored."""

    lines: tuple[NewLogLine, ...] = ()
    #: How many lines came before these and were left out.
    skipped: int = 0
    #: None if the attempt said nothing new of it.
    progress: Progress | None = None


class Notes:
    """Log lines and progress of one attempt, until the recorder or the outcome takes them along.

    The lines are a ring: a handler that logs faster than its lines can be stored loses the oldest,
    never memory, and they are counted.
    """

    __slots__ = ("_attempt", "_lines", "_lock", "_progress", "_skipped", "used")

    def __init__(self, attempt: int, keep: int = LOG_LINES) -> None:
        """``keep``: how many lines wait to be taken at most; more than a job's log keeps are not needed."""
        self._attempt = attempt
        self._lock = threading.Lock()
        # guards: everything below
        self._lines: deque[NewLogLine] = deque(maxlen=keep)
        self._skipped = 0
        self._progress: Progress | None = None
        #: Whether the attempt ever said anything.
        self.used = False

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._lines) or self._progress is not None

    def log(self, time: datetime, level: str, text: str) -> None:
        """Keep a line, in place of the oldest if there are too many."""
        line = NewLogLine(time, self._attempt, level, cut(text, MAX_LINE))
        with self._lock:
            self.used = True
            self._skipped += len(self._lines) == self._lines.maxlen
            self._lines.append(line)

    def progress(self, fraction: float, message: str) -> None:
        """Keep the progress in place of the one before."""
        progress = Progress(fraction, cut(message, MAX_LINE))
        with self._lock:
            self.used = True
            self._progress = progress

    def take(self) -> Unsaved:
        """Everything that nobody has taken yet."""
        with self._lock:
            taken = Unsaved(tuple(self._lines), self._skipped, self._progress)
            self._lines.clear()
            self._skipped, self._progress = 0, None
        return taken

    def put_back(self, taken: Unsaved) -> None:
        """Undo a ``take`` whose notes could not be written."""
        with self._lock:
            lines = [*taken.lines, *self._lines]
            self._lines.clear()
            self._lines.extend(lines)
            # If lines were skipped since the take, the ring is full, and all that was taken is skipped, too.
            self._skipped += taken.skipped + len(lines) - len(self._lines)
            self._progress = self._progress or taken.progress
