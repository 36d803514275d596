"""The chunks of a body (RFC 9112, section 7.1), where waitress takes what others would read differently."""

from waitress.receiver import ChunkedReceiver  # type: ignore[import-untyped]
from waitress.utilities import BadRequest  # type: ignore[import-untyped]

#: Bytes of a line that is no chunk's data. waitress keeps an unfinished one, as long as it may be, and goes
#: over it again each time that more of it comes.
_LONGEST_LINE = 1024


class Chunks(ChunkedReceiver):  # type: ignore[misc]
    """Puts a body together from its chunks.

    A proxy in front that ended a line at a bare LF, where waitress does not, would see another
    request begin in what is a body here, or the other way round.
    """

    #: The last byte of the unfinished line; empty at the beginning of one.
    _before = b""
    #: Bytes of it.
    _length = 0

    def received(self, data: bytes) -> int:
        """Take in ``data``; return how many bytes of it belong to this body, all of them after an error."""
        taken = 0
        while taken < len(data) and not self.completed and not self.error:
            if self.chunk_remainder:
                taken += super().received(data[taken : taken + self.chunk_remainder])
            elif self.validate_chunk_end:
                taken += super().received(data[taken : taken + 2 - len(self.chunk_end)])
            else:
                taken += self._received_line(data[taken : data.find(b"\n", taken) + 1 or None])
        return len(data) if self.error else taken

    def _received_line(self, data: bytes) -> int:
        """Take in a line that does not belong to a chunk's data, or what has come of it."""
        self._length += len(data)
        if self._length > _LONGEST_LINE:
            self.error = BadRequest("A line of a chunked body is too long")
            return len(data)
        is_whole = data.endswith(b"\n")
        if is_whole:
            self._length = 0
        end = (self._before + data)[-2:]
        self._before = b"" if is_whole else data[-1:]
        was_last = self.all_chunks_received
        taken: int = super().received(data)
        if is_whole and end != b"\r\n":
            self.error = BadRequest("A line of a chunked body must end with CR LF")
        elif is_whole and was_last and not self.completed:
            self.error = BadRequest("Trailers are not supported")
        elif is_whole and not self.all_chunks_received and not self.chunk_remainder:
            self.error = BadRequest("A chunk must have a size")
        return taken
