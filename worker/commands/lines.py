"""Bytes of an output, cut into lines while they come."""

from collections.abc import Callable

#: Bytes of one line that are kept: with a mark, less than a line of the log may have.
LONGEST_LINE = 8000


class LineReader:
    """Hands on each line of a stream, as a terminal would show it. What it holds is bounded."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        """``on_line`` is called with each line, without its end."""
        self._on_line = on_line
        self._line = bytearray()
        #: Bytes of the line that were not kept.
        self._lost = 0

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._add(part)
            self._end()
        self._add(rest)

    def finish(self) -> None:
        """The stream is over: what has no end is a line, too."""
        if self._line:
            self._end()

    def _add(self, part: bytes) -> None:
        # After a carriage return a terminal writes over what stands there; one at the end
        # overwrites nothing yet, and it may belong to the line's end.
        written = part.rstrip(b"\r").rpartition(b"\r")
        if written[1] or (part.strip(b"\r") and self._line.endswith(b"\r")):
            self._line.clear()
            self._lost = 0
            part = part[len(written[0]) + len(written[1]) :].lstrip(b"\r")
        room = LONGEST_LINE - len(self._line)
        self._line += part[:room]
        self._lost += max(0, len(part) - room)

    def _end(self) -> None:
        line, lost = bytes(self._line).rstrip(b"\r"), self._lost
        self._line.clear()
        self._lost = 0
        text = line.decode("utf-8", "replace")
        self._on_line(f"{text} … (cut; it had {len(line) + lost} bytes)" if lost else text)
