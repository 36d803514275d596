"""What a power cut leaves of what was written."""

import random
from collections.abc import Iterator, Mapping

from tests.store.sqlite.faults.recorder import Event, FailedSync, Link, Mark, Sync, SyncNames, Truncate, Write

#: Bytes that a disk writes as a whole, or not at all.
_SECTOR = 512

#: What is lost of that which was not synced: nothing (as when only the process dies), all of it, or a part.
NOTHING, EVERYTHING, WRITES, SECTORS = "nothing", "everything", "writes", "sectors"


class Remains:
    """A disk at one moment: what is safe on it, and what is not yet."""

    def __init__(self) -> None:
        self._safe: dict[int, bytearray] = {}
        self._names: dict[str, int | None] = {}
        # With the number of the event.
        self._unsafe: dict[int, list[tuple[int, Write | Truncate]]] = {}
        self._unsafe_names: list[tuple[int, Link]] = []
        self._events = 0
        #: What was told last.
        self.told: object = None

    def take(self, event: Event) -> None:
        """The next event happens."""
        match event:
            case Write(file=file) | Truncate(file=file):
                self._unsafe[file].append((self._events, event))
            case Sync(file, covers):
                self._sync(file, covers)
            case FailedSync(file, covers):
                self._unsafe[file] = [each for each in self._unsafe[file] if each[0] >= covers]
            case Link(_, file):
                if file is not None:
                    self._safe[file], self._unsafe[file] = bytearray(), []
                self._unsafe_names.append((self._events, event))
            case SyncNames(covers):
                for number, link in self._unsafe_names:
                    if number < covers:
                        self._names[link.name] = link.file
                self._unsafe_names = [each for each in self._unsafe_names if each[0] >= covers]
            case Mark(told):
                self.told = told
        self._events += 1

    def after_cut(self, lost: str, rng: random.Random) -> dict[str, bytes]:
        """The files by name, if the power is cut now."""
        share = {NOTHING: 1.0, EVERYTHING: 0.0}.get(lost, rng.choice([0.1, 0.5, 0.9]))
        names = self._names_after_cut(share, rng)
        return {name: self._file_after_cut(file, lost, share, rng) for name, file in names.items() if file is not None}

    def _sync(self, file: int, covers: int) -> None:
        unsafe = self._unsafe[file]
        for number, change in unsafe:
            if number < covers:
                _apply(self._safe[file], change)
        self._unsafe[file] = [each for each in unsafe if each[0] >= covers]

    def _names_after_cut(self, share: float, rng: random.Random) -> Mapping[str, int | None]:
        """Of what happened to one name, the first part has reached the disk."""
        names, lost = dict(self._names), set()
        for _, link in self._unsafe_names:
            if link.name not in lost and rng.random() < share:
                names[link.name] = link.file
            else:
                lost.add(link.name)
        return names

    def _file_after_cut(self, file: int, lost: str, share: float, rng: random.Random) -> bytes:
        content = bytearray(self._safe[file])
        for _, change in self._unsafe[file]:
            pieces = _sectors(change) if lost == SECTORS and isinstance(change, Write) else [change]
            for piece in pieces:
                if rng.random() < share:
                    _apply(content, piece)
        return bytes(content)


def _apply(content: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    end = change.offset + len(change.data)
    content.extend(bytes(max(0, end - len(content))))
    content[change.offset : end] = change.data


def _sectors(write: Write) -> Iterator[Write]:
    """The write in parts, cut where sectors begin."""
    begin, end = write.offset, write.offset + len(write.data)
    while begin < end:
        until = min(end, (begin // _SECTOR + 1) * _SECTOR)
        yield Write(write.file, begin, write.data[begin - write.offset : until - write.offset])
        begin = until
