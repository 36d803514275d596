"""What waitress leaves open when it speaks HTTP/1.1.

Its parser, channel and tasks are extended here, and its loop in ``app/server.py``;
both build on internals of waitress 3.0, which is why setup.cfg pins it and the tests
in ``tests/app/test_channel.py`` and ``test_server.py`` speak to real sockets.
"""

import io
import math
import re
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.channel import ClientDisconnected, HTTPChannel  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.task import ErrorTask, WSGITask  # type: ignore[import-untyped]
from waitress.task import Task as AnyTask
from waitress.utilities import RequestEntityTooLarge, RequestHeaderFieldsTooLarge  # type: ignore[import-untyped]

from app import request_log, security_headers
from app.auth import UNREAD, caller_name
from app.chunks import Chunks
from app.errors import MEDIA_TYPE, Problem

#: Bytes of a refused body that are read and thrown away, so that the client gets to its answer.
_DISCARDED = 16 * 1_048_576

#: Bytes of an answer that goes on that may wait for the client to read them, before more is made.
_UNREAD = 65_536
#: Seconds in which a client must read something of what waits for it, or it is taken for gone.
_STALL = 60.0
#: Seconds between two looks at whether it did.
_STALL_CHECK = 1.0
#: Seconds in which a client is to close a connection after its last answer.
_LINGER = 2.0

#: Headers that waitress would join with a comma although a second one has no meaning, or a dangerous one.
_SINGLE = (b"\nhost:", b"\nauthorization:", b"\nidempotency-key:", b"\ncontent-length:")

#: What may be asked for (RFC 9112, section 3.2), in the characters that may stand there.
_TARGET = re.compile(r"""(?:/|https?://)[!"$-~]*|\*""", re.IGNORECASE)
#: What waitress may see of a first line, and may not see of a header: on another line, and on much padding, its own
#: patterns would try for seconds or minutes, and the loop stand still.
_FIRST_LINE = re.compile(rb"[^ ]+ [^ ]+(?: HTTP/[0-9.]+)?")
_PADDING = re.compile(rb":[ \t]{100}")
_CODING = re.compile(rb"\ntransfer-encoding:[ \t]*([^\r]*?)[ \t]*\r")

_PROBLEMS = MappingProxyType(
    {400: "bad_request", 413: "body_too_large", 431: "headers_too_large", 501: "not_implemented"}
)


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Parses one request, and refuses what others might read differently."""

    #: Asked for in log lines even when the first line could not be parsed.
    path = command = ""

    #: The body was thrown away as it came.
    is_unread = False

    expect_continue: bool
    body_rcv: Any

    def __init__(self, adjustments: Adjustments, begun: float, is_stranger: Callable[[str], bool]) -> None:
        """``begun``: when the request's first byte came, on the monotonic clock.

        ``is_stranger`` tells by the header ``Authorization`` whether the client may ask for nothing
        that a body belongs to.
        """
        super().__init__(adjustments)
        self.begun = begun
        self._is_stranger = is_stranger

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the first line and the headers. Raises ParsingError."""
        self._refuse_laborious(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # an address such as http://[ or a length of 5,000 digits
            raise ParsingError(f"Malformed request: {error}") from None
        self._refuse_ambiguity(header_plus.lower())
        if self.chunked:
            self.body_rcv = Chunks(self.body_rcv.buf)

    def _refuse_laborious(self, head: bytes) -> None:
        if not _FIRST_LINE.fullmatch(head.partition(b"\r\n")[0].rstrip()):
            raise ParsingError("The first line must be a method, a target and a version, with one space between them")
        if b"\n " in head or b"\n\t" in head:  # RFC 9112, section 5.2
            raise ParsingError("A header must stand on one line")
        if _PADDING.search(head):
            raise ParsingError("A header's value must not begin with more than 99 spaces")

    def _refuse_ambiguity(self, head: bytes) -> None:
        # Whatever else it says it is, waitress reads as HTTP/1.0.
        if self.version not in ("1.1", "1.0"):
            raise ParsingError("The version must be HTTP/1.1 or HTTP/1.0")
        if any(head.count(name) > 1 for name in _SINGLE):
            raise ParsingError("Host, Authorization, Idempotency-Key and Content-Length may be given only once")
        if self.version == "1.1" and "HOST" not in self.headers:  # RFC 9112, section 3.2
            raise ParsingError("A request of HTTP/1.1 needs a Host header")
        self._refuse_target()
        if b"\ntransfer-encoding:" in head:
            self._refuse_codings(_CODING.findall(head))

    def _refuse_target(self) -> None:
        if not _TARGET.fullmatch(self.request_uri):
            raise ParsingError("The request target must be a path, or a whole address with http: or https:")
        # Who is right, one could not tell (RFC 9112, section 3.2.2).
        if self.proxy_scheme and self.proxy_netloc.lower() != self.headers.get("HOST", "").lower():
            raise ParsingError("The address and the Host header must name the same host")

    def _refuse_codings(self, codings: list[bytes]) -> None:
        # RFC 9112, section 6.1: whoever sends both may be smuggling a request past a proxy.
        if "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding exclude each other")
        if self.version == "1.0":
            raise ParsingError("HTTP/1.0 has no Transfer-Encoding")
        if codings != [b"chunked"]:
            raise ParsingError("Transfer-Encoding must be chunked, once")

    def received(self, data: bytes) -> int:
        """Take in ``data``; return how many bytes of it belong to this request.

        A body that is too large is read to its end before it is refused: closing the connection
        on unread data resets it, and the client may lose the answer. So is that of a stranger, who
        could fill the memory, or the disk, with bodies otherwise.
        """
        had_head = self.headers_finished
        consumed: int = super().received(data)
        if isinstance(self.error, RequestHeaderFieldsTooLarge):
            self._recall_first_line(self.header_plus + data)
        elif isinstance(self.error, RequestEntityTooLarge):
            self._refuse_body()
        elif not had_head and not self.completed and self.headers_finished:
            self.is_unread = self._is_stranger(self.headers.get("AUTHORIZATION", ""))
            if self.is_unread:
                self._refuse_body()
        if self.completed:
            # Who asks for leave to send has nothing to send, or is refused. waitress would give it,
            # and take the next request for the rest of this one.
            self.expect_continue = False
        return consumed

    def _recall_first_line(self, head: bytes) -> None:
        """Take it from the ``head`` that came, as far as it did: for want of one, waitress has made one up."""
        self.command = self.path = ""
        with suppress(ParsingError, ValueError):
            self.parse_header(head.lstrip().partition(b"\r\n")[0] + b"\r\n")

    def _refuse_body(self) -> None:
        """Keep nothing of what comes of it."""
        if self.expect_continue:
            # The client waits for leave to send, and does not get it. It may send all the same (RFC 9110, 10.1.1).
            self.expect_continue = False
            self.headers["CONNECTION"] = "close"
            self.completed = True
        elif not self._body_is_over():
            self.body_rcv.buf = _Void()
            self.completed = False

    def _body_is_over(self) -> bool:
        body = self.body_rcv
        return bool(body.completed or body.error or self.body_bytes_received > _DISCARDED)


