"""Which call to the disk fails, and how."""

import errno
import threading
from collections import Counter
from typing import NamedTuple

#: A write that stores half of what it was given; the one that is to store the rest finds the disk full.
SHORT = -1

#: How each kind of call can fail: numbers of errors (errno(3)), or SHORT.
WAYS: dict[str, tuple[int, ...]] = {
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, SHORT),
    "sync": (errno.EIO, errno.ENOSPC),
    "truncate": (errno.EIO, errno.ENOSPC),
    "open": (errno.EIO, errno.EMFILE, errno.EACCES),
    "lock": (errno.EIO, errno.EAGAIN),
    "unlock": (errno.EIO,),
    "read": (errno.EIO,),
    "map": (errno.ENOMEM,),
    "delete": (errno.EIO,),
    "stat": (errno.EIO,),
    "close": (errno.EIO,),
}


class Fault(NamedTuple):
    """One way in which the disk fails."""

    #: A key of WAYS.
    kind: str
    #: Which call of this kind fails, counted from 1.
    number: int
    #: How.
    error: int
    #: All calls of this kind after it fail, too.
    lasting: bool

    def __str__(self) -> str:
        how = "short write" if self.error == SHORT else errno.errorcode[self.error]
        return f"{self.kind} {self.number} {'and all after it' if self.lasting else 'alone'}: {how}"


class Faults:
    """Counts calls, and says which of them fail. Safe to use from any thread."""

    def __init__(self, fault: Fault | None = None) -> None:
        self._lock = threading.Lock()
        # guards: everything below
        self._fault = fault
        #: How many calls of each kind there were.
        self.counts: Counter[str] = Counter()
        #: How many of them failed.
        self.failed = 0

    def strike(self, kind: str) -> int:
        """A call of this kind is made; the number of the error that it is to fail with, or 0."""
        with self._lock:
            return self._strike_locked(kind)

    def _strike_locked(self, kind: str) -> int:
        self.counts[kind] += 1
        fault = self._fault
        if fault is None or fault.kind != kind:
            return 0
        number = self.counts[kind]
        if number != fault.number and not (fault.lasting and number > fault.number):
            # The rest of what a short write has left.
            return errno.ENOSPC if fault.error == SHORT and number == fault.number + 1 else 0
        self.failed += 1
        return fault.error if number == fault.number or fault.error != SHORT else errno.ENOSPC

    def arm(self, fault: Fault) -> None:
        """Count from here on, and have this fault met."""
        with self._lock:
            self._fault, self.counts = fault, Counter()


def every_fault(counts: Counter[str]) -> list[Fault]:
    """Every fault that a run with so many calls can meet."""
    return [
        Fault(kind, number, error, lasting)
        for kind, errors in WAYS.items()
        for number in range(1, counts[kind] + 1)
        for error in errors
        for lasting in (False, True)
    ]
