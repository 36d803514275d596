"""A job's log in the forms in which it is shown. Pure: lines in, bytes out."""

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Protocol

import msgspec

from store.job import LogLine

_encode_lines = msgspec.json.Encoder().encode_lines

#: What a terminal might obey; a tab is harmless, and a newline has been seen to.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_ESCAPES = MappingProxyType({code: f"\\x{code:02x}" for code in range(0xA0) if _CONTROL.match(chr(code))})
#: In front of the further lines of a message.
_INDENT = "\n  "


def start_of(lines: Sequence[LogLine], after: int, tail: int | None) -> int:
    """The number after which everything was asked for: a tail that got all its lines wants none before them."""
    return lines[0].number - 1 if tail is not None and len(lines) == tail else after


def count_dropped(lines: Sequence[LogLine], start: int) -> int:
    """How many lines after ``start`` were left out before or between these."""
    return lines[-1].number - start - len(lines) if lines else 0


class LogForm(Protocol):
    """Writes a log down, piece by piece, in one form."""

    #: Of what comes out.
    content_type: str
    #: The number of the line that was written last, or after which the first one is to come.
    last: int

    def write(self, lines: Sequence[LogLine]) -> bytes:
        """The next lines."""
        ...

    def remark(self, text: str) -> bytes:
        """Something that is not in the log, but about it."""
        ...


class TextLog:
    """A log for people: a line for each, and marks where something is missing or an attempt begins."""

    content_type = "text/plain; charset=utf-8"

    def __init__(self, start: int) -> None:
        """``start``: the number after which no line is missing if it is the next."""
        self.last = start
        self._attempt = 1

    def write(self, lines: Sequence[LogLine]) -> bytes:
        """The lines, each with the marks that belong before it."""
        return "".join(self._marks(line) + _text(line) for line in lines).encode()

    def remark(self, text: str) -> bytes:
        """``text`` between dashes."""
        return f"— {_visible(text)} —\n".encode()

    def _marks(self, line: LogLine) -> str:
        dropped, self.last = line.number - self.last - 1, line.number
        is_other, self._attempt = line.attempt != self._attempt, line.attempt
        left_out = f"… {dropped} {'line' if dropped == 1 else 'lines'} left out …\n" if dropped else ""
        return left_out + (f"— attempt {line.attempt} —\n" if is_other else "")


class NdjsonLog:
    """A log for programs: a JSON object in each line."""

    content_type = "application/x-ndjson"

    def __init__(self, start: int) -> None:
        self.last = start

    def write(self, lines: Sequence[LogLine]) -> bytes:
        """The lines as objects; their numbers tell whether one is missing."""
        if lines:
            self.last = lines[-1].number
        return _encode_lines(lines)

    def remark(self, text: str) -> bytes:
        """An object with nothing but ``remark``."""
        return _encode_lines([{"remark": text}])


def _text(line: LogLine) -> str:
    time = line.time.isoformat(timespec="milliseconds").removesuffix("+00:00")
    message = _INDENT.join(_visible(part) for part in line.message.replace("\r\n", "\n").split("\n"))
    return f"{time}Z {line.level:5} {message}\n"


def _visible(text: str) -> str:
    """The text with control characters as escapes: a log must not drive a terminal."""
    # Not by ``sub``, which calls back for each: seconds for a log of nothing else, and meanwhile nobody is answered.
    return text.translate(_ESCAPES) if _CONTROL.search(text) else text
