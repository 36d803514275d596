"""What becomes of copies of this process, which handlers fork off: they are not the service."""

import os
import signal
import socket
import threading
from contextlib import suppress

from app.signals import SIGNALS


class Copies:
    """Takes from each copy what only the service may have; what the copy does is the handler's business.

    A copy has our way to hear of signals, so that the end of the copy would end the service, too:
    multiprocessing ends its processes by SIGTERM. And for as long as a copy lives that has our
    listening socket, no other service could have the port.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        # The signals that the thread which forks had blocked.
        self._masks = threading.local()

    def watch(self) -> None:
        """Do so from now on, for the rest of the process's life."""
        os.register_at_fork(
            before=self._hold_signals, after_in_parent=self._release_signals, after_in_child=self._become_ordinary
        )

    def _hold_signals(self) -> None:
        # One that came to the copy before it is ordinary would be taken for ours.
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def _release_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _become_ordinary(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        with suppress(OSError):  # A handler has closed it.
            os.close(self._listener.detach())
        self._release_signals()
