"""Why the store does not work at the moment: what ``/ready`` tells, and what must end the process."""

import threading
from collections.abc import Callable

from store.errors import OutcomeUnknown, StoreUnavailable


class StoreHealth:
    """The last error of each thread that the store fails, until it works again. Safe to use from any thread."""

    def __init__(self, on_fatal: Callable[[OutcomeUnknown], None]) -> None:
        """``on_fatal`` is told, at least once, when only a new start can tell what the store holds."""
        self._on_fatal = on_fatal
        self._lock = threading.Lock()
        # guards: _reasons, _fatal
        self._reasons: dict[str, str] = {}
        # What only a new start mends; it stays.
        self._fatal: str | None = None

    def report(self, source: str, error: StoreUnavailable) -> bool:
        """The store does not work for ``source``; whether that is news."""
        reason = store_reason(error)
        with self._lock:
            is_news = self._reasons.get(source) != reason
            self._reasons[source] = reason
        if is_news:
            self.note_failure(error)
        return is_news

    def note_failure(self, error: BaseException) -> None:
        """Some thread met this error: if it is one that must end the process, see to that."""
        if not isinstance(error, OutcomeUnknown):
            return
        with self._lock:
            self._fatal = self._fatal or store_reason(error)
        self._on_fatal(error)

    def clear(self, source: str) -> None:
        """It works again."""
        with self._lock:
            self._reasons.pop(source, None)

    def first(self) -> str | None:
        """One of the reasons; None if all is well."""
        with self._lock:
            return self._fatal or next(iter(self._reasons.values()), None)


def store_reason(error: StoreUnavailable) -> str:
    """What ``/ready`` says of it."""
    return f"the store does not work: {str(error).rstrip('.')}"
