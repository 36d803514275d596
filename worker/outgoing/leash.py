"""What ends an outgoing call before it is done: its time, or a job that is told to end."""

import socket
import threading
from contextlib import suppress

from store.clock import Clock
from worker.errors import Cancelled, Retry
from worker.outgoing.errors import BrokenAnswer

#: Bytes that a call may receive: more than any that ends well, whatever its redirects and however small its chunks.
_MAX_RECEIVED = 64 * 1_048_576


class Leash:
    """Bounds one call, however many connections it takes. ``stop`` may come from any thread."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        """``timeout``: seconds that the whole call may take, from now on."""
        self._clock = clock
        self._timeout = timeout
        self._deadline = clock.monotonic() + timeout
        self._received = 0
        #: The call was told to end.
        self.stopped = False
        self._lock = threading.Lock()
        # guards: _held
        self._held: socket.socket | None = None

    def remaining(self) -> float:
        """Seconds that are left: more than 0. Raises like ``check``."""
        self.check()
        return max(self._deadline - self._clock.monotonic(), 0.001)

    def check(self) -> None:
        """Raise Cancelled once the call was told to end, and Retry once its time is up."""
        if self.stopped:
            raise Cancelled("the call was told to end")
        if self._clock.monotonic() >= self._deadline:
            raise Retry(reason=f"there was no complete answer within {self._timeout:g} s")

    def count(self, received: int) -> None:
        """Count bytes as they come. Raises BrokenAnswer for more than an answer can be made of.

        What a body may have is bounded elsewhere; interim answers, trailers and the like could go on
        for as long as the call may take, at the price of a whole core.
        """
        self._received += received
        if self._received > _MAX_RECEIVED:
            raise BrokenAnswer(f"the answer is no answer after {_MAX_RECEIVED} bytes")

    def hold(self, sock: socket.socket) -> None:
        """Be able to end what waits for this connection, from now on. Raises like ``check``.

        The descriptor is copied: its number cannot go to another file while somebody shuts it down,
        and whatever wraps or closes the socket meanwhile, TLS for one, changes nothing.
        """
        held = socket.fromfd(sock.fileno(), sock.family, sock.type)
        with self._lock:
            previous, self._held = self._held, held
        if previous is not None:
            previous.close()
        self.check()

    def stop(self) -> None:
        """End the call: whoever waits for its connection wakes up. Neither blocks nor raises.

        A look-up of a host's name cannot be ended: it ends when the resolver gives up.
        """
        self.stopped = True
        with self._lock, suppress(OSError):  # It may not be connected any more.
            if self._held is not None:
                self._held.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """Leave the connection alone from now on, because the call is done with it."""
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            held.close()
