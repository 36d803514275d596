"""What handlers must leave as they found it, since the next one runs in the same process."""

import os
import resource
import signal
import threading
from collections.abc import Sequence

#: Those that handlers set, or that programs inherit when they are ignored.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD)
_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_CPU)


class Surroundings:
    """What the system keeps for a process and a handler may have changed. Looking takes some 5 microseconds.

    What handlers change in Python's modules is not looked for: some of it is there on purpose.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        """What there is now is as it should be. ``descriptors``: those that must stay open."""
        self._descriptors = descriptors
        self._threads = threading.active_count()
        self._before = self._look()

    def are_as_before(self) -> bool:
        """Whether all is as it was."""
        try:
            # Fewer are none that a handler left: a module of handlers may have one that ends.
            return threading.active_count() <= self._threads and self._look() == self._before
        except Exception:  # noqa: BLE001 - a descriptor is closed, or a signal's handler raises when it is compared
            return False

    def _look(self) -> tuple[object, ...]:
        umask = os.umask(0o077)  # There is no other way to read it.
        os.umask(umask)
        directory = os.stat(".")  # noqa: PTH116 - no path is meant, and it need not have a name any more
        return (
            umask,
            directory.st_dev,
            directory.st_ino,
            # Raises if it is closed.
            *map(os.get_inheritable, self._descriptors),
            *map(signal.getsignal, _SIGNALS),
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            signal.getitimer(signal.ITIMER_REAL),
            *map(resource.getrlimit, _LIMITS),
            os.getpriority(os.PRIO_PROCESS, 0),
        )
