"""Processes that must not outlive what started them: how they are found, and how they are killed.

This file is also the program of the guardian (see ``process_groups``), which runs it by its path
and without any packages. So it needs the standard library only.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Collection, Iterable
from typing import NamedTuple

#: Entries of an environment, such as ``GOFER_ATTEMPT=1``, that a process and its descendants carry together.
Mark = frozenset[str]

#: How each entry of a mark begins.
_PREFIX = b"GOFER_"
#: How many members are dealt with at a time: each takes a file descriptor.
_MOST = 200
#: The guardian looks until it found nothing this many times in a row, but not for ever; in between it rests.
_QUIET_ROUNDS, _MOST_ROUNDS, _REST_MS = 10, 250, 20


class Process(NamedTuple):
    """A process that lived when we looked."""

    pid: int
    group: int
    session: int
    #: Those entries of its environment that may be of a mark.
    entries: frozenset[bytes]


class Family:
    """The processes of some sessions, and those that carry some marks, whatever session they made themselves."""

    def __init__(self, sessions: Collection[int], marks: Collection[Mark] = ()) -> None:
        """``sessions``: the numbers of sessions, or of process groups."""
        self._sessions = frozenset(sessions)
        self._marks = [frozenset(entry.encode() for entry in mark) for mark in marks]

    def members(self, processes: Iterable[Process]) -> dict[int, int]:
        """Those of ``processes`` that still are members, and a pidfd for each, for the caller to close; at most 200.

        Raises OSError if there is no descriptor for any.
        """
        found: dict[int, int] = {}
        for process in processes:
            if len(found) < _MOST and self._has(process):
                try:
                    descriptor = self._open(process.pid)
                except OSError:
                    if found:  # Something to begin with: when they have ended, there is room for others.
                        break
                    raise
                if descriptor is not None:
                    found[process.pid] = descriptor
        return found

    def kill(self) -> bool:
        """Send SIGKILL to every member; whether there was any."""
        for session in self._sessions:
            # All of a group at once: one that forks as fast as we look would get away.
            kill_group(session, signal.SIGKILL)
        members = self.members(look())
        for descriptor in members.values():
            send(descriptor, signal.SIGKILL)
            os.close(descriptor)
        return bool(members)

    def _open(self, pid: int) -> int | None:
        """A pidfd; None if the process is no member by now."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        is_member = False
        try:
            # Looked at again: now the number cannot pass on to another process any more.
            now = look_at(pid)
            is_member = now is not None and self._has(now)
        finally:
            if not is_member:
                os.close(descriptor)
        return descriptor if is_member else None

    def _has(self, process: Process) -> bool:
        if process.group in self._sessions or process.session in self._sessions:
            return True
        return bool(process.entries) and any(mark <= process.entries for mark in self._marks)


def look() -> list[Process]:
    """Every process of the machine but this one. Takes tens of µs for each: too much to be done for every job."""
    own = os.getpid()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - for each process
    return [process for pid in pids if pid != own and (process := look_at(pid)) is not None]


def look_at(pid: int) -> Process | None:
    """One process; None if it does not live."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
            # The name comes before, in brackets, and may hold anything.
            fields = file.read().rpartition(b")")[2].split()
        state, group, session, threads = fields[0], int(fields[2]), int(fields[3]), int(fields[17])
        # What looks dead may be its first thread alone.
        if state in b"ZX" and threads < 2:
            return None
        return Process(pid, group, session, _entries(pid))
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None


def _entries(pid: int) -> frozenset[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - as above
            return frozenset(entry for entry in file.read().split(b"\0") if entry.startswith(_PREFIX))
    except PermissionError:
        return frozenset()  # Somebody else's.


def kill_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if there is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def send(descriptor: int, number: signal.Signals) -> None:
    """Send a signal to the process of a pidfd, if it still lives."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(descriptor, number)


def main() -> None:
    """Read who must not outlive the other end of standard input, and when that closes, kill who is left.

    A line is ``+`` or ``-`` and the number of a session, or a mark's entries with blanks between them.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        # Whoever stops the service may signal all its processes: this one ends last, and by itself.
        signal.signal(number, signal.SIG_IGN)
    entries: set[str] = set()
    for line in sys.stdin:
        (entries.add if line[0] == "+" else entries.discard)(line[1:].rstrip("\n"))
    if entries:
        _kill(
            Family(
                [int(entry) for entry in entries if entry.isdigit()],
                [frozenset(entry.split(" ")) for entry in entries if not entry.isdigit()],
            )
        )


def _kill(family: Family) -> None:
    """Kill until nothing is found for a while: a process that was just being started shows its mark late."""
    quiet = 0
    for _ in range(_MOST_ROUNDS):
        try:
            quiet = 0 if family.kill() else quiet + 1
        except OSError:
            quiet = 0  # No descriptor is free, on the whole machine; soon there may be.
        if quiet == _QUIET_ROUNDS:
            break
        select.poll().poll(_REST_MS)


if __name__ == "__main__":
    main()
