"""File descriptors held back for the time when the process has no other left."""

import os
from contextlib import suppress

#: How many; each lets one more client in.
_COUNT = 4


class SpareFiles:
    """Descriptors of nothing. Used by one thread at a time."""

    def __init__(self) -> None:
        """As many are taken as there are."""
        self._descriptors: list[int] = []
        self.refill()

    def release(self) -> bool:
        """Close one, so that there is one to be had; whether there was one."""
        if self._descriptors:
            os.close(self._descriptors.pop())
            return True
        return False

    def refill(self) -> None:
        """Take again what was released, as far as there are any."""
        with suppress(OSError):
            while len(self._descriptors) < _COUNT:
                self._descriptors.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Release all."""
        while self.release():
            pass
