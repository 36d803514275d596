"""Keeping jobs: the store is the truth, everything else is a buffer."""

import random
from pathlib import Path

from store.clock import Clock
from store.errors import CannotOpenStore
from store.memory import MemoryStore
from store.protocol import LOG_LINES, JobStore
from store.sqlite import SqliteStore


def check_url(url: str) -> None:
    """Raise CannotOpenStore unless ``url`` is of a form that names a store. Looks at nothing but the text."""
    kind, _, rest = url.partition(":")
    if (kind, bool(rest)) not in {("sqlite", True), ("memory", False)} or ":" not in url:
        raise CannotOpenStore(f"{url!r} names no store; write sqlite:PATH or memory:")


def open_store(url: str, clock: Clock, rng: random.Random, *, log_lines: int = LOG_LINES) -> JobStore:
    """Open the store that ``url`` names: ``sqlite:PATH`` or ``memory:``.

    ``log_lines``: how many lines of a job's log are kept, the newest.

    Raises CannotOpenStore when the URL is of another form or the store cannot be opened.
    """
    check_url(url)
    kind, _, path = url.partition(":")
    if kind == "memory":
        return MemoryStore(clock, rng, log_lines=log_lines)
    return SqliteStore(Path(path), clock, rng, log_lines=log_lines)
