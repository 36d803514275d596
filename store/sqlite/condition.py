"""Whether the store can be used: it is open, it failed, or it is closed."""

from collections.abc import Callable

from store.errors import OutcomeUnknown, StoreClosed, StoreDamaged, StoreUnavailable


class Condition:
    """Goes from open to failed or closed, and from failed to closed; never back. Safe to use from any thread."""

    def __init__(self) -> None:
        # Replaced as a whole, so that a look at it needs no lock.
        self._failure: OutcomeUnknown | None = None
        self._closed = False
        #: A write was refused for the disk's or the file's sake, such as by a full disk, and none has been tried since
        #: that shows that it works again. A hint.
        self.in_trouble = False
        #: The write-ahead log has reached its bound and cannot start anew: nothing is added to it until it can.
        self.log_is_full = False
        #: Called when the file turns out to be damaged; must not raise.
        self.on_damage: Callable[[], None] = _nothing

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def failed(self) -> bool:
        """Whether ``fail`` was called."""
        return self._failure is not None

    def check_open(self) -> None:
        """Raise StoreClosed once the store is closed."""
        if self._closed:
            raise StoreClosed

    def check(self) -> None:
        """Raise StoreClosed or, after a failure, StoreUnavailable: nothing was done then."""
        self.check_open()
        if self._failure is not None:
            raise StoreUnavailable(f"nothing is written any more, because the store has failed: {self._failure}")

    def check_log(self) -> None:
        """Raise StoreUnavailable for as long as the write-ahead log is full."""
        if self.log_is_full:
            raise StoreUnavailable(
                "nothing is written, because the write-ahead log has grown to its limit: another program has been"
                " reading the database all the time"
            )

    def check_failure(self) -> None:
        """Raise StoreClosed or, for as long as the store has failed, OutcomeUnknown again and again."""
        self.check_open()
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))

    def fail(self, failure: OutcomeUnknown) -> None:
        """Write nothing any more: only a new process can find out what the disk holds."""
        self._failure = self._failure or failure
        if isinstance(failure, StoreDamaged):
            self.on_damage()

    def close(self) -> None:
        """Use nothing any more."""
        self._closed = True


def _nothing() -> None:
    """Nobody wants to hear of it."""
