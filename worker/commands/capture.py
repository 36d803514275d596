"""What a command writes to its standard output: the beginning is kept, progress is passed on."""

import codecs
from collections.abc import Callable

from worker.commands import progress_line
from worker.commands.lines import LONGEST_LINE
from worker.commands.progress_line import PREFIX, ProgressLine


class Capture:
    """Keeps the first bytes of a stream, except the lines that tell of progress. What it holds is bounded."""

    def __init__(self, limit: int, on_progress: Callable[[ProgressLine], None]) -> None:
        """``limit``: bytes that are kept."""
        self._limit = limit
        self._on_progress = on_progress
        self._kept = bytearray()
        #: Bytes that belong to the output, kept or not.
        self.size = 0
        # A line that may turn out to tell of progress, once it is complete.
        self._held = b""
        self._at_line_start = True

    @property
    def is_cut(self) -> bool:
        """Whether not all was kept."""
        return self.size > len(self._kept)

    @property
    def kept(self) -> bytes:
        """The output, or its beginning."""
        return bytes(self._kept)

    @property
    def text(self) -> str:
        """What was kept as text, without a character that was cut in two."""
        return codecs.getincrementaldecoder("utf-8")("replace").decode(self._kept, final=not self.is_cut)

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        data = self._held + data
        self._held = b""
        start = 0
        while start < len(data):
            if self._at_line_start and _may_begin(data[start : start + len(PREFIX)]):
                end = data.find(b"\n", start) + 1
                if end:
                    self._take_line(data[start:end])
                elif len(data) - start <= LONGEST_LINE:
                    self._held = data[start:]
                    return
                else:
                    end = len(data)
                    self._keep(data[start:])
            else:
                end = _end_of_ordinary(data, start)
                self._keep(data[start:end])
            start = end

    def finish(self) -> None:
        """The stream is over."""
        if self._held:
            self._take_line(self._held)
            self._held = b""

    def _take_line(self, line: bytes) -> None:
        """A line that begins like one that tells of progress."""
        progress = progress_line.parse(line.decode("utf-8", "replace"))
        if progress is None:
            self._keep(line)
        else:
            self._on_progress(progress)

    def _keep(self, data: bytes) -> None:
        self._kept += data[: max(0, self._limit - len(self._kept))]
        self.size += len(data)
        self._at_line_start = data.endswith(b"\n")


def _may_begin(data: bytes) -> bool:
    """Whether a line that begins so may tell of progress, as far as it has come."""
    return data.startswith(PREFIX) or PREFIX.startswith(data)


def _end_of_ordinary(data: bytes, start: int) -> int:
    """Where, behind an ordinary line, the next line begins that may tell of progress."""
    end = data.find(b"\n" + PREFIX, start)
    if end >= 0:
        return end + 1
    last = data.rfind(b"\n", start) + 1
    return last if last and _may_begin(data[last:]) and last < len(data) else len(data)
