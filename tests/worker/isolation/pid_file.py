"""Reads the files in which handlers leave the numbers of their processes."""

from pathlib import Path

from tests.eventually import eventually

#: Seconds that an attempt may take on a busy machine, the start of its process included.
PATIENCE = 20.0


def pids_in(path: Path) -> list[int]:
    """The numbers that a handler has written, once it has."""
    return eventually(lambda: [int(word) for word in path.read_text().split()] if path.exists() else [], PATIENCE)
