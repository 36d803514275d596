"""Every store that the suite holds to the contract: one line for each."""

import random
from pathlib import Path
from typing import Protocol

from store.clock import Clock
from store.protocol import LOG_LINES, JobStore


class Opener(Protocol):
    """Opens the store that lives in a directory."""

    def __call__(self, directory: Path, /, clock: Clock, rng: random.Random, *, log_lines: int = ...) -> JobStore: ...


def _memory(_: Path, /, clock: Clock, rng: random.Random, *, log_lines: int = LOG_LINES) -> JobStore:
    from store.memory import MemoryStore

    return MemoryStore(clock, rng, log_lines=log_lines)


def _sqlite(directory: Path, /, clock: Clock, rng: random.Random, *, log_lines: int = LOG_LINES) -> JobStore:
    from store.sqlite import SqliteStore

    return SqliteStore(directory / "gofer.db", clock, rng, log_lines=log_lines)


#: By name. They import late, so that one store's tests need no other store.
EVERY_STORE: dict[str, Opener] = {
    "memory": _memory,
    "sqlite": _sqlite,
}

#: Stores whose jobs are still there when they are opened again.
PERSISTENT = frozenset(EVERY_STORE) - {"memory"}
