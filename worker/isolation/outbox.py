"""The child's way to the service: what its threads have to say, one message after the other."""

import logging
import os
import socket
import threading
from datetime import datetime

import msgspec

from worker.isolation.messages import Line, Record, Step, framed
from worker.notes import MAX_LINE
from worker.text import clean, cut

#: Speaks while no attempt runs.
_NOBODY = object()

#: Characters that the mark of a cut text may take.
_MARK = 64


class Outbox:
    """Sends messages. Safe to use from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # guards: that messages do not mix, and that no notes of an attempt come after its end
        self._speaker: object = _NOBODY

    def let_speak(self, speaker: object) -> None:
        """An attempt begins: from now on, notes of this speaker are sent."""
        self._speaker = speaker

    def send(self, message: msgspec.Struct, speaker: object = None) -> None:
        """Send a message, unless its speaker has nothing to say any more.

        Nothing is sent by a copy of this process: it would speak in between.
        """
        if os.getpid() != self._pid:
            return  # Before the lock, which a thread may have held that the copy does not have.
        data = framed(message)
        with self._lock:
            if speaker in (None, self._speaker):
                self._connection.sendall(data)

    def send_last(self, message: msgspec.Struct) -> None:
        """Send what an attempt came to; its notes are not sent any more."""
        data = framed(message)
        with self._lock:
            self._speaker = _NOBODY
            self._connection.sendall(data)


class SentNotes:
    """Log lines and progress of one attempt, sent to the service as they come."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        outbox.let_speak(self)

    def log(self, time: datetime, level: str, text: str) -> None:  # noqa: ARG002 - the time it arrives at counts
        """Send a line."""
        self._outbox.send(Line(level, _bounded(text)), self)

    def progress(self, fraction: float, message: str) -> None:
        """Send the progress."""
        self._outbox.send(Step(fraction, _bounded(message)), self)


class RecordSender(logging.Handler):
    """Sends log records to the service, which writes them in its own format."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self._outbox.send(Record(clean(record.name), record.levelno, _bounded(self.format(record))))
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)


def _bounded(text: str) -> str:
    """The text with at most as many characters as the service keeps, the mark of a cut included.

    So the service, which bounds it once more, finds nothing left to cut.
    """
    return clean(text) if len(text) <= MAX_LINE else cut(text, MAX_LINE - _MARK)
