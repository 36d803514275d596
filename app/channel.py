"""What waitress leaves open when it speaks HTTP/1.1.

Its parser, channel and tasks are extended here, and its loop in ``app/server.py``;
both build on internals of waitress 3.0, which is why setup.cfg pins it and the tests
in ``tests/app/test_channel.py`` and ``test_server.py`` speak to real sockets.
"""

from types import MappingProxyType
from typing import Any

from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]
from waitress.utilities import RequestEntityTooLarge  # type: ignore[import-untyped]

from app.errors import MEDIA_TYPE, Problem

#: Bytes of a refused body that are read and thrown away, so that the client gets to its answer.
_DISCARDED = 16 * 1_048_576

#: Headers that waitress would join with a comma although a second one has no meaning, or a dangerous one.
_SINGLE = (b"\nhost:", b"\nauthorization:", b"\nidempotency-key:", b"\ncontent-length:")

_PROBLEMS = MappingProxyType(
    {400: "bad_request", 413: "body_too_large", 431: "headers_too_large", 501: "not_implemented"}
)


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Parses one request, and refuses what others might read differently."""

    #: Asked for in log lines even when the first line could not be parsed.
    path = ""

    expect_continue: bool

    def __init__(self, adjustments: Adjustments, begun: float) -> None:
        """``begun``: when the request's first byte came, on the monotonic clock."""
        super().__init__(adjustments)
        self.begun = begun

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the first line and the headers. Raises ParsingError."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # an address such as http://[ or a length of 5,000 digits
            raise ParsingError(f"Malformed request: {error}") from None
        self._refuse_ambiguity(header_plus.lower())

    def _refuse_ambiguity(self, head: bytes) -> None:
        if any(head.count(name) > 1 for name in _SINGLE):
            raise ParsingError("Host, Authorization, Idempotency-Key and Content-Length may be given only once")
        if self.version == "1.1" and "HOST" not in self.headers:  # RFC 9112, section 3.2
            raise ParsingError("A request of HTTP/1.1 needs a Host header")
        # RFC 9112, section 6.1: whoever sends both may be smuggling a request past a proxy.
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if self.version == "1.0" and "TRANSFER_ENCODING" in self.headers:
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")

    def received(self, data: bytes) -> int:
        """Take in ``data``; return how many bytes of it belong to this request.

        A body that is too large is read to its end before it is refused: closing the connection
        on unread data resets it, and the client may lose the answer.
        """
        consumed: int = super().received(data)
        if isinstance(self.error, RequestEntityTooLarge):
            if self.expect_continue:
                self.expect_continue = False  # the client waits for leave to send, and does not get it
            elif not self._body_is_over():
                self.body_rcv.buf = _Void()
                self.completed = False
        return consumed

    def _body_is_over(self) -> bool:
        body = self.body_rcv
        return bool(body.completed or body.error or self.body_bytes_received > _DISCARDED)


class _Void:
    """A buffer that keeps nothing."""

    def append(self, data: bytes) -> None:
        """Throw ``data`` away."""

    def close(self) -> None:
        """There is nothing to close."""

    def __len__(self) -> int:
        return 0


class Task(WSGITask):  # type: ignore[misc]
    """Answers one request through the application."""

    def build_response_header(self) -> bytes:
        """The head of the answer; once the server stops or the client is done, it ends the connection."""
        if self.channel.server.stopping or self.channel.sends_no_more:
            self.request.headers["CONNECTION"] = "close"
        head: bytes = super().build_response_header()
        return head

    def write(self, data: bytes) -> None:
        """Pass on a piece of the answer; one that is not the last leaves at once."""
        super().write(data)
        if self.content_bytes_written != self.content_length:
            self.channel.flush()


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """Answers a request that never reached the application, in the application's manner."""

    def execute(self) -> None:
        """Send the problem and end the connection."""
        error = self.request.error
        details = {
            413: f"the body is larger than {self.channel.server.max_body} bytes",
            431: f"the headers are larger than {self.channel.adj.max_request_header_size} bytes",
        }
        problem = Problem(_PROBLEMS.get(error.code, "internal"), details.get(error.code, str(error.body)))
        body = problem.body()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", MEDIA_TYPE))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = Task
    error_task_class = ProblemTask

    #: The client sends nothing more: it closed its side, or both. No one can tell before an answer is sent.
    sends_no_more = False

    def parser_class(self, adjustments: Adjustments) -> Parser:
        """A parser for the request that begins now."""
        return Parser(adjustments, self.server.clock.monotonic())

    # waitress notes the wall clock here; a jump of it would close idle connections or keep them for ever.
    @property
    def last_activity(self) -> float:
        """When something was last sent or received, on the monotonic clock."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, _wall_clock: Any) -> None:
        self._last_activity: float = self.server.clock.monotonic()

    def handle_read(self) -> None:
        """Take in what the client sent. What it asked for before it closed its side is answered.

        waitress closes the connection at once, although the request may have been carried out.
        """
        try:
            data = self.socket.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        if data:
            self.last_activity = None
            self.received(data)
        elif self.is_busy():
            # Told first and looked after it: either this sees that no request is left, or the thread
            # that answers the last one sees that it is to close.
            self.sends_no_more = True
            if not self.requests:
                self.close_when_flushed = True
        else:
            self.handle_close()

    def readable(self) -> bool:
        """Whether the loop is to read when there is something."""
        return not self.sends_no_more and bool(super().readable())

    def check_client_disconnected(self) -> bool:
        """What a request asks that waits: whether it waits for nobody, most likely."""
        return self.sends_no_more or not self.connected

    def writable(self) -> bool:
        """Whether the loop has something to do when the socket takes more bytes.

        Not while an answer is still being put together: the loop would spin until that is done,
        and take the interpreter from the thread that does it.
        """
        if self.requests and self.total_outbufs_len < self.adj.send_bytes:
            return bool(self.will_close or self.close_when_flushed)
        return bool(super().writable())

    def service(self) -> None:
        """Answer one request."""
        super().service()
        # The loop sends what is left, but not while a next request is being answered: a pipelined
        # one that waits for its job must not hold back the answer before it.
        if self.requests:
            self.flush()
        elif self.sends_no_more:
            self.close_when_flushed = True
            self.server.pull_trigger()

    def flush(self) -> None:
        """Send as much of the answer as the socket takes, in this thread; the loop sends the rest."""
        with self.outbuf_lock:
            if self.total_outbufs_len:
                self._flush_exception(self._flush_some, do_close=False)
        if self.total_outbufs_len:
            self.server.pull_trigger()

    def is_busy(self) -> bool:
        """Whether a request is being answered, or an answer being sent."""
        return bool(self.requests or self.total_outbufs_len)

    def is_stale(self, idle_since: float, begun_before: float) -> bool:
        """Whether nothing happened since ``idle_since``, or a request that began too early still dribbles in."""
        if self.requests:
            return False
        return self.last_activity < idle_since or (self.request is not None and self.request.begun < begun_before)
