"""Reads messages from a socket, however they were cut up on their way."""

import math
import socket

from worker.isolation.errors import Garbled
from worker.isolation.messages import LENGTH

#: Bytes that are read at a time.
_CHUNK = 65_536


class Inbox:
    """One end of a connection, for one thread that reads."""

    def __init__(self, connection: socket.socket, limit: float = math.inf) -> None:
        """``limit``: bytes of the longest message."""
        self._connection = connection
        self._limit = limit
        # Used again and again, since a new one for each message would cost more than to read it.
        self._chunk = memoryview(bytearray(_CHUNK))
        # What has come of a message that is not complete yet.
        self._rest = bytearray()

    def read(self) -> list[bytes] | None:
        """The messages that are complete with what can be read now; None once the other side has hung up.

        Raises BlockingIOError if nothing is there and the socket does not wait, Garbled for a message
        that is too long.
        """
        try:
            size = self._connection.recv_into(self._chunk)
        except ConnectionResetError:
            return None  # It hung up with something of ours unread.
        if not size:
            return None
        if not self._rest and size == self._end_of_message(self._chunk[:size]):
            return [bytes(self._chunk[LENGTH.size : size])]
        self._rest += self._chunk[:size]
        return self._cut()

    def _cut(self) -> list[bytes]:
        """Take the messages that are complete out of what has come."""
        rest, bodies = self._rest, []
        while len(rest) >= (end := self._end_of_message(rest)):
            bodies.append(bytes(rest[LENGTH.size : end]))
            del rest[:end]
        return bodies

    def _end_of_message(self, data: bytearray | memoryview) -> int:
        """How many bytes the first message takes, its length included, as far as that is known."""
        if len(data) < LENGTH.size:
            return LENGTH.size
        length: int = LENGTH.unpack_from(data)[0]
        if length > self._limit:
            raise Garbled(f"a message of {length} bytes")
        return LENGTH.size + length
