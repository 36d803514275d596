"""Sockets on a leash: each wait is for what is left of the call's time.

A plain time limit begins anew with each byte, so that a server that drips its answer would be waited
for without end.
"""

import socket
import ssl
from typing import Any

from worker.outgoing.leash import Leash


class LeashedSocket(socket.socket):
    """A socket that waits no longer than the call that uses it may take."""

    #: That of the call that uses the connection; of the last one while nobody does.
    leash: Leash

    def recv_into(self, *args: Any, **options: Any) -> int:
        """As in ``socket.socket``; raises like ``Leash.check`` and ``Leash.count``, too."""
        self.settimeout(self.leash.remaining())
        received = super().recv_into(*args, **options)
        self.leash.count(received)
        return received

    def send(self, *args: Any, **options: Any) -> int:
        """As in ``socket.socket``; raises like ``Leash.check``, too."""
        self.settimeout(self.leash.remaining())
        return super().send(*args, **options)

    def sendall(self, *args: Any, **options: Any) -> None:
        """As in ``socket.socket``; raises like ``Leash.check``, too."""
        self.settimeout(self.leash.remaining())
        super().sendall(*args, **options)


class LeashedTLSSocket(LeashedSocket, ssl.SSLSocket):
    """The same, encrypted.

    The handshake needs no more than the time limit that it is given: Python counts that from its
    beginning, whatever bytes come.
    """
