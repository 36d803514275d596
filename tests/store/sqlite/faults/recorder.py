"""A VFS that writes down all that SQLite does to its files, so that a power cut can be played at any point of it."""

import errno
import os
import threading
from pathlib import Path
from typing import NamedTuple

import apsw

#: A synced file of one of these kinds has its name synced, too, if SQLite has just created it.
_WITH_NAME = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL


class Write(NamedTuple):
    """Bytes were put into a file."""

    file: int
    offset: int
    data: bytes


class Truncate(NamedTuple):
    """A file was cut, or grew, to a size."""

    file: int
    size: int


class Sync(NamedTuple):
    """A file's data is safe, as of an earlier event."""

    file: int
    #: All events before this one are covered.
    covers: int


class FailedSync(NamedTuple):
    """A file's data, as of an earlier event, will not reach the disk any more, although it can be read."""

    file: int
    covers: int


class Link(NamedTuple):
    """A name got another file, or none."""

    name: str
    file: int | None


class SyncNames(NamedTuple):
    """The names in the directory are safe."""

    covers: int


class Mark(NamedTuple):
    """Somebody was told something."""

    #: What stays true from here on.
    told: object


Event = Write | Truncate | Sync | FailedSync | Link | SyncNames | Mark


class Recorder(apsw.VFS):
    """Passes everything on but syncs: nothing here survives the machine. Safe to use from any thread.

    ``lies``: whether it takes SQLite's own syncs for done although nothing becomes safe.
    """

    def __init__(self, *, lies: bool = False) -> None:
        self.name = f"gofer-recorder-{id(self)}"
        super().__init__(self.name, "unix")
        self._lies = lies
        #: The store's own syncs fail. As on Linux, nothing is left to be synced then.
        self.fails = False
        # guards: everything below, and that the order of events is that in which they happened
        self.lock = threading.RLock()
        self.events: list[Event] = []
        self._files: dict[str, int] = {}
        # By inode number.
        self._numbers: dict[int, int] = {}
        self._count = 0

    def mark(self, told: object) -> None:
        """Note what somebody was told."""
        with self.lock:
            self.events.append(Mark(told))

    def fdatasync(self, descriptor: int) -> None:
        """Stands in for os.fdatasync. A disk takes its time, and what comes meanwhile it need not cover."""
        covers = len(self.events)
        os.sched_yield()
        with self.lock:
            kind = FailedSync if self.fails else Sync
            self.events.append(kind(self._numbers[os.fstat(descriptor).st_ino], covers))
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fsync(self, descriptor: int) -> None:
        """Stands in for os.fsync of a directory."""
        with self.lock:
            self.events.append(SyncNames(len(self.events)))

    def xOpen(self, name: "apsw.URIFilename | str | None", flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if name is None:
            return apsw.VFSFile("unix", name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        with self.lock:
            file = _RecordedFile(self, name, flags)
            is_new = path.name not in self._files
            if is_new:
                self._count += 1
                self._files[path.name] = self._count
                self.events.append(Link(path.name, self._count))
            file.number = self._files[path.name]
            file.syncs_name = is_new and bool(flags[0] & _WITH_NAME)
            self._numbers[path.stat().st_ino] = file.number
        return file

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        with self.lock:
            super().xDelete(name, syncdir)
            del self._files[Path(name).name]
            self.events.append(Link(Path(name).name, None))
            if syncdir:
                self.sync_names()

    def sync(self, file: int) -> None:
        """SQLite syncs a file."""
        if not self._lies:
            self.events.append(Sync(file, len(self.events)))

    def sync_names(self) -> None:
        """SQLite syncs the directory."""
        if not self._lies:
            self.events.append(SyncNames(len(self.events)))


class _RecordedFile(apsw.VFSFile):
    number = 0
    syncs_name = False

    def __init__(self, recorder: Recorder, name: "apsw.URIFilename | str", flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._recorder = recorder

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        with self._recorder.lock:
            super().xWrite(data, offset)
            self._recorder.events.append(Write(self.number, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with self._recorder.lock:
            super().xTruncate(newsize)
            self._recorder.events.append(Truncate(self.number, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._recorder.lock:
            self._recorder.sync(self.number)
            if self.syncs_name:
                self._recorder.sync_names()
                self.syncs_name = False
