"""The one connection that writes: transactions that many callers share, and the disk behind them.

``synchronous`` is NORMAL on the connection, so that COMMIT itself does not wait for the disk
while it holds the write lock. What ``synchronous=FULL`` would do there, syncing the WAL, is done
right after it by :meth:`SqliteWriter.sync`, outside of the lock: one ``fdatasync`` covers every
commit before it, and the next transaction runs meanwhile. A durable operation returns only after
that.
"""

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import apsw

from store.combiner import Combiner, Ticket
from store.errors import GoferError, OutcomeUnknown, StoreClosed, StoreError
from store.leases import LeaseBook
from store.sqlite.database import Database
from store.sqlite.errors import translate, translate_commit
from store.sqlite.session import Session
from store.tally import Delta, Tally

Result = TypeVar("Result")

#: Frames (pages) in the WAL from which on a checkpoint is worth its while: 4 MiB.
_CHECKPOINT_FROM = 2_000
#: Frames from which on the writers are held up for a moment so that the WAL can start anew (32 MiB):
#: under constant load there are always frames that came during the checkpoint.
_RESTART_FROM = 16_000


class Transaction(Session):
    """What an operation works with. It writes to the database first and to memory last."""

    def __init__(self, connection: apsw.Connection, leases: LeaseBook) -> None:
        super().__init__(connection)
        #: Put back as they were if the commit fails.
        self.leases = leases
        #: What the commit changes in the numbers of jobs.
        self.deltas: list[Delta] = []
        #: The commit holds more than claims: whoever reads it waits until it is synced.
        self.needs_sync = False
        self._on_commit: list[Callable[[], None]] = []

    def on_commit(self, change: Callable[[], None]) -> None:
        """Have ``change`` applied to memory when, and only when, the commit succeeded."""
        self._on_commit.append(change)

    def committed(self) -> None:
        """Apply what was to be applied on commit."""
        for change in self._on_commit:
            change()


