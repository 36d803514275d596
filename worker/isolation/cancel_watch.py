"""The child's ear for cancels, and for the end of the service."""

import os
import signal
import struct
import threading

#: A cancel is the number of the attempt that it is for: the child's first is 1.
NUMBER = struct.Struct("<Q")


class CancelWatch:
    """A thread that sets the event of the running attempt when the service says so.

    Not part of the socket for messages: the thread that calls the handlers reads that one, and it
    is spared a second thread in between.
    """

    def __init__(self, pipe: int) -> None:
        """``pipe``: a descriptor; the service holds the other end for as long as it lives."""
        self._pipe = pipe
        self._lock = threading.Lock()
        # guards: everything below
        self._number = 0
        self._told = 0
        self._event = threading.Event()
        # Daemon: it ends with the process.
        self._thread = threading.Thread(target=self._main, name="gofer-child-cancel", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def begin(self, event: threading.Event) -> None:
        """The next attempt begins; ``event`` is to be set when it is told to end."""
        with self._lock:
            self._number += 1
            self._event = event
            is_told = self._told == self._number
        if is_told:  # The cancel was faster than the job.
            event.set()

    def _main(self) -> None:
        while data := os.read(self._pipe, NUMBER.size):
            self._tell(*NUMBER.unpack(data))
        # The service is gone. The kernel kills us then (ChildProcess), where it can; else this does.
        os.killpg(0, signal.SIGKILL)

    def _tell(self, number: int) -> None:
        with self._lock:
            self._told = number
            event = self._event if number == self._number else None
        if event:
            event.set()
