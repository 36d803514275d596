"""What the database knows of how the wall clock was set, and the moving of jobs along with it."""

from collections.abc import Sequence

from store.clock import Clock
from store.protocol import Followed
from store.sqlite.rows import to_micros
from store.sqlite.session import Session
from store.sqlite.writer import Transaction
from store.wall_clock import Moment, WallClock

#: Before every job in the order of ``jobs_due``: queue, suspect, priority, run_at, number.
_FIRST = ("", 0, -(2**31), -(2**62), 0)


class ClockSetting:
    """The setting by which jobs are reckoned. Used under the write lock, but for ``peek``.

    Each job carries the setting of its own ``run_at``, so that it does not matter when it is moved,
    whether the process dies meanwhile, or how often the clock is set again. Claims and reservations
    mind what is still to be moved.
    """

    def __init__(self, clock: Clock, reader: Session) -> None:
        """``reader`` shows the database as it was left."""
        row = reader.row("wall_clock")
        assert row is not None
        #: As of the last commit.
        self._stored, _ = row
        self._wall_clock = WallClock(clock, self._stored)
        # Up to here, in the order of jobs_due, jobs are moved.
        self._cursor = _FIRST

    def look(self) -> Moment:
        """The time that a transaction goes by."""
        return self._wall_clock.look()

    def peek(self) -> Moment:
        """The time that a reader goes by."""
        return self._wall_clock.peek()

    def note(self, transaction: Transaction) -> None:
        """Store the setting if it is a new one: the first thing that a transaction does."""
        setting = transaction.setting
        if setting != self._stored:
            transaction.run("set_wall_clock", (setting,))
            transaction.on_commit(lambda: self._begin(setting))

    def _begin(self, setting: int) -> None:
        self._stored, self._cursor = setting, _FIRST

    def follow(self, transaction: Transaction, limit: int) -> Followed:
        """See :meth:`store.protocol.JobStore.follow_clock`."""
        _, is_followed = transaction.rows("wall_clock")[0]
        if is_followed:
            return Followed(0, is_complete=True)
        # Memory does not know yet what this very transaction has noted.
        cursor = self._cursor if transaction.setting == self._stored else _FIRST
        rows = transaction.rows("waiting_jobs", (*cursor, limit))
        moved = self._move(transaction, [row[-1] for row in rows])
        transaction.needs_sync |= moved > 0
        is_complete = len(rows) < limit
        if is_complete:
            transaction.run("note_followed")
        transaction.on_commit(lambda: self._advance(_FIRST if is_complete else rows[-1]))
        return Followed(moved, is_complete=is_complete)

    def _move(self, transaction: Transaction, numbers: Sequence[int]) -> int:
        """How many of these jobs it made a difference for."""
        before, now = transaction.connection.total_changes(), to_micros(transaction.now)
        transaction.run_many("move_job", [(number, transaction.setting, now) for number in numbers])
        return transaction.connection.total_changes() - before

    def _advance(self, cursor: tuple[str, int, int, int, int]) -> None:
        self._cursor = cursor
