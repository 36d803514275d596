"""Opening the database file: ownership, identity, schema, connections."""

import os
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import apsw

from store.errors import CannotOpenStore, SchemaTooNew, StoreDamaged, StoreError
from store.queries import load_migrations
from store.sqlite.condition import Condition
from store.sqlite.errors import translate, translate_open
from store.sqlite.ownership import Ownership
from store.sqlite.session import Session

#: "GOFR", kept in the file's header: tells our files from other programs' (SQLite file format, 1.3).
_APPLICATION_ID = 0x474F4652
#: Bytes. A commit writes whole pages to the WAL, and a job changes a few bytes in each of several indexes:
#: half of SQLite's default made claim and completion 1.4 times as fast.
_PAGE_SIZE = 2_048
#: Bytes that the WAL's file shrinks to when it starts anew after a burst.
_WAL_LIMIT = 64 * 1024 * 1024
#: Bytes of a file that are written again at a time; SQLite's own VFS takes less than 128 KiB.
_PIECE = 64 * 1024
#: Milliseconds to wait for a person who looks into the file with another program.
_BUSY_TIMEOUT = 1_000


class Database:
    """A database file that this process owns, with its schema in place."""

    def __init__(
        self, path: Path, condition: Condition, *, fsync: Callable[[int], None] = os.fsync, vfs: str | None = None
    ) -> None:
        """Open or create the file. Raises CannotOpenStore and its subclasses; a foreign file stays untouched.

        ``fsync`` and ``vfs``: see :class:`~store.sqlite.store.SqliteStore`.
        """
        self.path = _resolved(path)
        self._fsync = fsync
        self._vfs = vfs
        self._condition = condition
        self._readers: queue.SimpleQueue[Session] = queue.SimpleQueue()
        with self._explained(), ExitStack() as undo:
            #: Tells other processes that the file is taken, and whether it still is the one that was opened.
            self.ownership = Ownership(self.path)
            undo.callback(self.ownership.release)
            condition.on_damage = self.ownership.note_damage
            self._check_header()
            #: The connection that writes.
            self.writer = undo.enter_context(closing(self._connect()))
            self._prepare(self.writer)
            #: The connection that moves the WAL into the database, beside the writer.
            self.checkpointer = undo.enter_context(closing(self._connect()))
            _read_once(self.checkpointer)
            # It does nothing, but is refused if the log, like the file, could be opened for reading only.
            self.checkpointer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            self.ownership.reserve_index()
            self.ownership.hold(self.wal)
            undo.pop_all()

    @property
    def wal(self) -> Path:
        """The write-ahead log; it exists while a connection is open."""
        return self.path.with_name(self.path.name + "-wal")

    @contextmanager
    def reader(self) -> Iterator[Session]:
        """Lend a connection that only reads, for a moment: a read that stays open pins the WAL."""
        self._condition.check_open()
        try:
            session = self._readers.get_nowait()
        except queue.Empty:
            session = self._new_reader()
        try:
            yield session
        except apsw.Error as error:
            raise self._translated(error) from error
        finally:
            self._give_back(session)

    def _translated(self, error: apsw.Error) -> StoreError:
        translated = translate(error)
        if isinstance(translated, StoreDamaged):
            self._condition.fail(translated)
        return translated

    def _give_back(self, session: Session) -> None:
        if self._condition.closed:
            session.connection.close()
        else:
            self._readers.put(session)

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Like ``reader``; all its statements see the same state."""
        with self.reader() as session, session.connection:
            yield session

    def close(self) -> None:
        """Close the connections but ``checkpointer``, whose owner closes it, and give up ownership.

        The last connection folds the WAL into the file.
        """
        self.ownership.let_go()
        while not self._readers.empty():
            self._readers.get().connection.close()
        self.writer.close()
        self.ownership.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what an error means that keeps the store from being opened."""
        try:
            yield
        except apsw.Error as error:
            raise translate_open(self.path, error) from error
        except OSError as error:
            raise CannotOpenStore(f"cannot open the store {self.path}: {error.strerror}") from error

    def _prepare(self, connection: apsw.Connection) -> None:
        self._check_identity(connection)
        connection.pragma("page_size", _PAGE_SIZE)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "normal")  # see the docstring of store.sqlite.writer
        connection.pragma("journal_size_limit", _WAL_LIMIT)
        self._renew_log(connection)
        self._migrate(connection)
        _read_once(connection)
        self._check_damage(connection)
        self._sync_directory()

    def _renew_log(self, connection: apsw.Connection) -> None:
        """Write what an earlier process has left in the log once more, before anything is added to it.

        If its last sync failed, that may be in the machine's memory alone, and Linux takes it for synced from then
        on. Whatever comes behind it in the log would be lost with it, however well that is synced.
        """
        connection.execute("BEGIN IMMEDIATE")  # Nobody else adds to the log meanwhile.
        try:
            log = apsw.VFSFile(self._vfs or "", str(self.wal), [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0])
            try:
                _write_again(log)
            finally:
                log.xClose()
        finally:
            connection.execute("ROLLBACK")

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), vfs=self._vfs)
        if connection.readonly("main"):
            # SQLite says nothing when it could not open the file for writing; a checkpointer like that would be
            # noticed when its log has filled the disk.
            connection.close()
            raise apsw.ReadOnlyError("the file could be opened for reading only")
        connection.set_busy_timeout(_BUSY_TIMEOUT)
        # Checkpoints have their own place; one on the request path costs 100 to 800 ms.
        connection.wal_autocheckpoint(0)
        return connection

    def _new_reader(self) -> Session:
        with ExitStack() as undo:
            try:
                connection = undo.enter_context(closing(self._connect()))
                connection.pragma("query_only", True)
                connection.pragma("cache_size", -512)  # KiB: there may be one for each server thread
            except apsw.Error as error:  # as without a free file descriptor
                raise translate(error) from error
            undo.pop_all()
        return Session(connection)

    def _check_header(self) -> None:
        """Refuse another program's database before SQLite sees it, which would tidy up what that one left beside it.

        SQLite file format, 1.3. Nothing is in our own header yet if all that was ever written is in the WAL.
        """
        header = self.ownership.read_header()
        if not header and self.wal.exists() and self.wal.stat().st_size:
            # SQLite would delete it, as one that somebody has left behind.
            raise CannotOpenStore(
                f"cannot open the store {self.path}: it is empty or new, and {self.wal} beside it holds what was"
                " written to another one; put that one back, or remove this file"
            )
        schema_cookie, application_id = header[40:44], header[68:72]
        if header.startswith(b"SQLite format 3\0") and any(schema_cookie):
            self._check_application(int.from_bytes(application_id, "big"))

    def _check_identity(self, connection: apsw.Connection) -> None:
        if connection.pragma("schema_version"):
            self._check_application(connection.pragma("application_id"))

    def _check_application(self, application_id: int) -> None:
        if application_id != _APPLICATION_ID:
            raise CannotOpenStore(f"cannot open the store {self.path}: it is another program's database")

    def _check_damage(self, connection: apsw.Connection) -> None:
        """Look through a file that the last owner found damaged, before jobs are run from it; that may take a while."""
        if not self.ownership.was_damaged:
            return
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchall()[0]
        if found != "ok":
            first = str(found).splitlines()[-1]
            raise CannotOpenStore(
                f"cannot open the store {self.path}: the database is damaged ({first}); restore a backup of it"
            )
        self.ownership.forget_damage()

    def _migrate(self, connection: apsw.Connection) -> None:
        """Apply the schema's scripts that the file has not seen, each in a transaction with its number."""
        scripts = load_migrations("sqlite")
        version = connection.pragma("user_version")
        if version > len(scripts):
            raise SchemaTooNew(
                f"cannot open the store {self.path}: its schema has version {version}, "
                f"but this Gofer knows versions up to {len(scripts)}; upgrade Gofer"
            )
        for number, script in enumerate(scripts[version:], start=version + 1):
            with connection:
                connection.execute(script)
                connection.pragma("application_id", _APPLICATION_ID)
                connection.pragma("user_version", number)

    def _sync_directory(self) -> None:
        """Make the names of the database and its WAL survive a power cut."""
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_again(file: apsw.VFSFile) -> None:
    size = file.xFileSize()
    for offset in range(0, size, _PIECE):
        file.xWrite(file.xRead(min(_PIECE, size - offset), offset), offset)
    if size:
        file.xSync(apsw.SQLITE_SYNC_NORMAL)


def _read_once(connection: apsw.Connection) -> None:
    """Until its first read a connection has no WAL: no file for it, and checkpoints do nothing."""
    connection.execute("SELECT 1 FROM jobs LIMIT 1").fetchall()


def _resolved(path: Path) -> Path:
    """The file itself, since SQLite puts the WAL beside that and not beside a link to it."""
    try:
        resolved = path.resolve()
        is_directory = resolved.is_dir()
    except OSError as error:
        raise CannotOpenStore(f"cannot open the store {path}: {error.strerror}") from error
    if is_directory:
        raise CannotOpenStore(f"cannot open the store {path}: it is a directory")
    return resolved