class _Void:
    """A buffer that keeps nothing."""

    def append(self, data: bytes) -> None:
        """Throw ``data`` away."""

    def getfile(self) -> io.BytesIO:
        """What was kept, to be read."""
        return io.BytesIO()

    def close(self) -> None:
        """There is nothing to close."""

    def __len__(self) -> int:
        return 0


class _Answering(AnyTask):  # type: ignore[misc]
    """What all answers have in common, those of the application and those of waitress."""

    #: The request as the application sees it; None if it never got there.
    environ: dict[str, Any] | None = None

    def __init__(self, channel: "Channel", request: Parser) -> None:
        super().__init__(channel, request)
        # If the application fails, waitress answers a request that it makes up. This is the one that was made.
        self._asked: Parser = channel.requests[0]
        headers = self._asked.headers
        # The application finds it there, too.
        headers["X_REQUEST_ID"] = self._request_id = channel.server.request_ids.choose(headers.get("X_REQUEST_ID"))

    def build_response_header(self) -> bytes:
        """The head of the answer, with what every answer carries."""
        # The client is to read from now on; it may have waited for long.
        self.channel.last_activity = None
        head: bytes = super().build_response_header()
        more = security_headers.lines(self.response_headers)
        return b"%b%bX-Request-Id: %b\r\n\r\n" % (head[:-2], more, self._request_id.encode("ascii"))

    def service(self) -> None:
        """Answer the request, and log that."""
        try:
            super().service()
        except ClientDisconnected:
            self._note(int(self.status[:3]) if self.wrote_header else request_log.CLIENT_GONE)
            raise
        except Exception:
            if self.wrote_header:  # else a ProblemTask answers in place of this
                self._note(int(self.status[:3]))
            raise
        self._note(int(self.status[:3]))

    def _note(self, status: int) -> None:
        asked = self._asked
        if request_log.is_wanted(asked.path):
            seconds = self.channel.server.clock.monotonic() - asked.begun
            key = caller_name(self.environ) if self.environ else None
            request_log.note(self._request_id, asked.command, asked.path, status=status, seconds=seconds, key=key)


