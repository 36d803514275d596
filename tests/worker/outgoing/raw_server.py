"""An HTTP server that says exactly the bytes that a test wants, when the test wants it."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

#: Seconds after which what hangs is let go, so that a failing test ends.
_LIMIT = 20.0


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    method: str
    target: str
    #: By name in lower case.
    headers: dict[str, str]
    body: bytes
    #: Which connection it came on: 1 for the first.
    connection: int


#: What a server says to a request. After bytes, the connection stays open; after pieces, it is closed.
Script = Callable[[Received], "Iterable[bytes] | bytes"]


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A well-formed answer; ``length`` is what it claims to have in the place of what it has."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class RawServer:
    """Serves on loopback, each connection in a thread of its own, until it is closed."""

    def __init__(self, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port: int = self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}"
        self.requests: list[Received] = []
        #: Rises with each request that has come.
        self.asked = threading.Semaphore(0)
        #: How many connections were opened.
        self.connections = 0
        self._closing = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def hang(self) -> Iterable[bytes]:
        """Say nothing until the server is closed."""
        self._closing.wait(_LIMIT)
        return ()

    def drip(self, piece: bytes) -> Iterable[bytes]:
        """Say a piece over and over, without an end, and never so slowly that it seems to hang."""
        while not self._closing.wait(0.02):
            yield piece

    def settle(self) -> None:
        """Wait until every connection so far has been closed from this end."""
        for thread in self._threads[1:]:
            thread.join(_LIMIT)

    def close(self) -> None:
        """Stop, whatever is under way."""
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(_LIMIT)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_LIMIT)
        for sock in self._open:
            sock.close()

    def __enter__(self) -> "RawServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection.dup())  # What stays when TLS has taken the other over.
            thread = threading.Thread(target=self._serve, args=(connection, self.connections))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError), connection, self._encrypted(connection) as sock, sock.makefile("rb") as stream:
            while request := _read(stream, number):
                self.requests.append(request)
                self.asked.release()
                said = self._script(request)
                if isinstance(said, bytes):
                    sock.sendall(said)
                    continue
                for piece in said:
                    sock.sendall(piece)
                break
        with suppress(OSError):
            self._open[number - 1].shutdown(socket.SHUT_RDWR)

    def _encrypted(self, connection: socket.socket) -> socket.socket:
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection


def _read(stream: Any, connection: int) -> Received | None:
    first = stream.readline().decode("latin-1").split()
    if not first:
        return None
    headers = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return Received(first[0], first[1], headers, body, connection)
