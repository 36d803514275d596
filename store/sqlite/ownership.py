"""What makes one process the owner of a database file."""

import contextlib
import fcntl
import os
import struct
import weakref
from pathlib import Path

from store.errors import CannotOpenStore, StoreInUse

#: Bytes: the index (``-shm``) of a WAL of 64 MiB in pages of 2 KiB; 32 KiB for each 4,096 of them, and for the header.
_INDEX_SIZE = 9 * 32 * 1_024
#: Stands in the lock file of a database that its last owner found damaged.
_DAMAGED = b"damaged\n"
#: Where SQLite locks a database, and its index, for as long as a connection has them open: first byte, and how many.
#: Whoever gets these bytes for itself takes the files for left: it clears the index, or deletes the log (os_unix.c).
_SHARED_LOCK = (0x4000_0002, 510)
_INDEX_LOCK = (128, 1)


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
        self._log: Path | None = None
        # What must stay what it was as long as the store is open: descriptors with locks, and the names of files.
        self._held: dict[int, os.stat_result] = {}
        self._named: dict[Path, os.stat_result] = {}
        with contextlib.ExitStack() as undo:
            self._lock_file = self._open(database.with_name(database.name + ".lock"), undo)
            self._lock(self._lock_file)
            # flock() and SQLite's POSIX locks do not know of each other. But a close of the
            # database would drop SQLite's, so this descriptor outlives every connection.
            self._database_file = self._open(database, undo)
            self._lock(self._database_file)
            #: The last owner met something in the file that cannot be right.
            self.was_damaged = os.pread(self._lock_file, 64, 0).endswith(_DAMAGED)
            self._write_lock_file(_DAMAGED if self.was_damaged else b"")
            undo.pop_all()
        _watch_copies(self)

    def find_loss(self) -> str | None:
        """How a file was lost, if one was: what is written to it now is gone with the process, or another's."""
        if not self._has_its_files():
            return f"descriptors of {self._database} were closed by somebody else, such as a handler"
        for path, identity in self._named.items():
            if how := _loss(path, identity, may_be_empty=path == self._log):
                return f"{path} was {how} while it was in use"
        return None

    def _has_its_files(self) -> bool:
        """Whether the descriptors with the locks are still what they were."""
        try:
            return all(os.path.samestat(os.fstat(descriptor), before) for descriptor, before in self._held.items())
        except OSError:
            return False

    def disown(self) -> None:
        """In a copy of the process that owns the database: keep nobody from it who comes after the owner.

        A copy has the same locks, and they hold until it has ended, too. The owner keeps them.
        """
        self._close_all()

    def hold(self, log: Path) -> None:
        """Keep the write-ahead log from being deleted by who believes that nobody has the database open.

        It and its index exist now, and every connection that is to stay. SQLite's locks are POSIX locks, which belong
        to the process: another SQLite in it, such as Python's, does not meet them, and whoever closes one of the files
        in it drops them. These belong to our descriptors, and are no more than what any connection has. On a system
        without such locks, the loss is noticed all the same (``find_loss``).
        """
        self._log, index = log, self._database.with_name(f"{self._database.name}-shm")
        self._named |= {path: path.stat() for path in (self._database, log, index)}
        self._lock_open_files(fcntl.F_RDLCK)

    def let_go(self) -> None:
        """Let our last connection find that nobody else has the database open, so that it deletes the log."""
        self._lock_open_files(fcntl.F_UNLCK)

    def _lock_open_files(self, kind: int) -> None:
        places = [(self._database_file, _SHARED_LOCK), (self._index_file, _INDEX_LOCK)]
        for descriptor, (start, length) in places:
            if descriptor is not None:
                # struct flock (fcntl(2)), with a pid of 0.
                lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
                with contextlib.suppress(OSError):
                    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)

    def reserve_index(self) -> None:
        """Have the disk keep room for the WAL's index, which exists now.

        It grows as commits come. Where a full disk refuses that, the commit is in the WAL already,
        and SQLite can no longer say whether it holds; a commit that does not fit into the WAL, it
        just undoes. Closing this file would drop SQLite's locks on it, as with the database.
        """
        with contextlib.suppress(OSError):  # Of a disk that is full already, say: it is only rarely missed.
            self._index_file = os.open(f"{self._database}-shm", os.O_RDWR | os.O_CLOEXEC)
            self._held[self._index_file] = found = os.fstat(self._index_file)
            if found.st_size < _INDEX_SIZE:
                os.posix_fallocate(self._index_file, found.st_size, _INDEX_SIZE - found.st_size)

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
        self._close_all()
        # The numbers may be another file's soon.
        self._index_file, self._database_file, self._lock_file = None, -1, -1
        self._held = {}

    def _close_all(self) -> None:
        if self._index_file is not None:
            _close(self._index_file)
        _close(self._database_file)
        _close(self._lock_file)

    def _open(self, path: Path, undo: contextlib.ExitStack) -> int:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotOpenStore(f"cannot open the store {self._database}: {path}: {error.strerror}") from error
        undo.callback(_close, descriptor)
        self._held[descriptor] = os.fstat(descriptor)
        return descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._lock_file, 32, 0).decode("ascii", "replace").partition("\n")[0] or "unknown"
            message = f"the store {self._database} is in use by another process (pid {owner})"
            raise StoreInUse(message) from error


def _loss(path: Path, identity: os.stat_result, *, may_be_empty: bool) -> str | None:
    """What has become of a file, if it is not the one any more that it was."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "deleted or replaced"
    except OSError:  # Who knows; it is asked again soon.
        return None
    if not os.path.samestat(found, identity):
        return "deleted or replaced"
    return None if found.st_size or may_be_empty else "emptied"


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
