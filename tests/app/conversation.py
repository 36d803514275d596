"""Speaking HTTP byte by byte, as no client library would."""

import json
import socket
from email.message import Message
from http.client import parse_headers
from typing import Any, Self


class Reply:
    """An answer, read to its end."""

    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Conversation:
    """One connection to a server."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send ``data`` as it stands."""
        self.socket.sendall(data)

    def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> Reply:
        """Send a well-formed request and read its answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return self.read(has_body=method != "HEAD")

    def read(self, *, has_body: bool = True) -> Reply:
        """The next answer. Raises EOFError when the server hung up instead."""
        status_line = self._stream.readline()
        if not status_line:
            raise EOFError("the server closed the connection without an answer")
        status = int(status_line.split()[1])
        headers = parse_headers(self._stream)
        length = int(headers.get("Content-Length", 0)) if has_body and status not in (204, 304) else 0
        return Reply(status, headers, self._stream.read(length))

    def is_over(self) -> bool:
        """Whether the server has closed the connection; waits for it to do or send something."""
        try:
            return self._stream.read(1) == b""
        except ConnectionResetError:
            return True
