"""What makes one process the owner of a database file."""

import fcntl
import os
from pathlib import Path

from store.errors import CannotOpenStore, StoreInUse


class Ownership:
    """Holds ``<database>.lock`` and the database itself, for as long as it lasts.

    The lock file comes first and says who the owner is. It stays behind when the lock ends:
    deleting it would let two processes lock two different files of the same name. The lock on the
    database stops those who delete it all the same, or come through a hard link.
    """

    def __init__(self, database: Path) -> None:
        """Take the locks; creates files that are not there. Raises StoreInUse, CannotOpenStore."""
        self._database = database
        self._lock_file = self._open(database.with_name(database.name + ".lock"))
        try:
            self._lock(self._lock_file)
            # flock() and SQLite's POSIX locks do not know of each other. But a close of the
            # database would drop SQLite's, so this descriptor outlives every connection.
            self._database_file = self._open(database)
            self._identity = os.fstat(self._database_file)
        except BaseException:
            os.close(self._lock_file)
            raise
        try:
            self._lock(self._database_file)
        except BaseException:
            self.release()
            raise
        os.ftruncate(self._lock_file, 0)
        os.pwrite(self._lock_file, f"{os.getpid()}\n".encode(), 0)

    @property
    def is_lost(self) -> bool:
        """Whether the database was deleted or replaced: what is written to it is gone with the process."""
        try:
            return not os.path.samestat(self._database.stat(), self._identity)
        except FileNotFoundError:
            return True

    def release(self) -> None:
        """End the locks, once every connection is closed."""
        os.close(self._database_file)
        os.close(self._lock_file)

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotOpenStore(f"cannot open the store {self._database}: {path}: {error.strerror}") from error

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._lock_file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            message = f"the store {self._database} is in use by another process (pid {owner})"
            raise StoreInUse(message) from error
