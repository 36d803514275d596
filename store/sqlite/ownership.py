"""What makes one process the owner of a database file."""

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

from store.errors import CannotOpenStore, StoreInUse

#: Bytes: the index (``-shm``) of a WAL of 64 MiB in pages of 2 KiB; 32 KiB for each 4,096 of them, and for the header.
_INDEX_SIZE = 9 * 32 * 1_024
#: Stands in the lock file of a database that its last owner found damaged.
_DAMAGED = b"damaged\n"


class Ownership:
    """Holds ``<database>.lock`` and the database itself, for as long as it lasts.

    The lock file comes first and says who the owner is. It stays behind when the lock ends:
    deleting it would let two processes lock two different files of the same name. The lock on the
    database stops those who delete it all the same, or come through a hard link.
    """

    def __init__(self, database: Path) -> None:
        """Take the locks; creates files that are not there. Raises StoreInUse, CannotOpenStore, OSError."""
        self._database = database
        self._index_file: int | None = None
        with contextlib.ExitStack() as undo:
            self._lock_file = self._open(database.with_name(database.name + ".lock"), undo)
            self._lock_identity = os.fstat(self._lock_file)
            self._lock(self._lock_file)
            # flock() and SQLite's POSIX locks do not know of each other. But a close of the
            # database would drop SQLite's, so this descriptor outlives every connection.
            self._database_file = self._open(database, undo)
            self._identity = os.fstat(self._database_file)
            self._lock(self._database_file)
            #: The last owner met something in the file that cannot be right.
            self.was_damaged = os.pread(self._lock_file, 64, 0).endswith(_DAMAGED)
            self._write_lock_file(_DAMAGED if self.was_damaged else b"")
            undo.pop_all()
        _watch_copies(self)

    @property
    def loss(self) -> str | None:
        """How the database was lost, if it was: what is written to it now is gone with the process, or another's."""
        if not self._has_its_files():
            return f"descriptors of {self._database} were closed by somebody else, such as a handler"
        try:
            if os.path.samestat(self._database.stat(), self._identity):
                return None
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:  # Who knows; it is asked again soon.
            return None
        return f"{self._database} was deleted or replaced while it was in use"

    def _has_its_files(self) -> bool:
        """Whether the descriptors with the locks are still what they were."""
        pairs = [(self._lock_file, self._lock_identity), (self._database_file, self._identity)]
        try:
            return all(os.path.samestat(os.fstat(descriptor), before) for descriptor, before in pairs)
        except OSError:
            return False

    def disown(self) -> None:
        """In a copy of the process that owns the database: keep nobody from it who comes after the owner.

        A copy has the same locks, and they hold until it has ended, too. The owner keeps them.
        """
        _close(self._lock_file)
        _close(self._database_file)

    def reserve_index(self) -> None:
        """Have the disk keep room for the WAL's index, which exists now.

        It grows as commits come. Where a full disk refuses that, the commit is in the WAL already,
        and SQLite can no longer say whether it holds; a commit that does not fit into the WAL, it
        just undoes. Closing this file would drop SQLite's locks on it, as with the database.
        """
        with contextlib.suppress(OSError):  # Of a disk that is full already, say: it is only rarely missed.
            self._index_file = os.open(f"{self._database}-shm", os.O_RDWR | os.O_CLOEXEC)
            size = os.fstat(self._index_file).st_size
            if size < _INDEX_SIZE:
                os.posix_fallocate(self._index_file, size, _INDEX_SIZE - size)

    def read_header(self) -> bytes:
        """The first 100 bytes of the database."""
        return os.pread(self._database_file, 100, 0)

    def note_damage(self) -> None:
        """Have the next owner look through the whole file before it uses it."""
        # Without it, the next owner meets the damage where this one did.
        with contextlib.suppress(CannotOpenStore):
            self._write_lock_file(_DAMAGED)

    def forget_damage(self) -> None:
        """The file is in order, such as after a backup was restored."""
        self._write_lock_file(b"")

    def _write_lock_file(self, remark: bytes) -> None:
        content = f"{os.getpid()}\n".encode() + remark
        try:
            # Not the other way round: on a full disk, what was given up might not be had again.
            os.pwrite(self._lock_file, content, 0)
            os.ftruncate(self._lock_file, len(content))
        except OSError as error:
            raise CannotOpenStore(f"cannot open the store {self._database}: {error.strerror}") from error

    def release(self) -> None:
        """End the locks, once every connection is closed."""
        if self._index_file is not None:
            _close(self._index_file)
        _close(self._database_file)
        _close(self._lock_file)
        # The numbers may be another file's soon.
        self._database_file = self._lock_file = -1

    def _open(self, path: Path, undo: contextlib.ExitStack) -> int:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotOpenStore(f"cannot open the store {self._database}: {path}: {error.strerror}") from error
        undo.callback(_close, descriptor)
        return descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._lock_file, 32, 0).decode("ascii", "replace").partition("\n")[0] or "unknown"
            message = f"the store {self._database} is in use by another process (pid {owner})"
            raise StoreInUse(message) from error


def _close(descriptor: int) -> None:
    """Linux has closed it whatever it says, and nobody misses what was written through it."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _watch_copies(ownership: Ownership) -> None:
    """Have copies of the process, which handlers fork off, own nothing."""
    # Weak, for there is no way to take it back.
    owner = weakref.ref(ownership)

    def disown() -> None:
        if found := owner():
            found.disown()

    os.register_at_fork(after_in_child=disown)
