"""Every store that the suite holds to the contract: one line for each."""

import random
from collections.abc import Callable
from pathlib import Path

from store.clock import Clock
from store.protocol import JobStore


def _memory(_: Path, clock: Clock, rng: random.Random) -> JobStore:
    from store.memory import MemoryStore

    return MemoryStore(clock, rng)


def _sqlite(directory: Path, clock: Clock, rng: random.Random) -> JobStore:
    from store.sqlite import SqliteStore

    return SqliteStore(directory / "gofer.db", clock, rng)


#: Opens the store that lives in a directory. Imports late, so that one store's tests need no other store.
EVERY_STORE: dict[str, Callable[[Path, Clock, random.Random], JobStore]] = {
    "memory": _memory,
    "sqlite": _sqlite,
}

#: Stores whose jobs are still there when they are opened again.
PERSISTENT = frozenset(EVERY_STORE) - {"memory"}
