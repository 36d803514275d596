"""What survives a power cut: syncing the write-ahead log, and knowing which commits that covered."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from store.combiner import Combiner, Ticket, fail_all
from store.errors import OutcomeUnknown, StoreError
from store.sqlite.condition import Condition

#: How every write-ahead log begins (SQLite file format, 4.1), whatever the byte order of its checksums.
_LOG_HEAD = b"\x37\x7f\x06"


class Durability:
    """Counts commits, and syncs the log for everybody who waits. Safe to use from any thread.

    ``committing``, ``committed`` and ``rolled_back`` belong to the thread that holds the write lock.
    """

    def __init__(
        self, wal: Path, condition: Condition, fdatasync: Callable[[int], None], find_loss: Callable[[], str | None]
    ) -> None:
        """``wal`` exists. Its descriptor here does no harm: SQLite keeps no POSIX locks on it.

        ``find_loss`` says how the files were lost, if they were: a sync of a file that was deleted succeeds.
        """
        #: Something has been written to the log since it was opened; so if it is not empty, it has its header.
        self.has_log = False
        self._condition = condition
        self._fdatasync = fdatasync
        self._find_loss = find_loss
        # The number of the newest commit; a reader that sees an older one syncs once more.
        self._committed = 0
        # The newest commit that readers wait for. Set before the commit can be seen.
        self._awaited = 0
        self._lock = threading.Lock()
        # guards: _descriptor, _synced (which may be read without it)
        self._descriptor = os.open(wal, os.O_RDWR | os.O_CLOEXEC)
        self._synced = 0
        self._syncs: Combiner[None] = Combiner(self._sync_batch)

    def committing(self) -> None:
        """The commit that comes next holds something that nobody may read before it is synced."""
        self._awaited = self._committed + 1

    def committed(self) -> None:
        """The commit succeeded."""
        self._committed += 1

    def rolled_back(self) -> None:
        """There was no commit."""
        self._awaited = min(self._awaited, self._committed)

    def sync_what_was_read(self) -> None:
        """Return once everything that the caller may have read or written survives a power cut.

        Raises OutcomeUnknown when the disk fails, and the other errors of :meth:`Condition.check`.
        """
        # A fixed target: under load there is always a newer commit, and nobody would ever get away.
        # But it falls when the commit that was aimed at is rolled back.
        target = self._awaited
        while self._synced < min(target, self._awaited):
            self._syncs.run(None)

    def close(self) -> None:
        """Sync for the last time and close the log. Raises OutcomeUnknown; it is closed then, too."""
        with self._lock:
            try:
                if not self._condition.failed:
                    self._sync()
            finally:
                with contextlib.suppress(OSError):  # What was written is synced by now, or the failure told.
                    os.close(self._descriptor)

    def _sync_batch(self, batch: list[Ticket[None]]) -> None:
        try:
            with self._lock:
                self._condition.check()
                covers = self._committed
                self._sync()
                self._synced = covers
        except OutcomeUnknown as error:
            self._condition.fail(error)
            fail_all(batch, error)
        except StoreError as error:
            fail_all(batch, error)

    def _sync(self) -> None:
        try:
            self._fdatasync(self._descriptor)
            head = os.pread(self._descriptor, len(_LOG_HEAD), 0)
        except OSError as error:
            raise _unknown(error) from error
        loss = self._find_loss()
        # A checkpoint may have emptied it; then what is written next begins with a header.
        if self.has_log and head not in (b"", _LOG_HEAD):
            loss = loss or "the write-ahead log was emptied by somebody else while it was in use"
        if loss:
            raise OutcomeUnknown(loss)


def _unknown(error: OSError) -> OutcomeUnknown:
    return OutcomeUnknown(f"the disk could not say whether the write holds: {error.strerror}")