class Operation:
    """A piece of a transaction, as asked for by one caller."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments


class SqliteWriter:
    """Runs operations in shared transactions. Safe to use from any thread."""

    def __init__(
        self,
        database: Database,
        leases: LeaseBook,
        tally: Tally,
        fdatasync: Callable[[int], None],
    ) -> None:
        """Write to ``database``, which has been read from, so that its WAL exists."""
        self._database = database
        self._connection = database.writer
        self._leases = leases
        self._tally = tally
        self._fdatasync = fdatasync
        # The WAL carries no POSIX locks, so that a descriptor of our own does no harm.
        self._wal_descriptor = os.open(database.wal, os.O_RDWR | os.O_CLOEXEC)
        self._write_lock = threading.Lock()
        # guards: _connection, _leases, _commits, _wal_frames
        self._commits = 0
        self._wal_frames = 0
        # Written by the thread that leads a sync only; an int is read as a whole.
        self._synced = 0
        # The newest commit that readers wait for; set before it can be seen.
        self._needs_sync = 0
        #: Why nothing can be written any more, if so.
        self._broken: GoferError | None = None
        # Those who wait for the disk form a line of their own: while it works for the ones before
        # them, the others' transactions go on, and theirs becomes one large one.
        self._quick: Combiner[Operation] = Combiner(self._commit)
        self._durable: Combiner[Operation] = Combiner(self._commit_and_sync)
        self._syncs: Combiner[None] = Combiner(self._sync_batch)
        self._connection.set_wal_hook(self._note_wal_size)

    def run(self, function: Callable[..., Result], *arguments: object, durable: bool) -> Result:
        """Run ``function(transaction, *arguments)`` in a transaction and commit it.

        With ``durable``, return only when the commit survives a power cut. What the function
        raises is raised here, and its writes are undone, its neighbours' are not.
        """
        line = self._durable if durable else self._quick
        return cast(Result, line.run(Operation(function, arguments)))

    def sync(self) -> None:
        """Make everything that is committed survive a power cut."""
        self._syncs.run(None)

    def sync_what_was_read(self) -> None:
        """Return once everything that the caller may have read survives a power cut."""
        while self._synced < self._needs_sync:
            self.sync()

    def with_leases(self, function: Callable[[LeaseBook], Result]) -> Result:
        """Call ``function`` with the leases, between two transactions."""
        with self._write_lock:
            self._check_usable()
            return function(self._leases)

    def checkpoint(self) -> None:
        """Move what the WAL holds into the database, when it is worth it.

        The long part runs beside readers and writers; what came in meanwhile is moved with the
        writers held up, so that the next transaction can start the WAL from its beginning.
        """
        if self._wal_frames < _CHECKPOINT_FROM or self._broken is not None:
            return
        try:
            self._move_wal()
            if self._wal_frames >= _RESTART_FROM:
                with self._write_lock:
                    self._move_wal()
        except apsw.Error as error:
            raise self._translated_commit(error) from error

    def _move_wal(self) -> None:
        frames, moved = self._database.checkpointer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if frames == moved:
            self._wal_frames = 0

    def close(self) -> None:
        """Refuse everything from now on, sync, and close. May be called twice."""
        with self._write_lock:
            if isinstance(self._broken, StoreClosed):
                return
            broken, self._broken = self._broken, StoreClosed()
            try:
                if broken is None:
                    self._fdatasync(self._wal_descriptor)
            finally:
                os.close(self._wal_descriptor)
                self._database.close()

    def _check_usable(self) -> None:
        if self._broken is not None:
            raise type(self._broken)(str(self._broken))

    def _note_wal_size(self, _connection: apsw.Connection, _name: str, frames: int) -> int:
        self._wal_frames = frames
        return apsw.SQLITE_OK

    # One transaction for every operation that is in line.

    def _commit_and_sync(self, batch: list[Ticket[Operation]]) -> None:
        self._commit(batch)
        stored = [ticket for ticket in batch if ticket.error is None]
        try:
            if stored:
                self.sync()
        except StoreError as error:
            _fail_all(stored, error)

    def _commit(self, batch: list[Ticket[Operation]]) -> None:
        """Commit all together or, because one of them failed and undid it all, each by itself."""
        with self._write_lock:
            if not self._commit_together(batch) and len(batch) > 1:
                for ticket in batch:
                    ticket.error = None
                    self._commit_together([ticket])

    def _commit_together(self, batch: list[Ticket[Operation]]) -> bool:
        leases = self._leases.copy()
        try:
            self._check_usable()
            self._run_transaction(batch)
        except BaseException as error:  # noqa: BLE001 - it belongs to the callers, whatever it is
            self._leases.restore(leases)
            self._needs_sync = min(self._needs_sync, self._commits)
            self._roll_back()
            _fail_all(batch, translate(error) if isinstance(error, apsw.Error) else error)
            return False
        return True

    def _run_transaction(self, batch: list[Ticket[Operation]]) -> None:
        transaction = Transaction(self._connection, self._leases)
        self._connection.execute("BEGIN IMMEDIATE")
        for ticket in batch:
            operation = ticket.request
            ticket.result = operation.function(transaction, *operation.arguments)
        if transaction.needs_sync:
            self._needs_sync = self._commits + 1
        try:
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            raise self._translated_commit(error) from error
        self._commits += 1
        self._tally.apply(transaction.deltas)
        transaction.committed()

    def _roll_back(self) -> None:
        # After some errors SQLite has undone the transaction by itself; and a closed store has no connection.
        if not isinstance(self._broken, StoreClosed) and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _translated_commit(self, error: apsw.Error) -> StoreError:
        translated = translate_commit(error)
        if isinstance(translated, OutcomeUnknown):
            self._broken = translated
        return translated

    # One fdatasync for every caller that is in line.

    def _sync_batch(self, batch: list[Ticket[None]]) -> None:
        covers = self._commits
        try:
            self._check_usable()
            self._fdatasync(self._wal_descriptor)
            self._synced = covers
        except OSError as error:
            self._broken = OutcomeUnknown(f"the disk could not say whether the write holds: {error.strerror}")
            _fail_all(batch, self._broken)
        except StoreError as error:
            _fail_all(batch, error)


def _fail_all(batch: Sequence[Ticket[Any]], error: BaseException) -> None:
    for ticket in batch:
        ticket.error = error
