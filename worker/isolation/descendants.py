"""Finds what a process has started, whatever session that gave itself since."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

#: How many are found at most: each takes a file descriptor.
_MOST = 200


def descendants(root: int) -> list[int]:
    """A pidfd for each living descendant of a process, for the caller to close.

    A daemon is none any more: its starter has ended, and it is a child of process 1. Nor is any
    found where the kernel does not list children (CONFIG_PROC_CHILDREN).
    """
    found: dict[int, int] = {}
    parents = [root]
    with contextlib.suppress(OSError):  # No descriptor is free: those that were found will do.
        while parents and len(found) < _MOST:
            parent = parents.pop()
            for pid in _children(parent):
                if pid not in found and (descriptor := _open(pid, parent)) is not None:
                    found[pid] = descriptor
                    parents.append(pid)
    return list(found.values())


def _open(pid: int, parent: int) -> int | None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Looked at again: now the number cannot pass on to another process any more.
    if pid in _children(parent):
        return descriptor
    os.close(descriptor)
    return None


def _children(parent: int) -> Iterator[int]:
    for thread in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It has ended.
            yield from map(int, thread.read_text().split())