class Task(_Answering, WSGITask):  # type: ignore[misc]
    """Answers one request through the application."""

    def get_environment(self) -> dict[str, Any]:
        """The request as the application sees it (PEP 3333)."""
        environ: dict[str, Any] = super().get_environment()
        environ[UNREAD] = self._asked.is_unread
        return environ

    def build_response_header(self) -> bytes:
        """The head of the answer; it ends the connection if the client is done, or the server has none to keep."""
        if self.channel.sends_no_more or not self.channel.server.keeps_connections:
            self.request.headers["CONNECTION"] = "close"
        head: bytes = super().build_response_header()
        return head

    def write(self, data: bytes) -> None:
        """Pass on a piece of the answer; one that is not the last leaves at once.

        An answer that goes on waits for a slow client. Raises ClientDisconnected if it does not read.
        """
        if self.content_length is None and data:
            self.channel.wait_until_read(_UNREAD)
        super().write(data)
        if self.content_bytes_written != self.content_length:
            self.channel.flush()

    def finish(self) -> None:
        """End the answer. One to HEAD has no body, so it has no last chunk either (RFC 9112, section 6.3)."""
        if self.request.command == "HEAD":
            self.chunked_response = False
        super().finish()


class ProblemTask(_Answering, ErrorTask):  # type: ignore[misc]
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
        self.write(b"" if self._asked.command == "HEAD" else body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = Task
    error_task_class = ProblemTask

    #: The client sends nothing more: it closed its side, or both. No one can tell before an answer is sent.
    sends_no_more = False
    #: Something was to leave at once and did not, for the socket took no more: the loop sends it.
    _is_overdue = False
    #: When our side was closed; the client is to close its own. None: not yet.
    _over_since: float | None = None
    #: Bytes that came after that.
    _discarded = 0
    #: The next request is answered once the client has read more of the answers before it. Guarded by outbuf_lock.
    _is_kept_back = False

    def parser_class(self, adjustments: Adjustments) -> Parser:
        """A parser for the request that begins now."""
        return Parser(adjustments, self.server.clock.monotonic(), self.server.is_stranger)

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
        if self._over_since is not None:
            self._discard(data)
        elif data:
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

    def _discard(self, data: bytes) -> None:
        """Throw away what comes after the last answer, until the client closes its side, or has sent too much."""
        self._discarded += len(data)
        if not data or self._discarded > _DISCARDED:
            self.handle_close()

    def readable(self) -> bool:
        """Whether the loop is to read when there is something."""
        return self._over_since is not None or (not self.sends_no_more and bool(super().readable()))

    def check_client_disconnected(self) -> bool:
        """What a request asks that waits: whether it waits for nobody, most likely."""
        return self.sends_no_more or not self.connected or self._is_stalled() or self._has_hung_up()

    def _has_hung_up(self) -> bool:
        """Whether the client closed its side. The loop does not look while enough requests are in line."""
        poll = select.poll()
        try:
            poll.register(self.socket, select.POLLRDHUP)
        except (ValueError, TypeError):  # the loop has closed the socket meanwhile, or even let go of it
            return True
        return bool(poll.poll(0))

    def _is_stalled(self) -> bool:
        """Whether the client reads nothing of what waits for it. While something does, only sending is activity."""
        return bool(self.total_outbufs_len) and self.server.clock.monotonic() - self.last_activity > _STALL

    def wait_until_read(self, limit: int) -> None:
        """Wait until at most ``limit`` bytes wait for the client. Raises ClientDisconnected if it does not read."""
        with self.outbuf_lock:
            while self._has_unread(limit) and not self._is_stalled() and not self.server.stopping:
                self.outbuf_lock.wait(_STALL_CHECK)
            is_hopeless = self._has_unread(limit)
        if is_hopeless:
            self.hang_up()
            raise ClientDisconnected

    def _has_unread(self, limit: int) -> bool:
        return bool(self.connected) and self.total_outbufs_len > limit

    def hang_up(self) -> None:
        """Have the loop close the connection, whatever is still to be sent."""
        self.will_close = True
        # waitress waits with that until the socket takes more bytes, which may be never.
        with suppress(OSError, AttributeError):  # the loop has closed it meanwhile, or even let go of it
            self.socket.shutdown(socket.SHUT_RDWR)
        self.server.pull_trigger()

    def writable(self) -> bool:
        """Whether the loop has something to do when the socket takes more bytes.

        Not while an answer is still being put together: the loop would spin until that is done,
        and take the interpreter from the thread that does it.
        """
        if self._over_since is not None:
            return bool(self.will_close)
        if self.requests and self.total_outbufs_len < self.adj.send_bytes and not self._is_overdue:
            # A thread may have sent all that a next request was kept back for.
            return bool(self._is_kept_back or self.will_close or self.close_when_flushed)
        return bool(super().writable())

    def handle_write(self) -> None:
        """Send what the socket takes now; go on to the next request, or close the connection, if it is time for that.

        waitress leaves little of an unfinished answer for later, and closes on what the client still sends.
        """
        if self.socket is None:
            return  # closed for what was read a moment ago
        if not self.requests:
            self._flush_exception(self._flush_some)
        elif self._is_overdue or self.total_outbufs_len >= self.adj.send_bytes:
            self._flush_exception(self._flush_some_if_lockable)
        if self.will_close:
            self.handle_close()
        elif self.close_when_flushed and not self.total_outbufs_len:
            self._end()
        if self._is_kept_back and not self._keep_back():
            self.server.add_task(self)

    def _end(self) -> None:
        """Close our side, now that all is sent, and let the client close its own.

        Closing on what it sends would reset the connection, and it may lose the answer (RFC 9112, section 9.6).
        """
        if self.sends_no_more or self._over_since is not None:
            self.handle_close()
            return
        self._over_since = self.server.clock.monotonic()
        with suppress(OSError):  # it is gone, which the loop is told next
            self.socket.shutdown(socket.SHUT_WR)

    def handle_expt(self) -> None:
        """Hang up on a client that sent urgent data: HTTP has none, and unread it would wake the loop for ever."""
        self.handle_close()

    def _keep_back(self) -> bool:
        """Whether too much of the answers is unread for a further one to be made."""
        with self.outbuf_lock:
            self._is_kept_back = self._has_unread(self.adj.outbuf_high_watermark)
            return self._is_kept_back

    def service(self) -> None:
        """Answer one request, unless too much of the answers before it stays unread: then the loop has it answered.

        No thread waits for that: a few clients that pipeline and do not read would hold all of them.
        """
        if self._keep_back():
            return
        super().service()
        # Before the look at what is in line: a last request may come in between.
        is_last = self.sends_no_more
        # The loop sends what is left, but not while a next request is being answered: a pipelined
        # one that waits for its job must not hold back the answer before it.
        if self.requests:
            self.flush()
        elif is_last:
            self.close_when_flushed = True
            self.server.pull_trigger()

    def _flush_outbufs_below_high_watermark(self) -> None:
        """Nothing: waitress would wait for ever. ``service`` keeps answers back, ``Task.write`` their pieces."""

    def _flush_some(self, do_close: bool = True) -> bool:  # noqa: ARG002
        """Send what the socket takes, one thread at a time.

        The loop comes without the lock while no request is in line, but the thread that has answered
        one may be sending, too: the next one came, and was answered by another thread, meanwhile. Both
        would send the same bytes, and the client would take a repeated answer for that to its next request.

        If the client is gone, nothing is closed: only the loop may do that, which is told of it.
        """
        with self.outbuf_lock:
            is_sent = bool(super()._flush_some(do_close=False))
            self._is_overdue = self._is_overdue and self.total_outbufs_len > 0
            if is_sent and not self.total_outbufs_len:
                # waitress would keep what was sent until the next answer is, which may be never.
                self.outbufs[-1].prune()
            return is_sent

    def _flush_some_if_lockable(self, do_close: bool = True) -> None:
        """Send what the socket takes, unless a thread is adding to it; then it sends."""
        if self.outbuf_lock.acquire(blocking=False):
            try:
                self._flush_some(do_close)
                self.outbuf_lock.notify()  # whoever waits until it is read
            finally:
                self.outbuf_lock.release()

    def send_continue(self) -> None:
        """Tell the client to send the body. A thread may do that, too, while the loop closes the connection."""
        with self.outbuf_lock:
            if self.connected:
                super().send_continue()

    def flush(self) -> None:
        """Send as much of the answer as the socket takes, in this thread; the loop sends the rest."""
        with self.outbuf_lock:
            if self.total_outbufs_len:
                self._flush_exception(self._flush_some, do_close=False)
            self._is_overdue = self.total_outbufs_len > 0
        # It has to send the rest. And if it looked a moment ago, there was something to send, so
        # that it does not read now, and would not notice that the client hangs up.
        self.server.pull_trigger()

    def is_busy(self) -> bool:
        """Whether a request is being answered, or an answer being sent."""
        return bool(self.requests or self.total_outbufs_len)

    def is_stale(self, idle_since: float, begun_before: float) -> bool:
        """Whether nothing happened since ``idle_since``, or a request that began too early still dribbles in.

        Or whether the client lets a connection that is over stay open for too long.
        """
        if self._over_since is not None:
            return bool(self.server.clock.monotonic() - self._over_since > _LINGER)
        if self.requests:
            return self._is_kept_back and self._is_stalled()
        return self.last_activity < idle_since or (self.request is not None and self.request.begun < begun_before)

    def owes_since(self) -> float | None:
        """Since when the client is to send a request, or its rest, or to read; None: it waits for us.

        A client that is to close the connection has been for long enough: it has its answer.
        """
        if self._over_since is not None:
            return -math.inf
        if self.requests and not self._is_kept_back:
            return None
        return self.last_activity if self.request is None else self.request.begun
