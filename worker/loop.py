"""The loop behind everything that happens again and again."""

import logging
import threading
from collections.abc import Callable

from store.errors import StoreUnavailable
from worker.store_health import store_reason

log = logging.getLogger(__name__)

#: Seconds of rest after a turn that failed: the first time, and at most.
_FIRST_REST, _LONGEST_REST = 1.0, 5.0


class Loop:
    """A thread that takes turns: one at the start, one when the time has come, one when it is woken.

    ``start``, ``stop``, ``wake`` and ``join`` may be called from any thread, in any order, as often
    as one likes; a stop before the start wins. A turn that raises does not end the loop.
    """

    def __init__(self, name: str, turn: Callable[[], float | None], *, rest: float = 0.0) -> None:
        """``turn`` returns the seconds until the next turn; None means until somebody wakes it.

        ``rest``: seconds that lie between two turns at least, whoever wakes it.
        """
        self.name = name
        #: Why the last turn failed; None if it did not.
        self.failure: str | None = None
        #: Called, with no lock held, with what a turn raised, each time; must not raise.
        self.on_failure: Callable[[BaseException], None] = _nothing
        self._turn = turn
        self._rest = rest
        self._failures = 0
        self._condition = threading.Condition()
        # guards: _thread, _stopping, and _woken but for one read in wake()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._woken = False

    def start(self) -> None:
        """Begin, unless it has begun or was told to stop."""
        with self._condition:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._main, name=self.name, daemon=True)
                thread.start()  # May raise; then it has not begun.
                self._thread = thread

    def wake(self) -> None:
        """Let a turn begin after this call, soon. A turn that is under way does not count."""
        # Cheap when it is called for each job: the flag falls before a turn begins, so a turn
        # that still has to begin will see whatever was done before this call.
        if self._woken:
            return
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def stop(self) -> None:
        """Begin no further turn. Only signals; ``join`` waits."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds for the thread to end; whether none is running."""
        with self._condition:
            thread = self._thread
        if thread is None:
            return True
        if thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def _main(self) -> None:
        rest: float = 0.0
        delay: float | None = 0.0
        while self._wait(rest, delay):
            rest, delay = self._take_turn()

    def _wait(self, rest: float, delay: float | None) -> bool:
        """Sleep for ``rest`` seconds in any case, then on until woken or ``delay`` is over; False: end."""
        with self._condition:
            if rest > 0:
                self._condition.wait_for(lambda: self._stopping, rest)
            left = None if delay is None else max(0.0, delay - rest)
            self._condition.wait_for(lambda: self._stopping or self._woken, left)
            self._woken = False
            return not self._stopping

    def _take_turn(self) -> tuple[float, float | None]:
        """The rest after the turn and the delay until the next one."""
        try:
            delay = self._turn()
        except BaseException as error:  # noqa: BLE001 - a thread must not disappear in silence
            rest = self._note_failure(error)
            return rest, rest
        self._failures, self.failure = 0, None
        return self._rest, delay

    def _note_failure(self, error: BaseException) -> float:
        """Log why a turn failed; return how long to rest."""
        known = self.failure
        if isinstance(error, StoreUnavailable):
            self.failure = store_reason(error)
        else:
            self.failure = f"{self.name}: {type(error).__name__}: {error}"
        self._failures += 1
        if not isinstance(error, StoreUnavailable):
            log.exception("%s: a turn failed; it goes on", self.name)
        elif known != self.failure:  # An outage is told once, not each second.
            log.error("%s: %s; trying again until it works", self.name, self.failure)
        self.on_failure(error)
        return min(_FIRST_REST * 2.0 ** min(self._failures - 1, 10), _LONGEST_REST)


def _nothing(_: BaseException) -> None:
    """Nobody wants to hear of it."""
