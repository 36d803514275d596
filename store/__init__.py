"""Keeping jobs: the store is the truth, everything else is a buffer."""

import random
from pathlib import Path

from store.clock import Clock
from store.errors import CannotOpenStore
from store.memory import MemoryStore
from store.protocol import JobStore
from store.sqlite import SqliteStore


def open_store(url: str, clock: Clock, rng: random.Random) -> JobStore:
    """Open the store that ``url`` names: ``sqlite:PATH`` or ``memory:``.

    Raises CannotOpenStore when the URL is of another form or the store cannot be opened.
    """
    kind, _, rest = url.partition(":")
    if kind == "sqlite" and rest:
        return SqliteStore(Path(rest), clock, rng)
    if kind == "memory" and not rest:
        return MemoryStore(clock, rng)
    raise CannotOpenStore(f"{url!r} names no store; write sqlite:PATH or memory:")
