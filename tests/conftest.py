"""What holds for every test: it leaves nothing behind."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually

#: Seconds that what a test has told to end may take to be gone.
_PATIENCE = 3.0


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread of ours, a child process or an open file behind.

    A thread that a test has abandoned on purpose must be ended by that test.
    """
    threads, children, files = _threads(), _children(), _files()
    yield
    try:
        eventually(lambda: _threads() <= threads and _children() <= children and _files() <= files, _PATIENCE)
    except AssertionError:
        left = sorted((_threads() - threads) | (_children() - children) | (_files() - files))
        if left:
            pytest.fail(f"left behind: {', '.join(left)}")


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("gofer-")}


def _children() -> set[str]:
    """Child processes of any of our threads; one that has ended and was not waited for counts."""
    found: set[str] = set()
    for tasks in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(f"process {pid}" for pid in tasks.read_text().split())
        except OSError:
            continue  # The thread has ended meanwhile.
    return found


def _files() -> set[str]:
    """Open file descriptors with what they refer to; the one that lists them is not among them."""
    found: set[str] = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"file {entry.name} -> {entry.readlink()}")
        except OSError:
            continue
    return found
