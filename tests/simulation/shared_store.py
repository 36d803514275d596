"""The model store: the memory store, as if several instances shared it, and each one's way to it."""

import random
from collections.abc import Callable
from typing import Any, Protocol

from store.errors import OutcomeUnknown, StoreClosed, StoreUnavailable
from store.memory import MemoryStore
from store.protocol import Recovery
from tests.simulation.scheduler import Killed, Scheduler
from tests.simulation.task import Process

#: Seconds between two looks of the housekeeping at whether the store has failed.
_MAINTENANCE = 5.0
#: What a store that has failed still does.
_READS = frozenset({"get_job", "list_jobs", "list_attempts", "list_log", "count_jobs", "count_queues", "is_paused"})


class SharedStore(MemoryStore):
    """What one instance ran is not taken back when another one starts: its leases must run out first."""

    def recover(self, *, solo_limit: int) -> Recovery:
        return Recovery(self.release_expired().crashed, [])


class Watcher(Protocol):
    """Sees every operation."""

    def look(self, process: Process, operation: str, arguments: tuple[Any, ...]) -> None:
        """Called after each operation, before anything else happens."""
        ...


class Faults:
    """How likely what goes wrong is at each operation."""

    def __init__(self, rng: random.Random, *, crash: float, outage: float, unknown: float, interruption: float) -> None:
        self.rng = rng
        #: The process dies just before or after it.
        self.crash = crash
        #: The store cannot be reached.
        self.outage = outage
        #: Whether it was done is not known, and never will be by this process.
        self.unknown = unknown
        #: A submission has been stored, and in this moment the instance is to stop.
        self.interruption = interruption

    def stop(self) -> None:
        """Let nothing go wrong from now on."""
        self.crash = self.outage = self.unknown = self.interruption = 0.0


class InstanceStore:
    """One instance's way to the store. Each operation is atomic; before and after it anything may happen."""

    def __init__(
        self,
        store: MemoryStore,
        scheduler: Scheduler,
        process: Process,
        watcher: Watcher,
        faults: Faults,
        *,
        on_trouble: Callable[[Process], None],
        on_failure: Callable[[Process], None],
        on_interruption: Callable[[], None],
    ) -> None:
        """``on_trouble`` hears of each operation that is refused, ``on_failure`` when all are from now on.

        ``on_interruption`` keeps the thread of a submission that has just been stored, and stops the instance.
        """
        self._store = store
        self._scheduler = scheduler
        self._process = process
        self._watcher = watcher
        self._faults = faults
        self._on_trouble = on_trouble
        self._on_failure = on_failure
        self._on_interruption = on_interruption
        self._closed = False
        self._failed = False

    def close(self) -> None:
        """Refuse whatever comes later; the other instances go on."""
        self._closed = True

    def maintain(self) -> float:
        self._scheduler.step()
        if self._failed:
            raise OutcomeUnknown
        return _MAINTENANCE

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._store, operation)

        def call(*arguments: Any, **options: Any) -> Any:
            self._before(operation)
            try:
                return method(*arguments, **options)
            finally:
                self._watcher.look(self._process, operation, arguments)
                self._after(operation)

        setattr(self, operation, call)
        return call

    def _before(self, operation: str) -> None:
        self._scheduler.step()
        if self._closed:
            raise StoreClosed
        self._maybe_crash()
        # A start that cannot reach the store ends the process; that is of no interest here.
        fails = self._failed and operation not in _READS
        if fails or (operation != "recover" and self._happens(self._faults.outage)):
            self._on_trouble(self._process)
            raise StoreUnavailable
        if operation not in _READS and operation != "recover" and self._happens(self._faults.unknown / 2):
            self._fail()

    def _after(self, operation: str) -> None:
        self._maybe_crash()
        if operation not in _READS and operation != "recover" and self._happens(self._faults.unknown / 2):
            self._fail()
        self._scheduler.step()
        if operation == "create_jobs" and self._happens(self._faults.interruption):
            self._on_interruption()

    def _fail(self) -> None:
        self._failed = True
        self._on_failure(self._process)
        raise OutcomeUnknown

    def _maybe_crash(self) -> None:
        if self._happens(self._faults.crash):
            self._scheduler.kill(self._process)
            raise Killed

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._faults.rng.random() < probability
