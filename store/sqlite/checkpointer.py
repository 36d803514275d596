"""Moving what the write-ahead log holds into the database, away from the path of requests."""

import threading

import apsw

from store.errors import OutcomeUnknown, StoreError
from store.sqlite.condition import Condition
from store.sqlite.errors import translate_commit

#: Frames (pages of 2 KiB) from which on a checkpoint is worth its while: 4 MiB.
_WORTHWHILE = 2_000
#: Frames from which on the log is to start anew: 32 MiB.
_RESTART = 16_000
#: Frames at which the log takes no more: 1 GiB. It only comes that far while a reader stays in it.
_FULL = 524_288
#: Passes that are tried until little is left for the one that holds the writers up.
_PASSES = 5


class Checkpointer:
    """Owns a connection of its own. ``checkpoint`` and ``close`` may be called from any thread."""

    def __init__(self, connection: apsw.Connection, write_lock: threading.Lock, condition: Condition) -> None:
        """``write_lock`` holds up the writers; it is taken after this object's own lock."""
        self._connection = connection
        self._write_lock = write_lock
        self._condition = condition
        #: Frames in the log, as the last commit left it; a hint.
        self.frames = 0
        self._lock = threading.Lock()
        # guards: _connection, _moved
        # Frames of this log that are in the database already.
        self._moved = 0

    def checkpoint(self) -> None:
        """Checkpoint if it is worth it.

        The long part runs beside readers and writers. Under constant load there are always frames
        that came meanwhile, and the log could never start anew; so once it is long, the last few
        are moved with the writers held up, and their next transaction begins at the log's start.
        Raises StoreUnavailable; OutcomeUnknown when the disk fails, and then the store has failed.
        """
        self._condition.check()
        with self._lock:
            worthwhile = self._condition.log_is_full or self._backlog() >= _WORTHWHILE
            if self._condition.closed or not worthwhile:
                return
            try:
                self._move_all()
            except apsw.Error as error:
                raise self._translated(error) from error

    def close(self) -> None:
        """Wait for a checkpoint that is under way, and close the connection."""
        with self._lock:
            self._connection.close()

    def _backlog(self) -> int:
        return self.frames - self._moved if self.frames >= self._moved else self.frames

    def _move_all(self) -> None:
        total = self._move()
        for _ in range(_PASSES):
            if self._backlog() < _WORTHWHILE:
                break
            total = self._move()
        if total >= _RESTART:
            with self._write_lock:
                total = self._move()
        # With everything moved, it starts anew with the next transaction.
        self._condition.log_is_full = total >= _FULL and self._moved < total

    def _move(self) -> int:
        """One pass; return how many frames the log had when it began."""
        total, self._moved = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return total

    def _translated(self, error: apsw.Error) -> StoreError:
        translated = translate_commit(error)
        if isinstance(translated, OutcomeUnknown):
            self._condition.fail(translated)
        return translated
