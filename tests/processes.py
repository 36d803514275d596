"""Looking for processes in /proc, as the machine's administrator would."""

import os
import re
import signal
from pathlib import Path


def carrying(entry: str) -> dict[int, str]:
    """The living processes that have an entry such as ``GOFER_JOB_ID=…`` in their environment, with their commands."""
    return {
        pid: _read(pid, "cmdline").replace(b"\0", b" ").decode()
        for pid in _pids()
        if entry.encode() in _read(pid, "environ").split(b"\0")
    }


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie that its new parent has not seen to does not."""
    return bool(stat := _stat(pid)) and stat[0] not in b"ZX"


def of_session(session: int) -> set[int]:
    """The living processes of a session."""
    return {pid for pid in _pids() if (stat := _stat(pid)) and int(stat[3]) == session and stat[0] not in b"ZX"}


def zombies(parent: int) -> set[int]:
    """The children of a process that have ended and were not waited for."""
    return {pid for pid in _pids() if (stat := _stat(pid)) and int(stat[1]) == parent and stat[0] == b"Z"}


def children(parent: int) -> set[int]:
    """The children of a process, zombies too."""
    return {pid for pid in _pids() if (stat := _stat(pid)) and int(stat[1]) == parent}


def blocked(pid: int) -> set[signal.Signals]:
    """The signals that a process has blocked, in its first thread."""
    found = re.search(rb"^SigBlk:\s*([0-9a-f]+)$", _read(pid, "status"), re.MULTILINE)
    mask = int(found[1], 16) if found else 0
    return {number for number in signal.Signals if mask & 1 << (number - 1)}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _stat(pid: int) -> list[bytes]:
    """State, parent, group, session, …; empty for one that is gone."""
    return _read(pid, "stat").rpartition(b")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except OSError:
        return b""
