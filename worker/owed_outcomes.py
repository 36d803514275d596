"""Outcomes whose threads do not wait for the store any more, and which it has not taken yet."""

import logging
import threading

from store.errors import OutcomeUnknown, StoreUnavailable
from store.transitions import Outcome
from worker.finisher import Finisher
from worker.running import Run

log = logging.getLogger(__name__)


class OwedOutcomes:
    """The watchdog has them written as soon as the store works, a shutdown once more. Safe to use from any thread."""

    def __init__(self, finisher: Finisher) -> None:
        self._finisher = finisher
        self._lock = threading.Lock()
        # guards: _owed
        self._owed: list[tuple[Run, Outcome]] = []

    def add(self, run: Run, outcome: Outcome) -> None:
        """Owe how a run ended, which the caller took."""
        with self._lock:
            self._owed.append((run, outcome))

    def runs(self) -> list[Run]:
        """Those whose ends are not written yet."""
        with self._lock:
            return [run for run, _ in self._owed]

    def write(self) -> None:
        """Have all written, or as many as the store takes. Raises OutcomeUnknown."""
        with self._lock:
            owed, self._owed = self._owed, []
        while owed:
            run, outcome = owed.pop(0)
            try:
                self._finisher.finish(run, outcome)
            except StoreUnavailable as error:
                log.warning("the end of job %s is not stored yet: %s", run.job.id, error)
                # Without a try at the others, each of which might wait as long. The next time it is their turn.
                self._put_back([*owed, (run, outcome)])
                if isinstance(error, OutcomeUnknown):
                    raise
                return
            except Exception:
                log.exception("the end of job %s cannot be stored", run.job.id)

    def _put_back(self, owed: list[tuple[Run, Outcome]]) -> None:
        with self._lock:
            self._owed = owed + self._owed
