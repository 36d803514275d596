"""The lock that makes one process the owner of a database file."""

import fcntl
import os
from pathlib import Path

from store.errors import CannotOpenStore, StoreInUse


class LockFile:
    """Holds ``<database>.lock`` for as long as it is open.

    A file of its own, because locks on the database itself are POSIX locks, which any close of
    that file in this process would drop. It stays behind when the lock ends: deleting it would
    let two processes lock two different files of the same name.
    """

    def __init__(self, database: Path) -> None:
        """Take the lock. Raises StoreInUse, CannotOpenStore."""
        path = database.with_name(database.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotOpenStore(f"cannot open the store {database}: {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StoreInUse(f"the store {database} is in use by another process (pid {owner or 'unknown'})") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """End the lock."""
        os.close(self._descriptor)
