"""The one connection that writes, in transactions that many callers share.

``synchronous`` is NORMAL on the connection, so that COMMIT itself does not wait for the disk
while it holds the write lock. What ``synchronous=FULL`` would do there, syncing the WAL, is done
after it by :class:`~store.sqlite.durability.Durability`, outside of the lock: one ``fdatasync``
covers every commit before it, and the next transaction runs meanwhile.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, cast

import apsw

from store.combiner import Combiner, Ticket, fail_all
from store.errors import OutcomeUnknown, StoreError, StoreUnavailable
from store.leases import LeaseBook
from store.sqlite.condition import Condition
from store.sqlite.durability import Durability
from store.sqlite.errors import translate, translate_commit
from store.sqlite.session import Session
from store.tally import Delta, Tally
from store.wall_clock import Moment

Result = TypeVar("Result")


class Transaction(Session):
    """What an operation works with. It writes to the database first and to memory last."""

    def __init__(self, connection: apsw.Connection, leases: LeaseBook, moment: Moment) -> None:
        super().__init__(connection)
        #: The time, for all of it.
        self.now: datetime = moment.now
        #: How the wall clock is set, for all of it.
        self.setting: int = moment.setting
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
    """A piece of a transaction, as asked for by one caller. It may be run again after a rollback."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments


class SqliteWriter:
    """Runs operations in shared transactions. Safe to use from any thread."""

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        write_lock: threading.Lock,
        condition: Condition,
        durability: Durability,
        leases: LeaseBook,
        tally: Tally,
        look: Callable[[], Moment],
        begin: Callable[[Transaction], None],
    ) -> None:
        """``write_lock`` guards ``connection`` and ``leases``; others take it to hold up the writers.

        ``look`` tells the time of a transaction, ``begin`` is the first thing in it.
        """
        self._connection = connection
        self._write_lock = write_lock
        self._condition = condition
        self._durability = durability
        self._leases = leases
        self._tally = tally
        self._look = look
        self._begin = begin
        # Those who wait for the disk form a line of their own: while it works for the ones before
        # them, the others' transactions go on, and theirs becomes one large one.
        self._quick: Combiner[Operation] = Combiner(self._commit)
        self._durable: Combiner[Operation] = Combiner(self._commit_and_sync)

    def run(self, function: Callable[..., Result], *arguments: object, durable: bool) -> Result:
        """Run ``function(transaction, *arguments)`` in a transaction and commit it.

        With ``durable``, return only when the commit survives a power cut. What the function
        raises is raised here, and its writes are undone, its neighbours' are not.
        """
        line = self._durable if durable else self._quick
        return cast(Result, line.run(Operation(function, arguments)))

    def with_leases(self, function: Callable[[LeaseBook], Result]) -> Result:
        """Call ``function`` with the leases, between two transactions."""
        with self._write_lock:
            self._condition.check()
            return function(self._leases)

    def _commit_and_sync(self, batch: list[Ticket[Operation]]) -> None:
        self._commit(batch)
        try:
            # For refusals, too: "the job is completed" tells an outcome.
            self._durability.sync_what_was_read()
        except StoreError as error:
            # Whatever kept it from being synced, it is committed: nobody may be told that it is not.
            committed = [ticket for ticket in batch if not isinstance(ticket.error, StoreUnavailable)]
            fail_all(committed, OutcomeUnknown(f"it was written, but it is unknown whether that holds: {error}"))

    def _commit(self, batch: list[Ticket[Operation]]) -> None:
        """Commit all together or, when one of them was refused and undid it all, each by itself.

        The file's or the disk's troubles concern all of them, and a second try would only make
        everybody wait once more.
        """
        with self._write_lock:
            error = self._commit_together(batch)
            if error is None:
                return
            if len(batch) == 1 or isinstance(error, StoreUnavailable):
                fail_all(batch, error)
                return
            for ticket in batch:
                ticket.error = self._commit_together([ticket])

    def _commit_together(self, batch: list[Ticket[Operation]]) -> BaseException | None:
        leases = self._leases.copy()
        try:
            self._condition.check()
            self._condition.check_log()
            self._run_transaction(batch)
        except BaseException as error:  # noqa: BLE001 - it belongs to the callers, whatever it is
            self._leases.restore(leases)
            self._durability.rolled_back()
            self._roll_back()
            return self._translated(error) if isinstance(error, apsw.Error) else error
        return None

    def _translated(self, error: apsw.Error) -> StoreError:
        translated = translate(error)
        if isinstance(translated, OutcomeUnknown):
            self._condition.fail(translated)
        self._condition.in_trouble |= isinstance(translated, StoreUnavailable)
        return translated

    def _run_transaction(self, batch: list[Ticket[Operation]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(self._connection, self._leases, self._look())
        self._begin(transaction)
        for ticket in batch:
            operation = ticket.request
            ticket.result = operation.function(transaction, *operation.arguments)
        if transaction.needs_sync:
            self._durability.committing()
        try:
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            translated = translate_commit(error)
            if isinstance(translated, OutcomeUnknown):
                self._condition.fail(translated)
            self._condition.in_trouble |= isinstance(translated, StoreUnavailable)
            raise translated from error
        self._durability.committed()
        self._tally.apply(transaction.deltas)
        transaction.committed()

    def _roll_back(self) -> None:
        # A closed store has no connection; and after some errors SQLite has undone it all by itself.
        if self._condition.closed or not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            self._condition.fail(OutcomeUnknown(f"a transaction could not be undone: {error}"))
